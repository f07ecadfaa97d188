"""Small acts at the target by SFTP, over the owned ssh connection.

Used where the name of a delivered file must be given to the target: no shell sees
it.  The protocol is paramiko's, the connection OpenSSH's.  One channel, one user at
a time: paramiko's client hangs when two threads share it.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mistamover.errors import LinkError, TargetError
from mistamover.files.names import display
from mistamover.links.mux import Session
from mistamover.transport.ssh import SshConnection

if TYPE_CHECKING:
    import paramiko

#: Seconds for one answer of the server.
_ANSWER = 60.0


class There(NamedTuple):
    """What a name at the target belongs to."""

    regular: bool
    size: int
    mtime: int


class Sftp:
    """An SFTP channel that is opened when it is first needed; paths are relative to the target directory."""

    def __init__(self, ssh: SshConnection) -> None:
        """Given the connection, do nothing yet."""
        self._ssh = ssh
        self._lock = threading.Lock()
        self._channel: Session | None = None
        self._client: paramiko.SFTPClient | None = None
        self._generation = 0

    def exists(self, path: bytes | str) -> bool:
        """Given a path, tell whether anything is there, a link to nothing included."""
        with self._session() as client:
            return self._lstat(client, path) is not None

    def look(self, path: bytes) -> There | None:
        """Given a path, return what is there, a link to nothing included; None if nothing is."""
        with self._session() as client:
            status = self._lstat(client, path)
        if status is None:
            return None
        regular = stat.S_ISREG(status.st_mode or 0)
        return There(regular=regular, size=status.st_size or 0, mtime=int(status.st_mtime or 0))

    def make_directory(self, path: str) -> None:
        """Given a path, make sure that it is a directory."""
        with self._session() as client:
            if self._lstat(client, path) is None:
                client.mkdir(self._path(path), 0o700)

    def replace(self, staged: bytes, final: bytes, session: str, staging: str) -> None:
        """Given a finished directory and its final name, rename it there; what had the name before goes away.

        `session` is where things are put aside, `staging` the directory around the finished one, which goes as well.
        """
        with self._session() as client:
            if self._lstat(client, final) is not None:
                client.posix_rename(self._path(final), self._path(_aside(session)))
            client.posix_rename(self._path(staged), self._path(final))
            client.posix_rename(self._path(staging), self._path(_aside(session)))
        self._ssh.sweep()

    def rename(self, old: bytes, new: bytes) -> None:
        """Given two paths, rename the first to the second."""
        with self._session() as client:
            client.posix_rename(self._path(old), self._path(new))

    def appear(self, staged: bytes, final: bytes) -> bool:
        """Given a finished file and its final name, rename it there unless the name is taken; return whether it was
        renamed.

        This is SFTP's own rename, which refuses to replace anything (OpenSSH links and unlinks).
        """
        with self._session() as client:
            try:
                client.rename(self._path(staged), self._path(final))
            except OSError:
                # The protocol has no word for the reason.
                if self._lstat(client, final) is None:
                    raise
                return False
        return True

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        """Given names, content before its directory, remove what can be removed; return those that are gone now."""
        gone = []
        with self._session() as client:
            for name in names:
                status = self._lstat(client, name)
                try:
                    if status is not None and stat.S_ISDIR(status.st_mode or 0):
                        client.rmdir(self._path(name))
                    elif status is not None:
                        client.remove(self._path(name))
                except OSError:
                    # A directory that others still use, or a name that may not be removed: it stays, and the
                    # caller sees that it is not among those that are gone.
                    continue
                gone.append(name)
        return gone

    def probe(self, first: str, second: str) -> None:
        """Given two unused paths, write a small file at the first, rename it to the second, and remove it."""
        with self._session() as client:
            with client.open(cast(str, self._path(first)), "wb") as file:
                file.write(b"mistamover" * 400)
            client.posix_rename(self._path(first), self._path(second))
            client.remove(self._path(second))

    def close(self) -> None:
        """End the channel."""
        with self._lock:
            self._end()

    def _path(self, path: bytes | str) -> Any:
        return os.fsencode(self._ssh.directory) + b"/" + os.fsencode(path)

    def _lstat(self, client: paramiko.SFTPClient, path: bytes | str) -> paramiko.SFTPAttributes | None:
        try:
            return client.lstat(self._path(path))
        except FileNotFoundError:
            return None

    @contextmanager
    def _session(self) -> Iterator[paramiko.SFTPClient]:
        import paramiko  # a quarter of a second, and most streams never need it

        with self._lock:
            try:
                yield self._open()
            except (EOFError, paramiko.SSHException, TimeoutError) as error:
                self._end()
                raise LinkError(f"the SFTP channel broke: {str(error) or 'end of file'}") from error
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EBADF):
                    self._end()
                    raise LinkError(f"the SFTP channel broke: {error}") from error
                name = f" {display(os.fsencode(error.filename))}" if error.filename else ""
                raise TargetError(f"the target refuses{name}: {error.strerror or error}") from error

    def _open(self) -> paramiko.SFTPClient:
        import paramiko

        stale = self._generation != self._ssh.generation or self._channel is None or self._channel.poll() is not None
        if self._client is None or stale:
            self._end()
            self._channel = self._ssh.open_session("sftp", subsystem=True)
            self._client = paramiko.SFTPClient(cast(Any, _Pipe(self._channel)))
            self._generation = self._ssh.generation
        return self._client

    def _end(self) -> None:
        channel, self._channel, self._client = self._channel, None, None
        if channel is not None:
            channel.close()


def _aside(session: str) -> str:
    return f"{session}/old-{os.urandom(6).hex()}"


class _Pipe:
    """The pipes of a session in the shape of the channel that paramiko expects."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def send(self, data: bytes) -> int:
        self._session.write(data, _ANSWER)
        return len(data)

    def recv(self, size: int) -> bytes:
        poll = select.poll()
        poll.register(self._session.stdout, select.POLLIN)
        if not poll.poll(_ANSWER * 1000):
            raise TimeoutError(f"no answer in {_ANSWER:g} s")
        return os.read(self._session.stdout, size)

    def get_name(self) -> str:
        return "mistamover"

    def close(self) -> None:
        self._session.close()

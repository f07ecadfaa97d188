"""The shell at the other end of an ssh endpoint, where there is one: hashes that are computed there.

Names of files never stand on a command line there: they are written to the input of a fixed program.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import threading
import time
from collections.abc import Callable, Iterator

from mistamover.errors import LinkError, TransportError
from mistamover.links.mux import Session
from mistamover.transport.far import FarRefusal
from mistamover.transport.sftp_link import SftpLink

#: Seconds for the shell to say what there is.
_PROBE_SECONDS = 20.0

#: Seconds without any sign of life from a program that hashes: a disk may be slow, and it says something each second.
_SILENCE = 120.0

#: Hashes that are computed there, if Python is; in order.
HASHES = ("sha256", "md5", "sha1", "sha512", "sha384", "sha224", "blake2b", "blake2s", "sha3_256", "sha3_512")

_PROBE = 'for name in python3 rsync; do command -v "$name" >/dev/null 2>&1 && echo "mistamover has $name"; done'

#: Reads a name and a hash's; then reads the file as it grows, until it is told how long it gets, and has as much.  It
#: says what it has; meanwhile a dot each second.  What has been read is sent to the disk, so that little is left for
#: the end.  It ends with its input, so never after us.
_FOLLOW = """
import hashlib, os, select, sys
said = open(0, "rb", buffering=0)
path, kind = bytes.fromhex(said.readline().decode().strip()), said.readline().decode().strip()
value, done, size, handle = hashlib.new(kind), 0, None, None
out = sys.stdout
while size is None or done < size:
    if handle is None:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            if size is not None:
                break
    data = os.read(handle, 1 << 20) if handle is not None else b""
    if data:
        value.update(data)
        done += len(data)
        if done % (64 << 20) < len(data):
            out.write(".\\n"); out.flush()
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(handle, 0, done, os.POSIX_FADV_DONTNEED)
        continue
    if size is not None:
        break
    if select.select([0], [], [], 0.02)[0]:
        line = said.readline()
        if not line:
            sys.exit(1)
        if line.strip().isdigit():
            size = int(line)
print(done, value.hexdigest())
"""


class FarShell:
    """What can be had from the shell of one endpoint; used by several threads."""

    def __init__(self, link: SftpLink, host: str) -> None:
        """Given the way there and the host's name, ask nothing yet."""
        self._link = link
        self._host = host
        self._lock = threading.Lock()
        self._programs: frozenset[str] | None = None

    def has(self, program: str) -> bool:
        """Given `python3` or `rsync`, tell whether it can be run there. Raise LinkError."""
        with self._lock:
            if self._programs is None:
                self._programs = self._probe()
            return program in self._programs

    @contextlib.contextmanager
    def following(self, path: bytes, algorithm: str) -> Iterator[Follower]:
        """Given the absolute path of a file that is being written, or is there, and one of HASHES, have it hashed
        there. Raise LinkError.
        """
        session = self._link.command(f"exec python3 -I -S -c {shlex.quote(_FOLLOW)}")
        try:
            yield Follower(session, path, algorithm)
        finally:
            session.close()

    def _probe(self) -> frozenset[str]:
        """Ask which programs there are; none where the login runs no command of ours."""
        try:
            session = self._link.command(f"exec sh -c {shlex.quote(_PROBE)}")
        except LinkError:
            raise
        except TransportError:
            return frozenset()
        found = set()
        try:
            deadline = time.monotonic() + _PROBE_SECONDS
            while (line := session.read_line(max(0.0, deadline - time.monotonic()))) is not None:
                if line.startswith(b"mistamover has "):
                    found.add(line.rpartition(b" ")[2].decode("ascii", "replace"))
        finally:
            session.close()
        return frozenset(found)


class Follower:
    """A file that is hashed at the far end while it is written there."""

    def __init__(self, session: Session, path: bytes, algorithm: str) -> None:
        self._session = session
        self._said = b""
        self._say(path.hex().encode() + b"\n" + algorithm.encode() + b"\n")

    def digest(self, size: int, tick: Callable[[], None]) -> str:
        """Given how long the file is now that all was written, return its hash. Raise LinkError, FarRefusal.

        `tick` is called about once a second; what it raises comes out.
        """
        self._say(b"%d\n" % size)
        deadline = time.monotonic() + _SILENCE
        while b" " not in self._said or not self._said.endswith(b"\n"):
            tick()
            if not select.select([self._session.stdout], [], [], 1.0)[0]:
                if time.monotonic() >= deadline:
                    raise LinkError(f"no answer from the program that hashes within {_SILENCE:.0f} s")
                continue
            chunk = os.read(self._session.stdout, 4096)
            if not chunk:
                words = self._session.last_words() or "nothing said why"
                raise FarRefusal(f"it could not be hashed at the far end: {words}")
            self._said = (self._said + chunk).lstrip(b".\n")
            deadline = time.monotonic() + _SILENCE
        done, _, digest = self._said.decode("ascii", "replace").strip().partition(" ")
        if done != str(size):
            raise FarRefusal(f"there are {done} bytes at the far end, and {size} were sent")
        return digest

    def _say(self, words: bytes) -> None:
        try:
            self._session.write(words)
        except OSError as error:
            raise LinkError(f"the program that hashes has ended: {error.strerror or error}") from None

"""A target that is an FTP server, in the clear or by TLS; see `far.FarFiles`.

Beyond the oldest commands everything is used only where the server offers it.  That it says "done" proves nothing: what
was written is read back, or hashed by the server.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from mistamover.config.access import FtpAccess
from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.files.names import display
from mistamover.model import Kind
from mistamover.transport import by_file, ftp_features
from mistamover.transport.by_file import ByFile
from mistamover.transport.far import FarRefusal, Means, Pieces, There
from mistamover.transport.ftp_features import Features
from mistamover.transport.ftp_session import UNKNOWN, Data, FtpSession, Refused

logger = logging.getLogger(__name__)

#: Bytes that are written at a time.
_PIECE = 256 * 1024

#: There is nothing of this name, or it cannot be reached: the protocol has one number for both.
_NOTHING = (450, 550, 553)


class FtpFiles:
    """One session at an FTP server."""

    def __init__(self, target: TargetSettings, access: FtpAccess) -> None:
        """Given the target and how to get in, do nothing yet."""
        self._target = target
        self._session = FtpSession(target.host, access)
        self._features = Features.of("")
        self._top = b""
        self._modes = True
        """The server sets modes, as far as is known."""
        self._replaces = True
        """The server renames over existing files, as far as is known."""

    def connect(self) -> Means:
        """See `FarFiles.connect`."""
        self._session.connect()
        self._features = features = Features.of(self._perhaps("FEAT"))
        if features.utf8:
            self._perhaps("OPTS UTF8 ON")
        try:
            self._enter(os.fsencode(self._target.directory))
        except Refused as error:
            raise TargetError(f"{self._target.host}: cannot prepare {self._target.directory}: {error}") from None
        self._top = _quoted(self._session.ask("PWD")).rstrip(b"/")
        encryption = self._session.encryption
        how = f"encrypted by {encryption}" if encryption else "in the clear"
        return Means(
            description=f"FTP to {self._target.host}, {how}",
            rename=True,
            whole=False,
            directories=True,
            links=False,
            attributes=features.times,
            flush=False,
            hashes=tuple(features.hashes),
            resume=features.resume,
            pieces=True,
        )

    def look(self, path: bytes) -> There | None:
        """See `FarFiles.look`."""
        if not self._features.listings:
            return self._look_piecemeal(path)
        try:
            answer = self._session.ask("MLST", self._path(path))
        except Refused as error:
            if error.code in _NOTHING:
                return None
            raise _named(path, error) from None
        for line in answer.split("\n")[1:-1]:
            found = ftp_features.entry(line.encode("latin-1"))
            if found is not None:
                return found[0]
        raise TargetError(f"{self._target.host}: MLST gives no answer of use: {answer[:200]!r}")

    def names(self, path: bytes) -> list[bytes]:
        """See `FarFiles.names`."""
        if not self._features.listings:
            return self._names_only(path)
        found = []
        for line in self._listing("MLSD", path, self._path(path)):
            entry = ftp_features.entry(line)
            if entry is not None and entry[2] not in ("cdir", "pdir"):
                found.append(entry[1])
        return found

    def make_directory(self, path: bytes) -> None:
        """See `FarFiles.make_directory`."""
        try:
            self._session.ask("MKD", self._path(path))
        except Refused as error:
            there = self.look(path)
            if there is None or there.kind is not Kind.DIRECTORY:
                raise self._why(path, error) from None

    def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
        """See `FarFiles.write`."""
        self._write(path, lambda length, position: os.pread(source, length, position), size, offset, told)

    def write_from(self, path: bytes, pieces: Pieces, size: int, told: Callable[[int], None]) -> None:
        """See `StreamingFiles.write_from`."""
        self._write(path, pieces.piece, size, 0, told)

    def _write(
        self, path: bytes, read: Callable[[int, int], bytes], size: int, offset: int, told: Callable[[int], None]
    ) -> None:
        with self._about(path):
            data = self._session.begin("STOR", self._path(path), offset)
            try:
                self._send(data, read, size, offset, told)
            except BaseException:
                data.abandon()
                raise

    def read(self, path: bytes) -> Iterator[bytes]:
        """See `FarFiles.read`."""
        return self.read_from(path, 0)

    def read_from(self, path: bytes, offset: int) -> Iterator[bytes]:
        """See `StreamingFiles.read_from`."""
        with self._about(path):
            data = self._session.begin("RETR", self._path(path), offset)
        whole = False
        try:
            while piece := data.receive():
                yield piece
            whole = True
        finally:
            if not whole:
                data.abandon()
        with self._about(path):
            data.finish()

    def digest(self, path: bytes, algorithm: str) -> str:
        """See `FarFiles.digest`; a server that does not do what it offered is asked for the content instead."""
        command = self._features.hashes[algorithm]
        try:
            if command.startswith(" "):
                self._session.ask(f"OPTS HASH{command}")
                command = "HASH"
            found = ftp_features.find_hash(self._session.ask(command, self._path(path)), algorithm)
        except Refused:
            found = None
        if found is None:
            own = hashlib.new(algorithm, usedforsecurity=False)
            for piece in self.read(path):
                own.update(piece)
            found = own.hexdigest()
        return found

    def set_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """See `FarFiles.set_attributes`.  Modes are nothing that FTP promises, and times of directories neither."""
        if self._modes:
            try:
                self._session.ask(f"SITE CHMOD {mode & 0o7777:03o}", self._path(path))
            except Refused as error:
                self._modes = error.code not in UNKNOWN
        try:
            self._session.ask(f"MFMT {ftp_features.stamp(mtime_ns)}", self._path(path))
        except Refused as error:
            there = self.look(path)
            if there is None or there.kind is not Kind.DIRECTORY:
                raise self._why(path, error) from None

    def flush(self, paths: Sequence[bytes]) -> None:
        """See `FarFiles.flush`."""
        raise TargetError(f"{self._target.host}: FTP has no word for flushing")

    def rename(self, old: bytes, new: bytes) -> None:
        """See `FarFiles.rename`."""
        self._check_spelling(new)
        try:
            self._rename(old, new)
        except Refused as error:
            there = self.look(new)
            if there is None or there.kind is Kind.DIRECTORY or self.look(old) is None:
                raise self._why(new, error) from None
            if self._replaces:
                self._replaces = False
                logger.warning(
                    "%s does not rename over existing files: what is replaced is removed a moment before",
                    self._target.host,
                )
            with self._about(new):
                self._session.ask("DELE", self._path(new))
                self._rename(old, new)
        if _is_odd(new) and os.path.basename(new) not in self.names(os.path.dirname(new)):
            raise FarRefusal(f"the server has given {display(new)} another name")

    def symlink(self, text: bytes, path: bytes) -> None:
        """See `FarFiles.symlink`."""
        raise FarRefusal(f"{display(path)}: FTP knows no links")

    def remove(self, path: bytes) -> None:
        """See `FarFiles.remove`."""
        self._remove("DELE", path)

    def remove_directory(self, path: bytes) -> None:
        """See `FarFiles.remove_directory`."""
        self._remove("RMD", path)

    def free(self) -> int | None:
        """See `FarFiles.free`."""
        if not self._features.free:
            return None
        words = self._perhaps(f"AVBL {self._top.decode('latin-1')}").split()
        return int(words[1]) if len(words) > 1 and words[1].isdigit() else None

    def abort(self) -> None:
        """See `FarFiles.abort`."""
        self._session.abort()

    def close(self) -> None:
        """See `FarFiles.close`."""
        self._session.close()

    # -- inside -------------------------------------------------------------------------------

    def _path(self, path: bytes) -> bytes:
        self._check_spelling(path)
        return self._top + b"/" + path if path else self._top or b"/"

    def _check_spelling(self, path: bytes) -> None:
        if self._features.utf8 and not _is_utf8(path):
            raise FarRefusal(f"{display(path)}: the server takes names in UTF-8 only")

    def _perhaps(self, command: str) -> str:
        """Given a command that not every server has, return its answer; "" if it has none."""
        try:
            return self._session.ask(command)
        except Refused:
            return ""

    def _enter(self, directory: bytes) -> None:
        """Make the directory the current one, and make what is missing of it."""
        try:
            self._session.ask("CWD", directory)
        except Refused:
            way = b"/" if directory.startswith(b"/") else b""
            for part in filter(None, directory.split(b"/")):
                way = os.path.join(way, part)
                self._make_part(way)
            self._session.ask("CWD", directory)

    def _make_part(self, way: bytes) -> None:
        try:
            self._session.ask("MKD", way)
        except Refused:
            # It is there, or what comes next tells.
            return

    def _send(
        self,
        data: Data,
        read: Callable[[int, int], bytes],
        size: int,
        offset: int,
        told: Callable[[int], None],
    ) -> None:
        position = offset
        while position < size:
            piece = read(min(_PIECE, size - position), position)
            if not piece:
                # It has become shorter: whoever compares will see.
                break
            data.send(piece, partial(told, position))
            position += len(piece)
            told(position)
        data.finish(partial(told, position))
        told(position)

    def _look_piecemeal(self, path: bytes) -> There | None:
        """Find out by the commands of old servers: only a file has a size."""
        whole = self._path(path)
        try:
            size = self._session.ask("SIZE", whole).split()[-1]
        except Refused as error:
            if error.code in (500, 502):
                raise TargetError(f"{self._target.host}: the server cannot tell sizes: {error}") from None
            return There(kind=Kind.DIRECTORY, size=0, mtime=0.0) if self._is_directory(whole) else None
        time = self._perhaps(f"MDTM {whole.decode('latin-1')}")
        return There(
            kind=Kind.FILE,
            size=int(size) if size.isdigit() else 0,
            mtime=ftp_features.moment(time.partition(" ")[2].encode("latin-1")),
        )

    def _is_directory(self, whole: bytes) -> bool:
        try:
            self._session.ask("CWD", whole)
        except Refused:
            return False
        self._session.ask("CWD", self._top or b"/")
        return True

    def _names_only(self, path: bytes) -> list[bytes]:
        with self._about(path):
            # Not by its name: servers look for patterns and options in what follows NLST.
            self._session.ask("CWD", self._path(path))
        try:
            names = {os.path.basename(line) for line in self._listing("NLST", path)}
        except FarRefusal:
            # Some servers call it an error that there is nothing.
            names = set()
        self._session.ask("CWD", self._top or b"/")
        return [name for name in names if name not in (b"", b".", b"..")]

    def _listing(self, verb: str, path: bytes, argument: bytes | None = None) -> list[bytes]:
        with self._about(path):
            data = self._session.begin(verb, argument)
            received = bytearray()
            try:
                while piece := data.receive():
                    received += piece
            except BaseException:
                data.abandon()
                raise
            data.finish()
        return [line.removesuffix(b"\r") for line in bytes(received).split(b"\n") if line]

    def _rename(self, old: bytes, new: bytes) -> None:
        self._session.ask("RNFR", self._path(old))
        self._session.ask("RNTO", self._path(new))

    def _remove(self, verb: str, path: bytes) -> None:
        try:
            self._session.ask(verb, self._path(path))
        except Refused as error:
            if self.look(path) is not None:
                raise self._why(path, error) from None

    @contextmanager
    def _about(self, path: bytes) -> Iterator[None]:
        """Say which name was refused; where the whole directory has gone, that is what is wrong."""
        try:
            yield
        except Refused as error:
            raise self._why(path, error) from None

    def _why(self, path: bytes, error: Refused) -> TargetError:
        if path and error.code in _NOTHING and self.look(b"") is None:
            return TargetError(f"{self._target.host}: {self._target.directory} is not there any more ({error})")
        return _named(path, error)


def _named(path: bytes, error: Refused) -> FarRefusal:
    return FarRefusal(f"the target refuses {display(path)}: {error}")


def _quoted(answer: str) -> bytes:
    """Given the answer to PWD, return the path in it. Raise LinkError if there is none."""
    begin, end = answer.find('"'), answer.rfind('"')
    if begin < 0 or end <= begin:
        raise LinkError(f"the server does not say where it is: {answer[:200]!r}")
    return answer[begin + 1 : end].replace('""', '"').encode("latin-1")


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_odd(path: bytes) -> bool:
    """Whether a server may be tempted to give a name another spelling."""
    name = os.path.basename(path)
    return name != name.strip() or not _is_utf8(name)


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> ByFile:
    """See `registry.Maker`."""
    access = target.access
    assert isinstance(access, FtpAccess)
    return by_file.make(lambda: FtpFiles(target, access), stream, target, owner)

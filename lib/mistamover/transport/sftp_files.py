"""A target that gives SFTP and nothing else: files over OpenSSH's connection, no command at the other end.

What goes beyond the protocol's third version is used where the server offers it: renaming over what is there, flushing,
what is free, and longer messages, all of them OpenSSH's own.
"""

from __future__ import annotations

import collections
import contextlib
import os
import stat
import struct
from collections.abc import Callable, Iterator, Sequence

from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.files.names import display
from mistamover.model import Kind
from mistamover.transport import by_file
from mistamover.transport import sftp_answers as answers
from mistamover.transport import sftp_wire as sftp
from mistamover.transport.by_file import ByFile
from mistamover.transport.far import FarRefusal, Means, There
from mistamover.transport.sftp_answers import Attributes
from mistamover.transport.sftp_link import SftpLink
from mistamover.transport.sftp_wire import SftpRefusal, Wire, take_text, text

_POSIX_RENAME, _FSYNC, _STATVFS = b"posix-rename@openssh.com", b"fsync@openssh.com", b"statvfs@openssh.com"
_LIMITS = b"limits@openssh.com"

#: Bytes of one read or write that every server takes, and the most that are asked for.
_PIECE, _LONGEST_PIECE = 32 * 1024, 256 * 1024

#: Bytes that may be under way.
_UNDER_WAY = 4 * 1024 * 1024

#: Handles that are open at a time.
_HANDLES = 32

#: Gives so many bytes from a position on.
Read = Callable[[int, int], bytes]

_READING, _WRITING, _CREATE, _TRUNCATE = 0x01, 0x02, 0x08, 0x10


class SftpFiles:
    """One session at the target; see `far.FarFiles`."""

    def __init__(self, link: SftpLink, target: TargetSettings, because: str = "") -> None:
        """Given the way there, which others use as well, the target, and why it is not reached in another way (words
        that stand in front of the description), do nothing yet.
        """
        self._because = because
        self._link = link
        self._target = target
        self._top = b""
        self._piece = _PIECE
        self._session: Wire | None = None

    def connect(self) -> Means:
        """See `FarFiles.connect`."""
        self._session = wire = self._link.wire()
        self._top = os.fsencode(self._target.directory)
        if not self._top.startswith(b"/"):
            self._top = os.path.join(self._home(), self._top)
        try:
            self._make_way(self._top)
        except SftpRefusal as error:
            raise TargetError(f"{self._target.host}: cannot prepare {self._target.directory}: {error}") from None
        if _LIMITS in wire.extensions:
            self._piece = self._longest_piece()
        flushes, renames = _FSYNC in wire.extensions, _POSIX_RENAME in wire.extensions
        ways = "flushed by fsync" if flushes else "by the oldest of its commands"
        if not renames:
            ways += ", a file that is replaced is removed a moment before"
        return Means(
            description=f"{self._because}SFTP to {self._target.host}, {ways}",
            rename=True,
            whole=False,
            directories=True,
            # Which of its words is the link's own, the server does not tell; OpenSSH's way is known.
            links=renames,
            attributes=True,
            flush=flushes,
            hashes=(),
            resume=True,
        )

    def look(self, path: bytes) -> There | None:
        """See `FarFiles.look`."""
        found = self._attributes(sftp.LSTAT, self._path(path))
        if found is None:
            return None
        kinds = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.LINK}
        kind = kinds.get(found.kind, Kind.SPECIAL)
        return There(kind=kind, size=found.size, mtime=float(found.mtime), mode=stat.S_IMODE(found.mode) or None)

    def names(self, path: bytes) -> list[bytes]:
        """See `FarFiles.names`."""
        with self._named(path):
            handle = self._wire.handle(self._wire.send(sftp.OPENDIR, text(self._path(path))))
        found: list[bytes] = []
        try:
            while True:
                found += answers.names(self._wire.ask(sftp.READDIR, handle).body)
        except SftpRefusal as error:
            if error.code != sftp.END:
                raise
        self._wire.release(handle)
        return [name for name in found if name not in (b".", b"..")]

    def make_directory(self, path: bytes) -> None:
        """See `FarFiles.make_directory`."""
        with self._named(path):
            self._make_directory(self._path(path))

    def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
        """See `FarFiles.write`."""
        self._write(path, lambda length, position: os.pread(source, length, position), size, offset, told)

    def _write(self, path: bytes, read: Read, size: int, offset: int, told: Callable[[int], None]) -> None:
        flags = _WRITING | _CREATE | (0 if offset else _TRUNCATE)
        with self._named(path):
            handle = self._open(path, flags)
            try:
                self._write_all(handle, read, size, offset, told)
                # What the disk has no room for may be found out only now.
                self._wire.ask(sftp.CLOSE, handle)
            except SftpRefusal as error:
                self._wire.release(handle)
                self._blame(error, size - offset)
                raise
            except BaseException:
                # Who ends the writing wants to have the rest of the session.
                with contextlib.suppress(LinkError):
                    self._wire.release(handle)
                raise

    def read(self, path: bytes) -> Iterator[bytes]:
        """See `FarFiles.read`."""
        return self._read(path, 0)

    def _read(self, path: bytes, offset: int) -> Iterator[bytes]:
        wire = self._wire
        with self._named(path):
            handle = self._open(path, _READING)
        asked: collections.deque[tuple[int, int]] = collections.deque()
        position, window = offset, 2
        try:
            while True:
                while len(asked) < window:
                    asked.append((self._ask_piece(handle, position, self._piece), position))
                    position += self._piece
                number, begin = asked.popleft()
                piece = self._piece_of(handle, number, begin)
                if not piece:
                    return
                yield piece
                window = min(2 * window, max(2, _UNDER_WAY // self._piece))
        finally:
            with contextlib.suppress(LinkError):
                for number, _ in asked:
                    wire.ignore(number)
                wire.release(handle)

    def digest(self, path: bytes, algorithm: str) -> str:
        """See `FarFiles.digest`."""
        raise FarRefusal(f"the server cannot hash {display(path)} by {algorithm}")

    def set_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """See `FarFiles.set_attributes`."""
        with self._named(path):
            self._wire.ask(sftp.SETSTAT, text(self._path(path)), answers.mode_and_time(mode, mtime_ns))

    def flush(self, paths: Sequence[bytes]) -> None:
        """See `FarFiles.flush`."""
        for begin in range(0, len(paths), _HANDLES):
            self._flush_some(paths[begin : begin + _HANDLES])

    def rename(self, old: bytes, new: bytes) -> None:
        """See `FarFiles.rename`."""
        wire, words = self._wire, (text(self._path(old)), text(self._path(new)))
        with self._named(new):
            if _POSIX_RENAME in wire.extensions:
                wire.ask(sftp.EXTENDED, text(_POSIX_RENAME), *words)
                return
            try:
                wire.ask(sftp.RENAME, *words)
            except SftpRefusal:
                found = self._attributes(sftp.LSTAT, self._path(new))
                if found is None or found.kind == stat.S_IFDIR:
                    raise
                # Plain SFTP replaces nothing.  The name is away for a moment; a part is never seen under it.
                wire.ask(sftp.REMOVE, words[1])
                wire.ask(sftp.RENAME, *words)

    def symlink(self, text_: bytes, path: bytes) -> None:
        """See `FarFiles.symlink`."""
        with self._named(path):
            self._wire.ask(sftp.SYMLINK, text(text_), text(self._path(path)))

    def remove(self, path: bytes) -> None:
        """See `FarFiles.remove`."""
        self._remove(sftp.REMOVE, path)

    def remove_directory(self, path: bytes) -> None:
        """See `FarFiles.remove_directory`."""
        self._remove(sftp.RMDIR, path)

    def free(self) -> int | None:
        """See `FarFiles.free`."""
        if _STATVFS not in self._wire.extensions:
            return None
        try:
            answer = self._wire.ask(sftp.EXTENDED, text(_STATVFS), text(self._top))
        except SftpRefusal:
            return None
        # Block size, fragment size, blocks, free, available.
        values = answers.unpacked("!5Q", answer.body)
        return values[1] * values[4]

    def abort(self) -> None:
        """See `FarFiles.abort`."""
        session = self._session
        if session is not None:
            session.abort()
        else:
            # It is being connected.
            self._link.abort()

    def close(self) -> None:
        """See `FarFiles.close`."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    # -- inside -------------------------------------------------------------------------------

    @property
    def _wire(self) -> Wire:
        if self._session is None:
            raise LinkError(f"not connected to {self._target.host}")
        return self._session

    def _ask_open(self, path: bytes, flags: int) -> int:
        return self._wire.send(sftp.OPEN, text(self._path(path)), struct.pack("!I", flags), answers.NO_ATTRIBUTES)

    def _open(self, path: bytes, flags: int) -> bytes:
        return self._wire.handle(self._ask_open(path, flags))

    def _path(self, path: bytes) -> bytes:
        return self._top + b"/" + path if path else self._top

    @contextlib.contextmanager
    def _named(self, path: bytes) -> Iterator[None]:
        """Say which name was refused; where the whole directory has gone, that is what is wrong."""
        try:
            yield
        except SftpRefusal as error:
            if error.code == sftp.NO_SUCH_FILE and self._attributes(sftp.STAT, self._top) is None:
                raise TargetError(f"{self._target.host}: {self._target.directory} is not there any more") from None
            raise FarRefusal(f"the target refuses {display(path)}: {error}") from None

    def _attributes(self, kind: int, path: bytes) -> Attributes | None:
        try:
            return answers.attributes(self._wire.ask(kind, text(path)).body)
        except SftpRefusal as error:
            if error.code == sftp.NO_SUCH_FILE:
                return None
            raise

    def _home(self) -> bytes:
        """Return where the login begins."""
        body = self._wire.ask(sftp.REALPATH, text(b".")).body
        return take_text(body[4:])[0]

    def _make_way(self, directory: bytes) -> None:
        """Make a directory and those above it, as far as they are missing."""
        found = self._attributes(sftp.STAT, directory)
        if found is None:
            above = os.path.dirname(directory.rstrip(b"/"))
            if above not in (b"", b"/", directory):
                self._make_way(above)
            self._make_directory(directory)
        elif found.kind != stat.S_IFDIR:
            raise SftpRefusal(0, "it is not a directory")

    def _make_directory(self, path: bytes) -> None:
        try:
            self._wire.ask(sftp.MKDIR, text(path), answers.NO_ATTRIBUTES)
        except SftpRefusal:
            found = self._attributes(sftp.STAT, path)
            if found is None or found.kind != stat.S_IFDIR:
                raise

    def _longest_piece(self) -> int:
        """Return how much the server reads and writes at once."""
        try:
            # The longest message, the longest read, the longest write; 0 tells nothing.
            longest = answers.unpacked("!3Q", self._wire.ask(sftp.EXTENDED, text(_LIMITS)).body)
        except SftpRefusal:
            return _PIECE
        return min([_LONGEST_PIECE, *(limit or _PIECE for limit in longest[1:])])

    def _write_all(self, handle: bytes, read: Read, size: int, offset: int, told: Callable[[int], None]) -> None:
        wire = self._wire
        asked: collections.deque[tuple[int, int]] = collections.deque()
        done = position = offset
        try:
            wire.meanwhile = lambda: told(done)
            while position < size or asked:
                if position < size and position - done < _UNDER_WAY:
                    piece = read(min(self._piece, size - position), position)
                    if not piece:
                        # It has become shorter: whoever compares will see.
                        size = position
                        continue
                    number = wire.send(sftp.WRITE, handle, struct.pack("!Q", position), text(piece))
                    position += len(piece)
                    asked.append((number, position))
                    continue
                number, done = asked.popleft()
                wire.answer(number)
                told(done)
            if done == offset:
                told(done)
        finally:
            wire.meanwhile = None
            for number, _ in asked:
                wire.ignore(number)

    def _blame(self, error: SftpRefusal, wanted: int) -> None:
        """SFTP has no word for a disk that is full. Raise TargetError if it is."""
        free = self.free()
        if free is not None and free < wanted:
            words = f"the disk of {self._target.directory} is full, {free >> 10} KiB are free ({error})"
            raise TargetError(f"{self._target.host}: {words}") from None

    def _ask_piece(self, handle: bytes, position: int, length: int) -> int:
        return self._wire.send(sftp.READ, handle, struct.pack("!QI", position, length))

    def _piece_of(self, handle: bytes, number: int, begin: int) -> bytes:
        """Return what is at a position, of the full length unless the file ends there; the first part is asked for."""
        piece = b""
        while True:
            try:
                more, _ = take_text(self._wire.answer(number).body)
            except SftpRefusal as error:
                if error.code == sftp.END:
                    return piece
                raise
            piece += more
            if len(piece) >= self._piece or not more:
                return piece
            number = self._ask_piece(handle, begin + len(piece), self._piece - len(piece))

    def _flush_some(self, paths: Sequence[bytes]) -> None:
        wire = self._wire
        asked = [(path, wire.send(sftp.LSTAT, text(self._path(path)))) for path in paths]
        # A link would be followed, perhaps to what never opens; it is kept by its directory.
        kinds = {path: answers.attributes(self._answered(path, number)).kind for path, number in asked}
        opening = {
            path: self._ask_open(path, _READING) for path in paths if kinds[path] in (stat.S_IFREG, stat.S_IFDIR)
        }
        trouble: FarRefusal | None = None
        flushing: dict[bytes, int] = {}
        for path, number in opening.items():
            try:
                handle = text(take_text(self._answered(path, number))[0])
                flushing[path] = wire.send(sftp.EXTENDED, text(_FSYNC), handle)
                wire.release(handle)
            except FarRefusal as refusal:
                # Few servers can flush a directory.
                trouble = trouble or (refusal if kinds[path] == stat.S_IFREG else None)
        for path, number in flushing.items():
            try:
                self._answered(path, number)
            except FarRefusal as refusal:
                trouble = trouble or (refusal if kinds[path] == stat.S_IFREG else None)
        if trouble is not None:
            raise trouble

    def _answered(self, path: bytes, number: int) -> bytes:
        with self._named(path):
            return self._wire.answer(number).body

    def _remove(self, kind: int, path: bytes) -> None:
        with self._named(path):
            try:
                self._wire.ask(kind, text(self._path(path)))
            except SftpRefusal as error:
                if error.code != sftp.NO_SUCH_FILE:
                    raise


def make(stream: StreamSettings, target: TargetSettings, owner: str, because: str = "") -> ByFile:
    """See `registry.Maker`; `because` says why it is not done in another way, in front of what it is."""
    link = SftpLink(target, stream.state_dir / "run", stream.links_dir)
    return by_file.make(lambda: SftpFiles(link, target, because), stream, target, owner)

"""One zip being made of a directory unit: read under the unit's leases, and checked to be what was judged.

What goes wrong says who is to blame, as a delivery does: the zip is a part of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from mistamover.files.identity import DirectoryHandles, identity_of
from mistamover.files.names import display
from mistamover.files.zips import ZipWriter
from mistamover.model import FaultClass, Identity, Kind, TreeEntry, Unit
from mistamover.transport.base import Guard

#: Bytes that are read at a time.
_PIECE = 1 << 20

#: Bytes that are read between two looks at the room that is left on the disk, and what is left alone of that: the
#: ledger lies on the same disk, and must not run out of it.
_LOOK_EVERY = 16 << 20
_RESERVE = 64 << 20

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


_Seen = TypeVar("_Seen")


class NotMade(Exception):
    """A zip that could not be made; caught in this room."""

    def __init__(self, fault: FaultClass, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault


def make(unit: Unit, source: bytes, path: bytes, guard: Guard) -> None:
    """Given a directory unit, the stream's directory, where its zip is to be, and the guard of the delivery, write it.

    The zip gets the owner of the directory, its permissions as far as they make sense for a file, and the time of the
    newest thing in it: the same content makes the same file.  Raise NotMade; what was written is removed then.
    """
    try:
        with DirectoryHandles(source) as handles, open(path, "xb", buffering=_PIECE) as file:
            top = _seen(partial(handles.lstat, unit.name), unit.name)
            with ZipWriter(file) as writer:
                _Making(unit, handles, guard, file.fileno()).write(writer, top)
            file.flush()
            # Whoever may read the directory may read its zip; we must be able to.
            os.fchmod(file.fileno(), top.st_mode & 0o666 | 0o400)
            with contextlib.suppress(PermissionError):
                os.fchown(file.fileno(), top.st_uid, top.st_gid)
            os.utime(file.fileno(), ns=(unit.identity.mtime_ns, unit.identity.mtime_ns))
        if not unchanged(unit, source):
            raise NotMade(FaultClass.CHANGED, "changed while it was being zipped")
    except NotMade:
        _remove(path)
        raise
    except OSError as error:
        # What is wrong with the source is caught where it is read: this is our own place.
        _remove(path)
        raise NotMade(FaultClass.HERE, _no_place(path, error.strerror or str(error))) from error


def unchanged(unit: Unit, source: bytes) -> bool:
    """Given a directory unit and the stream's directory, tell whether everything in it still is what was judged.

    Whatever is added, removed or renamed gives the directory that holds it a newer time.
    """
    try:
        with DirectoryHandles(source) as handles:
            top = identity_of(handles.lstat(unit.name))
            return _same_top(top, unit.identity) and all(
                identity_of(handles.lstat(unit.name + b"/" + entry.name)) == entry.identity for entry in unit.manifest
            )
    except OSError:
        return False


class _Making:
    """The walk through one unit."""

    def __init__(self, unit: Unit, handles: DirectoryHandles, guard: Guard, zip_handle: int) -> None:
        self._unit = unit
        self._handles = handles
        self._guard = guard
        self._zip = zip_handle
        self._unlooked = _LOOK_EVERY

    def write(self, writer: ZipWriter, top: os.stat_result) -> None:
        """Given the zip and the lstat of the directory, add it and all that is in it, in the order of the names."""
        writer.directory(self._unit.name, top)
        for entry in sorted(self._unit.manifest, key=lambda each: each.name):
            self._go_on(0)
            name = self._unit.name + b"/" + entry.name
            if entry.kind is Kind.FILE:
                self._add_file(writer, name, entry)
            elif entry.kind is not Kind.SPECIAL:
                self._add_other(writer, name, entry)

    def _add_file(self, writer: ZipWriter, name: bytes, entry: TreeEntry) -> None:
        held = self._guard.handle(name)
        handle = held if held is not None else _seen(partial(self._open, name), name)
        try:
            status = os.fstat(handle)
            _expect(status, entry, name)
            writer.file(name, status, self._content(handle, status.st_size, name))
            _expect(os.fstat(handle), entry, name)
        finally:
            if held is None:
                os.close(handle)
        self._guard.sent(name)

    def _add_other(self, writer: ZipWriter, name: bytes, entry: TreeEntry) -> None:
        status = _seen(partial(self._handles.lstat, name), name)
        _expect(status, entry, name)
        if entry.kind is Kind.LINK:
            writer.link(name, status, _seen(partial(self._target_of, name), name))
        else:
            writer.directory(name, status)

    def _target_of(self, name: bytes) -> bytes:
        above, _, last = name.rpartition(b"/")
        return os.readlink(last, dir_fd=self._handles.get(above))

    def _open(self, name: bytes) -> int:
        above, _, last = name.rpartition(b"/")
        return os.open(last, _OPEN, dir_fd=self._handles.get(above))

    def _content(self, handle: int, size: int, name: bytes) -> Iterator[bytes]:
        """Yield the content of a file: of one that grows, no more than it had when it was judged."""
        position = 0
        while position < size:
            piece = _seen(partial(os.pread, handle, min(_PIECE, size - position), position), name)
            if not piece:
                raise NotMade(FaultClass.CHANGED, f"{display(name)}: changed while it was being zipped")
            position += len(piece)
            yield piece
            self._go_on(len(piece))

    def _go_on(self, size: int) -> None:
        """Given how much was read, see whether the attempt may go on. Raise NotMade."""
        deadline = self._guard.deadline()
        if deadline is not None and time.monotonic() >= deadline:
            raise NotMade(FaultClass.ABANDONED, "the attempt was ended because something else came first")
        self._unlooked += size
        if self._unlooked < _LOOK_EVERY:
            return
        self._unlooked = 0
        disk = os.fstatvfs(self._zip)
        if disk.f_bavail * disk.f_frsize < _RESERVE:
            raise OSError(errno.ENOSPC, f"less than {_RESERVE >> 20} MiB of the disk are free")


def _seen(look: Callable[[], _Seen], name: bytes) -> _Seen:
    """Given how to look at something in the source, and its name, return what is seen. Raise NotMade."""
    try:
        return look()
    except OSError as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) or error.errno == errno.ELOOP:
            # Should the whole unit be gone, the next look tells.
            raise NotMade(FaultClass.CHANGED, f"{display(name)}: changed while it was being zipped") from error
        raise NotMade(FaultClass.SOURCE, f"{display(name)}: cannot be read: {error.strerror}") from error


def _expect(status: os.stat_result, entry: TreeEntry, name: bytes) -> None:
    if identity_of(status) != entry.identity:
        raise NotMade(FaultClass.CHANGED, f"{display(name)}: changed while it was being zipped")


def _same_top(now: Identity, then: Identity) -> bool:
    """Whether a directory is the one whose times went into the identity of its unit; see `watch.scan`."""
    return now[:2] == then[:2] and now.ctime_ns <= then.ctime_ns


def _no_place(path: bytes, why: str) -> str:
    return f"cannot be zipped here, in {display(os.path.dirname(path))}: {why}"


def _remove(path: bytes) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)

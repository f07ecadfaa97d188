"""The near end of a delivery by a `FarFiles`: a unit is opened, read to its end, and proven to be what was judged."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator

from mistamover.files import digests
from mistamover.files.identity import DirectoryHandles, identity_of
from mistamover.model import Failed, FaultClass, Unit
from mistamover.transport.base import Guard
from mistamover.transport.far import FarRefusal

#: Bytes that are read at a time.
_CHUNK = 1 << 20

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class NotSent(Exception):
    """A unit is not sent; says who is to blame."""

    def __init__(self, fault: FaultClass, reason: str) -> None:
        self.fault = fault
        super().__init__(reason)

    def verdict(self, unit: Unit) -> Failed:
        """Given the unit, return what this means for it."""
        return Failed(unit=unit, fault=self.fault, reason=str(self))


class Abandoned(NotSent):
    """Neither this unit nor any other of the batch is sent."""

    def __init__(self) -> None:
        super().__init__(FaultClass.ABANDONED, "the attempt was ended because something else came first")


class Source:
    """The stream's directory, as one batch reads it."""

    def __init__(self, root: bytes, guard: Guard) -> None:
        """Given the directory and the guard of the batch, open nothing yet."""
        self._root = root
        self._guard = guard
        self._handles = DirectoryHandles(root)

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def go_on(self) -> None:
        """Raise Abandoned when the attempt is to be given up."""
        deadline = self._guard.deadline()
        if deadline is not None and time.monotonic() >= deadline:
            self._guard.read_enough()
            raise Abandoned

    @contextlib.contextmanager
    def opened(self, unit: Unit) -> Iterator[int]:
        """Given a file's unit, yield a descriptor of it: the file is what was judged, before the block and after it.

        Raise NotSent if it is not, or cannot be read.
        """
        held = self._guard.handle(unit.name)
        try:
            handle = self._open(unit.name) if held is None else held
        except OSError as error:
            raise self._reason(unit, error) from error
        try:
            self.same(unit, handle)
            try:
                yield handle
            except FarRefusal:
                # A file that was cut off meanwhile is no reason to blame the target.
                self.same(unit, handle)
                raise
            except OSError as error:
                raise NotSent(FaultClass.SOURCE, f"cannot be read: {error.strerror or error}") from error
            self.same(unit, handle)
            self._guard.sent(unit.name)
        finally:
            if held is None:
                os.close(handle)

    def same(self, unit: Unit, handle: int) -> None:
        """Given a file's unit and a descriptor, raise NotSent unless it is what was judged."""
        status = os.fstat(handle)
        if identity_of(status) == unit.identity and stat.S_ISREG(status.st_mode):
            return
        if not os.path.lexists(self._root + b"/" + unit.name):
            raise NotSent(FaultClass.VANISHED, "removed at the source before it was sent")
        raise NotSent(FaultClass.CHANGED, "changed while it was being sent")

    def status(self, name: bytes) -> os.stat_result:
        """Given a name, return its lstat. Raise NotSent."""
        try:
            return self._handles.lstat(name)
        except (FileNotFoundError, NotADirectoryError):
            raise NotSent(FaultClass.VANISHED, "removed at the source before it was sent") from None
        except OSError as error:
            raise NotSent(FaultClass.SOURCE, f"cannot be looked at: {error.strerror or error}") from error

    def link(self, unit: Unit) -> bytes:
        """Given a link's unit, return what it says. Raise NotSent if it is another link by now, or none."""
        if identity_of(self.status(unit.name)) != unit.identity:
            raise NotSent(FaultClass.CHANGED, "changed while it was being sent")
        above, _, last = unit.name.rpartition(b"/")
        try:
            return os.readlink(last, dir_fd=self._handles.get(above))
        except OSError as error:
            raise self._reason(unit, error) from error

    def _open(self, name: bytes) -> int:
        above, _, last = name.rpartition(b"/")
        return os.open(last, _OPEN, dir_fd=self._handles.get(above))

    def _reason(self, unit: Unit, error: OSError) -> NotSent:
        """Given why a unit could not be opened, return what is to be said: it may have changed or be gone."""
        if identity_of(self.status(unit.name)) != unit.identity:
            return NotSent(FaultClass.CHANGED, "changed while it was being sent")
        return NotSent(FaultClass.SOURCE, f"cannot be read: {error.strerror or error}")


class Reading:
    """One file on its way: hashed as far as it was sent, and given up when that is wanted."""

    def __init__(self, source: Source, unit: Unit, handle: int, algorithm: str, guard: Guard | None) -> None:
        """Given the source, a file's unit, a descriptor, the hash to use, and whom to tell how far it is, begin."""
        self._source = source
        self._unit = unit
        self._handle = handle
        self._hash = digests.new(algorithm)
        self._guard = guard
        self._done = 0

    def told(self, position: int) -> None:
        """Given how many bytes were sent in all, see to it that so many are hashed. Raise Abandoned, OSError."""
        self._source.go_on()
        while self._done < position:
            piece = os.pread(self._handle, min(_CHUNK, position - self._done), self._done)
            if not piece:
                # Cut off meanwhile; its identity tells.
                break
            self._hash.update(piece)
            self._done += len(piece)
            if self._done < position:
                self._source.go_on()
        if self._guard is not None:
            self._guard.progressed(self._done)
        if position >= self._unit.identity.size:
            # Before what was written is shown, where the far end shows it by itself.
            self._source.same(self._unit, self._handle)

    def digest(self) -> str:
        """Return the hash of the whole content."""
        if self._done < self._unit.identity.size:
            self.told(self._unit.identity.size)
        return self._hash.hexdigest()

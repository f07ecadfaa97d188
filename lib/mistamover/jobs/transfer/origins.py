"""Where the content of an item comes from: a file at an endpoint, a file of ours, or the world outside."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mistamover.errors import TransportError
from mistamover.files.identity import identity_of
from mistamover.jobs.transfer.faults import Trouble, trouble
from mistamover.jobs.transfer.places import Visit
from mistamover.model import FaultClass, Identity
from mistamover.transport.far import There
from mistamover.transport.local import LocalFiles

_CHUNK = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


#: Seconds within which a file may be changed once more without a trace in its time.
_FRESH = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """By what a file is known again."""

    size: int
    mtime: float
    identity: Identity | None = None
    """All that is known of a file of this machine."""

    def fits(self, there: There) -> bool:
        """Given what has its name now, tell whether it looks the same."""
        return (there.size, there.mtime) == (self.size, self.mtime)

    def is_fresh(self, now: float) -> bool:
        """Given the time, tell whether it was changed so lately that the same time does not mean the same content.

        Clocks differ: what seems to come from the future is fresh as well.
        """
        return now - self.mtime < _FRESH


class Origin(Protocol):
    """Content that can be read from its beginning, at least once."""

    @property
    def size(self) -> int | None:
        """Bytes; None if nobody knows before the end."""

    @property
    def mtime_ns(self) -> int:
        """Nanoseconds since the epoch; 0 if nobody knows."""

    @property
    def mode(self) -> int | None:
        """Permission bits; None if nobody knows."""

    @property
    def handle(self) -> int | None:
        """A descriptor of it, where it is a file of this machine."""

    @property
    def stamp(self) -> Stamp | None:
        """By what it is known again, where it is a file."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the content from its beginning."""

    def check(self) -> None:
        """Raise Trouble if it is not what it was when it was opened."""


class LocalOrigin:
    """A file of this machine, held open."""

    def __init__(self, handle: int) -> None:
        """Given a descriptor, which stays the caller's, remember what it is."""
        status = os.fstat(handle)
        self.handle: int | None = handle
        self.identity: Identity = identity_of(status)
        self.size: int | None = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.mode: int | None = stat.S_IMODE(status.st_mode)
        self.stamp: Stamp | None = Stamp(size=status.st_size, mtime=status.st_mtime, identity=self.identity)

    def pieces(self) -> Iterator[bytes]:
        """See `Origin.pieces`."""
        assert self.handle is not None
        position = 0
        while piece := os.pread(self.handle, _CHUNK, position):
            yield piece
            position += len(piece)

    def check(self) -> None:
        """See `Origin.check`."""
        assert self.handle is not None
        if identity_of(os.fstat(self.handle)) != self.identity:
            raise Trouble(FaultClass.CHANGED, "the source changed while it was read")


@contextlib.contextmanager
def blaming(endpoint: str) -> Iterator[None]:
    """Given an endpoint, say of what a far end raises within the block that it is about that one."""
    try:
        yield
    except TransportError as error:
        raise trouble(error, endpoint) from error


class FarOrigin:
    """A file at an endpoint."""

    handle: int | None = None

    def __init__(self, visit: Visit, name: bytes, there: There) -> None:
        """Given a connection of its own, a resolved name and what has it, remember that."""
        self.visit = visit
        self.name = name
        self._there = there
        self.size: int | None = there.size
        self.mtime_ns = int(there.mtime * 1e9)
        self.mode = there.mode
        self.stamp: Stamp | None = Stamp(size=there.size, mtime=there.mtime)

    def pieces(self) -> Iterator[bytes]:
        """See `Origin.pieces`; what goes wrong is the fault of where it comes from, not of where it goes."""
        with blaming(self.visit.place.settings.name):
            yield from self.visit.read(self.name)

    def check(self) -> None:
        """See `Origin.check`."""
        with blaming(self.visit.place.settings.name):
            there = self.visit.far.look(self.name)
        if there is None:
            raise Trouble(FaultClass.VANISHED, "the source was removed while it was read")
        if (there.kind, there.size, there.mtime) != (self._there.kind, self._there.size, self._there.mtime):
            raise Trouble(FaultClass.CHANGED, "the source changed while it was read")


@contextlib.contextmanager
def at(visit: Visit, path: str) -> Iterator[Origin]:
    """Given a connection and a clean path, yield what is there, to be read. Raise TransportError, Trouble."""
    name, there = visit.file(path)
    if not isinstance(visit.far, LocalFiles):
        yield FarOrigin(visit, name, there)
        return
    with visit.far.opened(name) as handle:
        yield LocalOrigin(handle)


@contextlib.contextmanager
def own(path: Path) -> Iterator[Origin]:
    """Given a file of ours, yield it, to be read. Raise Trouble, OSError."""
    try:
        handle = os.open(path, _OPEN)
    except FileNotFoundError:
        raise Trouble(FaultClass.VANISHED, "what came with the request is not here any more", final=True) from None
    try:
        yield LocalOrigin(handle)
    finally:
        os.close(handle)

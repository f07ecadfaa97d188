"""One file of a cart: it comes from its archive, is hashed while it does, and gets its path when it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from mistamover.files import digests
from mistamover.files.digests import Hash
from mistamover.files.durable import begin_writing
from mistamover.jobs.cart_model import VOLUME
from mistamover.jobs.model import Item, ItemState, Location
from mistamover.jobs.store.item_steps import Finished
from mistamover.jobs.transfer.archives import Archive
from mistamover.jobs.transfer.context import Tell
from mistamover.jobs.transfer.faults import Trouble
from mistamover.jobs.transfer.landing import Landing
from mistamover.jobs.transfer.origins import Origin
from mistamover.jobs.transfer.staging import Seen
from mistamover.model import FaultClass

#: Bytes from which on a file is flushed by the thread that gets it, and that are sent to the disk at a time until then.
_LARGE = 8 << 20


class Grow(Protocol):
    """Keeps room for a file whose size nobody knew."""

    def __call__(self, seq: int, size: int, /) -> None:
        """Given an item, and how many bytes it has by now, keep room for more. Raise NoSpace."""


class Puller:
    """Gets the files of one cart; used by several threads."""

    def __init__(
        self, landing: Landing, algorithm: str, tell: Tell, clock: Callable[[], float], grow: Grow, mark: str
    ) -> None:
        """Given where they go, the algorithm of the bundle, whom to tell, a clock, what keeps room, and what temporary
        names begin with.
        """
        self._landing = landing
        self._algorithm = algorithm
        self._tell = tell
        self._clock = clock
        self._grow = grow
        self._mark = mark

    def pull(self, item: Item, seen: Seen, archive: Archive, go_on: Callable[[], None]) -> Finished:
        """Given an item, what is known of its file, the archive that has it, and what raises when it is to end, get it.

        It has its path then, and may not be on the disk yet, unless it is large.  Raise Trouble, TransportError,
        JobRefused, OSError, NoSpace, and what `tell` does.
        """
        assert item.target is not None
        began = self._clock()
        self._tell(item.seq, ItemState.TRANSFERRING, 0, seen.size)
        name = f"{self._mark}-{item.seq}"
        try:
            with archive.opened(item, seen) as origin:
                digest, size = self._written(item, seen, origin, name, go_on)
            self._landing.place(name, item.target.path)
        except BaseException:
            self._landing.drop(name)
            raise
        return Finished(
            seq=item.seq,
            landed=Location(endpoint=VOLUME, path=item.target.path),
            algorithm=self._algorithm,
            digest=digest,
            size=size,
            started=began,
            ended=self._clock(),
        )

    def _written(self, item: Item, seen: Seen, origin: Origin, name: str, go_on: Callable[[], None]) -> tuple[str, int]:
        """Write a file under a temporary name; return its hash and its size, which have been checked."""
        if item.hash_type and not digests.is_known(item.hash_type):
            raise Trouble(FaultClass.REFUSED, f"unsupported hash type {item.hash_type}", final=True)
        wanted = {self._algorithm, item.hash_type if item.hash_value else ""} - {""}
        hashes = {name: digests.new(name) for name in wanted}
        expected = origin.size if seen.size is None else seen.size
        size = begun = 0
        with self._landing.write(name) as file:
            for piece in origin.pieces():
                go_on()
                size += len(piece)
                if expected is None:
                    self._grow(item.seq, size)
                elif size > expected:
                    raise _changed(expected, f"{size} or more")
                for value in hashes.values():
                    value.update(piece)
                file.write(piece)
                if size - begun >= _LARGE:
                    file.flush()
                    begin_writing(file.fileno(), begun, size - begun)
                    begun = size
                self._tell(item.seq, ItemState.TRANSFERRING, size, expected)
            if expected is not None and size != expected:
                raise _changed(expected, str(size))
            origin.check()
            _check(item, hashes)
            file.flush()
            mtime_ns = (seen.mtime or origin.mtime_ns // 10**9 or int(self._clock())) * 10**9
            os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
            if size >= _LARGE:
                os.fsync(file.fileno())
        return hashes[self._algorithm].hexdigest(), size


def _check(item: Item, hashes: dict[str, Hash]) -> None:
    if item.hash_value and hashes[item.hash_type].hexdigest() != item.hash_value.lower():
        raise Trouble(FaultClass.SOURCE, "File hash does not match provided hash")


def _changed(expected: int, found: str) -> Trouble:
    return Trouble(FaultClass.SOURCE, f"the archive has told of {expected} bytes, and gives {found}")

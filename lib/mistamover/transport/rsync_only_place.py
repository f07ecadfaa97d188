"""Our place at a far end that is nothing but rsync: where files are written until they are whole.

Each run that is under way has a directory of its own there.  One that ended badly is never used again, and is removed
before anything else is sent: what is left of that run, there or still in its pipe, then finds no way to a final name.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from mistamover.errors import TargetError
from mistamover.files.names import MARK
from mistamover.transport.rsync_only_runs import OnlyRuns, words_of
from mistamover.transport.rsync_run import Ended

#: What is gone on with after a broken attempt: halves of large files, each with a directory of its own, and a zip.
_KEPT = ("p-*", "z")

_PROBE = b".probe"


@dataclass(slots=True)
class Slot:
    """A directory of ours that one run has to itself."""

    name: str
    path: str
    """Relative to the target directory."""
    clean: bool = False
    """Whether nothing can be left there; set by who uses it."""


class OwnPlace:
    """See the module; used by several threads."""

    def __init__(self, runs: OnlyRuns, owner: str) -> None:
        """Given what runs rsync, and a name that is ours alone, do nothing yet."""
        self._runs = runs
        self.path = f"{MARK.decode()}/{owner}"
        self._lock = threading.Lock()
        self._free: list[str] = []
        self._busy: set[str] = set()
        self._stale = True
        self._proven = b""
        """A file of ours that was written there last, and not removed."""

    @property
    def usable(self) -> bool:
        """Whether we have a place: only where it can be removed again."""
        return self._runs.terms.allows("--delete")

    @property
    def names(self) -> list[bytes]:
        """What must be there, relative to the target directory."""
        with self._lock:
            return [os.fsencode(f"{self.path}/{name}") for name in (*self._free, *self._busy)]

    @property
    def witness(self) -> bytes:
        """A file that is there for certain; empty if there is none."""
        with self._lock:
            slot = self._proven.rpartition(b"/")[0].rpartition(b"/")[2]
            return self._proven if os.fsdecode(slot) in self._free else b""

    def forget(self) -> None:
        """Take note that somebody has removed what was there."""
        with self._lock:
            self._free.clear()
            self._stale = True

    @contextlib.contextmanager
    def slot(self) -> Iterator[Slot | None]:
        """Yield a directory for one run, None where we have no place. Raise LinkError or TargetError."""
        if not self.usable:
            yield None
            return
        with self._lock:
            self._sweep()
            if not self._free:
                name = f"s-{os.urandom(6).hex()}"
                self._runs.make_directories([os.fsencode(f"{self.path}/{name}")], mode=0o700)
                self._free.append(name)
            name = self._free.pop()
            self._busy.add(name)
        slot = Slot(name=name, path=f"{self.path}/{name}")
        try:
            yield slot
        finally:
            with self._lock:
                self._busy.discard(name)
                if slot.clean:
                    self._free.append(name)
                else:
                    self._stale = True

    def words(self, slot: Slot | None) -> list[str]:
        """Given where a run writes until a file is whole, return the words for it: where there is no place, that is
        beside the final names, under names that begin with a dot.
        """
        if slot is None:
            return []
        return self._runs.terms.some("--temp-dir", self.anchored(slot.path))

    def anchored(self, path: str) -> str:
        """Given a path relative to the target directory, return it as an option takes it."""
        return f"{self._runs.far.anchored(self._runs.directory)}/{path}"

    def prove(self, slot: Slot, content: bytes = b"") -> str:
        """Write a small file into a slot, as all are written, flushed and renamed; return why it failed, or nothing.

        What was flushed after a rename takes the rename with it to the disk, as journals of filesystems are written in
        their order.
        """
        with self._runs.staging() as staging:
            with open(staging + b"/" + _PROBE, "wb") as file:
                file.write(content)
            run = self._run_probe(staging, slot)
            if run.status == 0 and _PROBE not in run.lines:
                # Nothing is written over there: the last one has to go before.
                self.unprove(slot)
                run = self._run_probe(staging, slot)
        if run.status != 0 or _PROBE not in run.lines:
            return words_of(run)
        self._proven = os.fsencode(f"{slot.path}/") + _PROBE
        return ""

    def _run_probe(self, staging: bytes, slot: Slot) -> Ended:
        terms, command = self._runs.terms, self._runs.command

        def words() -> list[str]:
            return command.small(*terms.hashing(), *terms.some("--fsync"), *self.words(slot))

        run = self._runs.run(words, [_PROBE], here=staging, below=slot.path)
        if run.status == 0 or not terms.allows("--temp-dir"):
            return run
        # What takes the option may still not find the directory, where it takes paths for something else.
        without = self._runs.run(
            lambda: command.small(*terms.hashing(), *terms.some("--fsync")), [_PROBE], here=staging, below=slot.path
        )
        if without.status == 0:
            terms.give_up("--temp-dir")
        return without

    def unprove(self, slot: Slot) -> None:
        """Remove the small file. Raise LinkError or TargetError."""
        name = os.fsencode(f"{slot.path}/") + _PROBE
        self._proven = b""
        if name not in self._runs.remove([name]):
            raise TargetError(f"{self._runs.far.description()}: a file of ours cannot be removed there")

    def leave(self, *, finished: bool) -> None:
        """Remove what is ours; with `finished`, also what would be gone on with. Raise LinkError or TargetError."""
        if not self.usable:
            return
        with self._lock:
            self._free.clear()
            self._runs.keep_only(self.path, sorted(self._busy), () if finished else _KEPT)
        if finished:
            # The upper one stays where another stream has its own place in it.
            self._runs.remove([os.fsencode(self.path), MARK])

    def _sweep(self) -> None:
        """Remove what runs that ended badly have left, ours and a predecessor's."""
        if not self._stale:
            return
        if not self._free and not self._busy:
            self._free.append(f"s-{os.urandom(6).hex()}")
            above = [os.fsencode(self.path).rpartition(b"/")[0], os.fsencode(self.path)]
            self._runs.make_directories(above, mode=0o700)
        try:
            self._runs.keep_only(self.path, sorted({*self._free, *self._busy}), _KEPT)
        except BaseException:
            if not self._busy:
                self._free.clear()
            raise
        self._stale = False

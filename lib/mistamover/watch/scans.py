"""When and how far to look: full scans, and scans of what is new, as far as the reader has room."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from itertools import islice

from mistamover.files.names import display
from mistamover.model import Kind
from mistamover.watch.coverage import Coverage
from mistamover.watch.filesystem import reports_changes
from mistamover.watch.memory import Memory
from mistamover.watch.scan import Ignored, Sighting, walk

logger = logging.getLogger(__name__)

#: Seconds between two full scans where the kernel does not report everything.
_POLL_INTERVAL = 3.0

#: The pause after such a scan is at least so many times as long as the scan was.
_POLL_SHARE = 10

#: Seconds after which a full scan trusts no memory, whatever the times of the directories say.
_COMPLETE_EVERY = 3600.0


class Scans:
    """The scans of one tree.  They set its watches: each directory is watched first and listed then."""

    def __init__(
        self,
        root: bytes,
        coverage: Coverage,
        *,
        excluded: frozenset[bytes],
        whole_directories: bool,
        ignored: Ignored | None,
        interval: float,
    ) -> None:
        """Given the tree, what watches it, how to read it and the seconds between two full scans, order the first."""
        self._root = root
        self._coverage = coverage
        self._excluded = excluded
        self._whole_directories = whole_directories
        self._ignored = ignored
        self._interval = interval
        self._memory = Memory()
        self._full: Iterator[Sighting] | None = None
        self._full_wanted = True
        self._complete = True
        """Whether the full scan under way must see to everything itself."""
        self._complete_wanted = True
        self._completed = 0.0
        """When the last such scan began."""
        self._part: Iterator[Sighting] | None = None
        self._parts_wanted: set[bytes] = set()
        self._counted_from = time.monotonic()
        """When the last full scan ended, or the next one was ordered."""
        self._took = 0.0
        """Seconds that the full scan has taken so far, without the waiting for room."""
        self._former_problems: dict[bytes, str] = {}
        self.problems: dict[bytes, str] = {}
        """What could not be read in the last full scan, and why."""
        self.finished = 0
        """How many full scans have been finished."""

    def request(self) -> None:
        """Have everything looked at as soon as there is room."""
        self._full_wanted = self._complete_wanted = True

    def request_part(self, directory: bytes) -> None:
        """Given a new directory's name, have it looked at as soon as there is room, before what is there already."""
        self._parts_wanted.add(directory)

    @property
    def busy(self) -> bool:
        """Whether there is something to go on with."""
        return bool(self._full or self._part or self._full_wanted or self._parts_wanted)

    def next_time(self) -> float:
        """Return the monotonic time of the next regular full scan."""
        pause = max(_POLL_INTERVAL, _POLL_SHARE * self._took) if self._coverage.gap else self._interval
        return self._counted_from + min(self._interval, pause)

    def take(self, room: int) -> list[Sighting]:
        """Given how many sightings there is room for, go on with the scans and return at most so many."""
        if time.monotonic() >= self.next_time():
            self._full_wanted = self._full_wanted or self._full is None
            self._counted_from = time.monotonic()
        sightings: list[Sighting] = []
        while self.busy and len(sightings) < room:
            sightings += self._go_on(room - len(sightings))
        return sightings

    def problem(self, name: bytes, error: OSError) -> None:
        """Given a name that cannot be read and the reason, note it, and tell it once."""
        text = f"{error.strerror or error}"
        if text not in (self.problems.get(name), self._former_problems.get(name)):
            logger.warning("cannot read %s: %s", display(name) or display(self._root), text)
        self.problems[name] = text

    def _go_on(self, room: int) -> list[Sighting]:
        if self._full_wanted and self._full is None:
            self._begin()
        if self._parts_wanted and self._part is None:
            self._part = self._walk(self._parts_wanted.pop(), None)
        if self._part is not None:
            found = list(islice(self._part, room))
            if len(found) < room:
                self._part = None
            return found
        assert self._full is not None
        begun = time.monotonic()
        found = list(islice(self._full, room))
        if self._whole_directories:
            self._watch_trees(found)
        self._took += time.monotonic() - begun
        if len(found) < room:
            self._end()
        return found

    def _begin(self) -> None:
        now = time.monotonic()
        self._full_wanted = False
        self._parts_wanted.clear()
        self._complete = self._complete_wanted or now - self._completed > _COMPLETE_EVERY
        self._complete_wanted = False
        if self._complete:
            self._completed = now
            self._memory.clear()
        self._took = 0.0
        self._former_problems, self.problems = self.problems, {}
        self._coverage.begin_scan()
        self._memory.begin()
        # Where other hosts change things behind the kernel's back, the times that it shows may be old as well.
        self._full = self._walk(b"", self._memory if reports_changes(self._root) else None)

    def _end(self) -> None:
        self._full = None
        self._memory.end()
        self._coverage.end_scan()
        self._counted_from = time.monotonic()
        self.finished += 1

    def _walk(self, start: bytes, memory: Memory | None) -> Iterator[Sighting]:
        return walk(
            self._root,
            start,
            excluded=self._excluded,
            whole_directories=self._whole_directories,
            problem=self.problem,
            visit=self._coverage.watch,
            memory=memory,
            ignored=self._ignored,
        )

    def _watch_trees(self, sightings: list[Sighting]) -> None:
        """A directory unit is not listed here, but what happens below it is to be heard all the same."""
        for sighting in sightings:
            if sighting.kind is Kind.TREE:
                self._coverage.watch_tree(sighting.name, anew=self._complete)

"""What has come in: hints turned into sightings, completed by scans.

Each directory is watched first and listed then: what comes in between is seen twice,
never missed.  The reader says how much it has room for, so memory stays bounded by
the reader and the rest waits where it is, on disk.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

from mistamover.config.settings import WatchMode
from mistamover.files.identity import kind_of
from mistamover.files.names import is_ours
from mistamover.model import Kind
from mistamover.watch.coverage import Coverage
from mistamover.watch.scan import Ignored, Sighting
from mistamover.watch.scans import Scans


class Arrivals:
    """Everything that is to be seen in one stream's directory."""

    def __init__(
        self,
        root: bytes,
        *,
        excluded: frozenset[bytes],
        whole_directories: bool,
        changes: bool,
        mode: WatchMode,
        rescan_interval: float,
        wake: Callable[[], None],
        ignored: Ignored | None = None,
    ) -> None:
        """Given the directory and how to watch it, do nothing yet; see `start`.

        `ignored` spares scans what the reader will never want to see again; no rule may change while this lives.
        """
        self._root = root
        self._excluded = excluded
        self._whole_directories = whole_directories
        self._coverage = Coverage(root, changes=changes, mode=mode, wake=wake)
        self._scans = Scans(
            root,
            self._coverage,
            excluded=excluded,
            whole_directories=whole_directories,
            ignored=ignored,
            interval=rescan_interval,
        )
        self._names: deque[bytes] = deque()

    def start(self) -> None:
        """Be ready to hear; the first scan begins with the first `take` and sets the watches as it goes."""
        self._coverage.start()

    def stop(self) -> None:
        """End watching."""
        self._coverage.stop()

    def request_scan(self) -> None:
        """Have everything looked at as soon as there is room."""
        self._scans.request()

    @property
    def gap(self) -> str:
        """Why changes must be looked for by scans, in words; empty while everything is watched."""
        return self._coverage.gap

    @property
    def full_scans(self) -> int:
        """How many scans of the whole tree have been finished."""
        return self._scans.finished

    @property
    def problems(self) -> dict[bytes, str]:
        """What could not be read in the last full scan, and why."""
        return self._scans.problems

    @property
    def busy(self) -> bool:
        """Whether more can be taken at once."""
        return bool(self._scans.busy or self._names or self._coverage.waiting)

    def next_scan(self) -> float:
        """Return the monotonic time of the next regular scan."""
        return self._scans.next_time()

    def take(self, room: int) -> list[Sighting]:
        """Given how many sightings there is room for, return at most so many; hints come before scans."""
        sightings: list[Sighting] = []
        while len(sightings) < room and (self._names or self._hear()):
            sighting = self._look(self._names.popleft())
            if sighting is not None:
                sightings.append(sighting)
        return sightings + self._scans.take(room - len(sightings))

    def _hear(self) -> bool:
        """Collect the next hints; return whether they hold a name to look at."""
        hints = self._coverage.take()
        if hints is None:
            return False
        if hints.lost:
            self._scans.request()
        if self._whole_directories:
            for name in hints.directories:
                if not self._passed_over(name):
                    self._coverage.watch_tree(name, anew=True)
            self._names.extend({name.partition(b"/")[0] for name in hints.names})
        else:
            self._names.extend(hints.names)
        return bool(self._names)

    def _passed_over(self, name: bytes) -> bool:
        return is_ours(name) or any(name == x or name.startswith(x + b"/") for x in self._excluded)

    def _look(self, name: bytes) -> Sighting | None:
        if self._passed_over(name):
            return None
        try:
            status = os.lstat(self._root + b"/" + name)
        except (FileNotFoundError, NotADirectoryError):
            return Sighting(name, Kind.FILE, None)
        except OSError as error:
            self._scans.problem(name, error)
            return None
        kind = kind_of(status)
        if kind is not Kind.DIRECTORY:
            return Sighting(name, kind, status)
        if self._whole_directories:
            return Sighting(name, Kind.TREE, status)
        # It is new, or another one than before: what it holds may have come before it was watched.
        self._scans.request_part(name)
        return None

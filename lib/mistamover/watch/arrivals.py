"""What has come in: hints turned into sightings, completed by scans.

Watch first, then scan: what comes in between is seen twice, never missed.  The
reader says how much it has room for, so memory stays bounded by the reader and
the rest waits where it is, on disk.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator

from mistamover.config.settings import WatchMode
from mistamover.files.identity import kind_of
from mistamover.files.names import display, is_ours
from mistamover.model import Kind
from mistamover.watch.events import Events
from mistamover.watch.filesystem import filesystem_type, reports_changes
from mistamover.watch.scan import Sighting, walk

logger = logging.getLogger(__name__)

#: Seconds between two scans where the kernel reports nothing.
_POLL_INTERVAL = 3.0


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
    ) -> None:
        """Given the directory and how to watch it, do nothing yet; see `start`."""
        self._root = root
        self._excluded = excluded
        self._whole_directories = whole_directories
        self._changes = changes
        self._mode = mode
        self._interval = rescan_interval
        self._wake = wake
        self._events: Events | None = None
        self._watched: tuple[int, int] | None = None
        """The directory that events come from; another one of its name must be watched anew."""
        self._names: deque[bytes] = deque()
        self._scan: Iterator[Sighting] | None = None
        self._scan_is_full = False
        self._wanted: set[bytes] = set()
        self._next_scan = 0.0
        self.full_scans = 0
        """How many scans of the whole tree have been finished."""
        self.problems: dict[bytes, str] = {}
        """What could not be read in the last full scan, and why."""

    def start(self) -> None:
        """Watch, where that is possible, and order the first scan."""
        if self._mode is WatchMode.EVENTS or (self._mode is WatchMode.AUTO and reports_changes(self._root)):
            self._start_events()
        elif self._mode is WatchMode.AUTO:
            logger.warning(
                "%s is on a filesystem (%s) that does not report changes of other hosts: scanning it every %g s",
                display(self._root),
                filesystem_type(self._root),
                min(self._interval, _POLL_INTERVAL),
            )
        if self._events is None:
            self._interval = min(self._interval, _POLL_INTERVAL)
        self.request_scan()

    def _start_events(self) -> None:
        events = Events(self._root, changes=self._changes, wake=self._wake)
        try:
            events.start()
        except OSError as error:
            events.stop()
            logger.warning(
                "cannot watch %s (%s): scanning it every %g s; see fs.inotify.max_user_watches",
                display(self._root),
                error.strerror or error,
                min(self._interval, _POLL_INTERVAL),
            )
        else:
            self._events = events
            self._watched = self._root_inode()

    def _root_inode(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._root)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def stop(self) -> None:
        """End watching."""
        if self._events is not None:
            self._events.stop()

    def request_scan(self, directory: bytes = b"") -> None:
        """Given a directory's name (empty for all), have it scanned as soon as there is room."""
        self._wanted.add(directory)

    @property
    def busy(self) -> bool:
        """Whether more can be taken at once."""
        return bool(self._names or self._scan is not None or self._wanted)

    def next_scan(self) -> float:
        """Return the monotonic time of the next regular scan."""
        return self._next_scan

    def take(self, room: int) -> list[Sighting]:
        """Given how many sightings there is room for, return at most so many; hints come before scans."""
        self._note_hints()
        sightings: list[Sighting] = []
        while self._names and len(sightings) < room:
            sighting = self._look(self._names.popleft())
            if sighting is not None:
                sightings.append(sighting)
        if time.monotonic() >= self._next_scan:
            self.request_scan()
            self._next_scan = time.monotonic() + self._interval
        while len(sightings) < room and (self._scan is not None or self._wanted):
            sightings.extend(self._continue_scan(room - len(sightings)))
        return sightings

    def _note_hints(self) -> None:
        if self._events is None:
            return
        if not self._events.alive:
            logger.error("watching %s ended unexpectedly: starting it anew", display(self._root))
            self._watch_anew()
            return
        hints = self._events.take()
        if hints.lost:
            self.request_scan()
        if self._whole_directories:
            self._names.extend({name.partition(b"/")[0] for name in hints.names})
        else:
            self._names.extend(hints.names)

    def _watch_anew(self) -> None:
        if self._events is not None:
            self._events.stop()
            self._events = None
        self._start_events()
        self.request_scan()

    def _look(self, name: bytes) -> Sighting | None:
        if not name or is_ours(name) or any(name == x or name.startswith(x + b"/") for x in self._excluded):
            return None
        try:
            status = os.lstat(self._root + b"/" + name)
        except (FileNotFoundError, NotADirectoryError):
            return Sighting(name, Kind.FILE, None)
        except OSError as error:
            self._problem(name, error)
            return None
        kind = kind_of(status)
        if kind is Kind.DIRECTORY and self._whole_directories:
            return Sighting(name, Kind.TREE, status)
        if kind is Kind.DIRECTORY:
            self.request_scan(name)
            return None
        return Sighting(name, kind, status)

    def _continue_scan(self, room: int) -> list[Sighting]:
        if self._scan is None:
            if b"" in self._wanted:
                self._wanted.clear()
                self._scan_is_full = True
                if self._events is not None and self._root_inode() not in (None, self._watched):
                    logger.warning("%s is another directory than before: watching it anew", display(self._root))
                    self._watch_anew()
                    self._wanted.clear()
                self.problems.clear()
                start = b""
            else:
                self._scan_is_full = False
                start = self._wanted.pop()
            self._scan = walk(
                self._root,
                start,
                excluded=self._excluded,
                whole_directories=self._whole_directories,
                problem=self._problem,
            )
        found = []
        for sighting in self._scan:
            found.append(sighting)
            if len(found) >= room:
                return found
        self._scan = None
        if self._scan_is_full:
            self.full_scans += 1
            self._next_scan = time.monotonic() + self._interval
        return found

    def _problem(self, name: bytes, error: OSError) -> None:
        text = f"{error.strerror or error}"
        if self.problems.get(name) != text:
            logger.warning("cannot read %s: %s", display(name) or display(self._root), text)
        self.problems[name] = text

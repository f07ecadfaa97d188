"""Hints: which names below a directory may deserve a look, as the kernel reports them.

Nothing here is the truth.  Events may be doubled, late or lost; a hint only says
"look there soon", and a loss only asks for a scan.  Watchdog's threads write
the hints down; the stream's own thread collects them.  Never imports `scan`.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from watchdog.events import (
    DirAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import InotifyConstants, Mask

#: What can make a unit ready.  A link or a hard link is only ever *created*; everything else is closed or moved.
_ARRIVALS: list[type[FileSystemEvent]] = [
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    DirCreatedEvent,
    DirMovedEvent,
]
#: What a mirror wants to hear besides.
_CHANGES: list[type[FileSystemEvent]] = [FileDeletedEvent, DirDeletedEvent, FileAttribEvent, DirAttribEvent]

#: Names noted between two looks; beyond it a scan is cheaper than the list.
_MOST_NAMES = 20_000

#: The logger through which watchdog says that the kernel's event queue overflowed.
_OVERFLOW_LOGGERS = ("watchdog.observers.inotify_c", "watchdog.observers.inotify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What was noted since the last look."""

    names: frozenset[bytes]
    lost: bool
    """Something was missed: only a full scan can tell what."""


class Events(FileSystemEventHandler):
    """The kernel's reports for one directory tree, noted for the stream's thread."""

    def __init__(self, root: bytes, *, changes: bool, wake: Callable[[], None]) -> None:
        """Given the tree's path, whether deletions and attribute changes matter, and how to wake the reader."""
        self._root = root
        self._prefix = root.rstrip(b"/") + b"/"
        self._kinds = _ARRIVALS + (_CHANGES if changes else [])
        self._wake = wake
        self._lock = threading.Lock()
        self._names: set[bytes] = set()
        self._lost = False
        self._observer = Observer()
        if changes:
            # watchdog 7.1 reports attribute changes, but does not ask the kernel for them (its own mask forgets them).
            self._observer._emitter_class = _AttributeEmitter
        self._overflow = _OverflowHandler(self.lose)

    def start(self) -> None:
        """Begin to watch. Raise OSError where the system gives no watches (limit reached, no inotify)."""
        # watchdog 7.1 describes all its tables in a warning for each directory that it meets twice.
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="watchdog")
        for name in _OVERFLOW_LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(self._overflow)
            logger.propagate = False
        self._observer.schedule(self, os.fsdecode(self._root), recursive=True, event_filter=self._kinds)
        self._observer.start()

    def stop(self) -> None:
        """End watching; bounded by watchdog's own joins."""
        if self._observer.is_alive():
            self._observer.stop()
            self._observer.join(timeout=5)
        for name in _OVERFLOW_LOGGERS:
            logging.getLogger(name).removeHandler(self._overflow)

    @property
    def alive(self) -> bool:
        """Whether the watching threads still run."""
        return self._observer.is_alive()

    def lose(self) -> None:
        """Note that events were lost."""
        with self._lock:
            self._lost = True
        self._wake()

    def take(self) -> Hints:
        """Return what was noted and forget it."""
        with self._lock:
            hints = Hints(names=frozenset(self._names), lost=self._lost)
            self._names.clear()
            self._lost = False
        return hints

    def dispatch(self, event: FileSystemEvent) -> None:
        """Note the names of one event (called by watchdog's thread)."""
        names = [os.fsencode(path) for path in (event.src_path, event.dest_path) if path]
        with self._lock:
            first = not self._names
            for name in names:
                if name.startswith(self._prefix):
                    self._names.add(name[len(self._prefix) :])
            if len(self._names) > _MOST_NAMES:
                self._names.clear()
                self._lost = True
        if first:
            self._wake()


class _AttributeEmitter(InotifyEmitter):
    """Asks for attribute changes as well."""

    def get_event_mask_from_filter(self) -> Mask:
        return Mask(super().get_event_mask_from_filter() | InotifyConstants.IN_ATTRIB)


class _OverflowHandler(logging.Handler):
    """Turns watchdog's log line about an overflow into a call: it tells its handlers nothing."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._lost = lost

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self._lost()

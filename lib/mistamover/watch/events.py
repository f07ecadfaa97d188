"""Hints: which names below a directory may deserve a look, as the kernel reports them.

Nothing here is the truth.  Events may be doubled, late or lost; a hint only says
"look there soon", and a loss only asks for a scan.  One thread writes the hints
down, the stream's own thread collects them.  Never imports `scan`.

Of watchdog only the lowest layer is used: its thread around one inotify instance.
The layers above it walk the whole tree before the first event comes, take three
threads, and tell nobody of watches that the system refused.  Here a scan watches
each directory just before it lists it, so that nothing can be missed between.
"""

from __future__ import annotations

import ctypes
import os
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass

from watchdog.observers.inotify_c import (
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
    inotify_add_watch,
    inotify_rm_watch,
)

_CREATED = InotifyConstants.IN_CREATE
_IS_DIRECTORY = InotifyConstants.IN_ISDIR
_MOVED_AWAY = InotifyConstants.IN_MOVED_FROM
_NEW = _CREATED | InotifyConstants.IN_MOVED_TO

#: What can make a unit ready.  A link or a hard link is only ever *created*; everything else is closed or moved.
#: Of what is moved away, the reader should know soon; and a directory that is must lose its watch.
_ARRIVALS = InotifyConstants.IN_CLOSE_WRITE | _NEW | _MOVED_AWAY
#: What a mirror wants to hear besides.
_CHANGES = InotifyConstants.IN_DELETE | InotifyConstants.IN_ATTRIB
#: The root may be a link; below it, a link that has taken a directory's place is not followed out of the tree.
_ROOT = InotifyConstants.IN_ONLYDIR | InotifyConstants.IN_MOVE_SELF
_BELOW = InotifyConstants.IN_ONLYDIR | InotifyConstants.IN_DONT_FOLLOW
#: The watch of the root speaks of the root itself: it is gone, or another one may have its name.
_ROOT_LOST = InotifyConstants.IN_IGNORED | InotifyConstants.IN_MOVE_SELF

#: Names noted between two looks; beyond it a scan is cheaper than the list.
_MOST_NAMES = 20_000

#: Milliseconds that a name which was only *created* waits for its close, so that one wake does for both.
_LINGER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What was noted since the last look."""

    names: frozenset[bytes]
    directories: frozenset[bytes]
    """Those of the names that are new directories."""
    lost: bool
    """Something was missed: only a full scan can tell what."""


class Events:
    """The kernel's reports for one directory tree, noted for the stream's thread."""

    def __init__(self, root: bytes, *, changes: bool, wake: Callable[[], None]) -> None:
        """Given the tree's path, whether deletions and attribute changes matter, and how to wake the reader, begin.

        Nothing is watched yet. Raise OSError where the system allows no further instance of inotify.
        """
        self._root = root
        self._mask = _ARRIVALS | (_CHANGES if changes else 0)
        self._wake = wake
        self._lock = threading.Lock()
        self._names: set[bytes] = set()
        self._directories: set[bytes] = set()
        self._lost = False
        self._woken = False
        """Whether the reader was woken and has not looked yet."""
        self._lingered = False
        self._places: dict[WatchDescriptor, bytes] = {}
        """Watch descriptors, and the names of their directories."""
        self._watches: dict[bytes, WatchDescriptor] = {}
        """The same the other way round."""
        self._inotify = _Inotify(self._hear)
        self._inotify.start()

    def watch(self, name: bytes) -> None:
        """Given a directory's name (empty for the root), watch it, or make sure of it. Raise OSError if that fails.

        The kernel watches directories, not names: one that is known by another name changes its name.
        """
        path = self._root + b"/" + name if name else self._root
        mask = self._mask | (_BELOW if name else _ROOT)
        with self._lock:
            watch = self._inotify.add(path, Mask(mask))
            if self._places.get(watch) == name:
                return
            former = self._places.get(watch)
            if former is not None:
                del self._watches[former]
            if name in self._watches:
                self._drop(name)
            self._places[watch] = name
            self._watches[name] = watch

    def watches(self, name: bytes) -> bool:
        """Given a directory's name, tell whether it is being watched."""
        return name in self._watches

    def stop(self) -> None:
        """End watching."""
        self._inotify.stop()
        self._inotify.join(timeout=5)

    @property
    def alive(self) -> bool:
        """Whether the watching thread still runs."""
        return self._inotify.is_alive()

    @property
    def waiting(self) -> bool:
        """Whether there is something to take."""
        return bool(self._names or self._lost)

    def take(self) -> Hints:
        """Return what was noted and forget it."""
        with self._lock:
            hints = Hints(names=frozenset(self._names), directories=frozenset(self._directories), lost=self._lost)
            self._forget_names()
            self._lost = self._woken = False
        return hints

    # -- the watching thread ------------------------------------------------------------------

    def _hear(self, events: list[InotifyEvent]) -> None:
        with self._lock:
            urgent = False
            for event in events:
                urgent |= self._note(event)
            if len(self._names) > _MOST_NAMES:
                self._forget_names()
                self._lost = urgent = True
            if self._woken or not self.waiting:
                return
        if not urgent and not self._lingered and self._inotify.more(_LINGER):
            self._lingered = True
            return
        self._lingered = False
        self._woken = True
        self._wake()

    def _note(self, event: InotifyEvent) -> bool:
        """Note one event; return whether the reader should look at once."""
        mask = event.mask
        if mask & InotifyConstants.IN_Q_OVERFLOW:
            self._lost = True
            return True
        place = self._places.get(event.wd)
        if place is None:
            return False
        if mask & InotifyConstants.IN_IGNORED:
            # The directory is gone, or its filesystem.
            del self._watches[self._places.pop(event.wd)]
        if not event.name:
            # It is about the watched directory itself: its parent's watch has told of it, but the root has none.
            self._lost = self._lost or (not place and bool(mask & _ROOT_LOST))
            return self._lost
        name = place + b"/" + event.name if place else event.name
        if mask & _IS_DIRECTORY and mask & _MOVED_AWAY:
            self._forget_tree(name)
        self._names.add(name)
        if mask & _IS_DIRECTORY and mask & _NEW:
            self._directories.add(name)
        return mask & (_CREATED | _IS_DIRECTORY) != _CREATED

    def _forget_names(self) -> None:
        self._names.clear()
        self._directories.clear()

    def _forget_tree(self, top: bytes) -> None:
        """Watch what was moved away no longer; if it is still in the tree, a scan finds it under its new name."""
        if top in self._watches:
            prefix = top + b"/"
            for name in [name for name in self._watches if name == top or name.startswith(prefix)]:
                self._drop(name)

    def _drop(self, name: bytes) -> None:
        watch = self._watches.pop(name)
        del self._places[watch]
        self._inotify.remove(watch)


class _Inotify(InotifyFD):
    """Watchdog's thread around one inotify instance, with its events told as they are read, many at a time."""

    def __init__(self, hear: Callable[[list[InotifyEvent]], None]) -> None:
        super().__init__()
        self._hear = hear
        self._poll = select.poll()
        self._poll.register(self._inotify_fd, select.POLLIN)

    def run(self) -> None:
        while self.should_keep_running():
            self._hear(self.read_events())

    def more(self, milliseconds: int) -> bool:
        """Given a limit, wait for the next event; return whether it came."""
        return bool(self._poll.poll(milliseconds))

    def add(self, path: bytes, mask: Mask) -> WatchDescriptor:
        """Given a directory and what to tell of it, return its watch. Raise OSError."""
        watch = inotify_add_watch(self._inotify_fd, path, mask)
        if watch == -1:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return watch

    def remove(self, watch: WatchDescriptor) -> None:
        """Given a watch, end it; it may have ended already."""
        inotify_rm_watch(self._inotify_fd, watch)

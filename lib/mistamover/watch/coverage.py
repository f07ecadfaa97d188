"""How much of a tree is watched: all of it, what the system allows, or nothing.

Where a part is not watched, scans do its work, and each full scan tries again.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from mistamover.config.settings import WatchMode
from mistamover.files.names import display
from mistamover.watch.events import Events, Hints
from mistamover.watch.filesystem import filesystem_type, reports_changes
from mistamover.watch.scan import directories

logger = logging.getLogger(__name__)

#: The system gives no more: of watches, of memory for them.
_NO_MORE = frozenset({errno.ENOSPC, errno.ENOMEM})

_WORDS = {
    errno.ENOSPC: "the limit fs.inotify.max_user_watches is reached",
    errno.EMFILE: "the limit fs.inotify.max_user_instances, or that of open files, is reached",
}


class Coverage:
    """The watches of one tree, and what is missing of them."""

    def __init__(self, root: bytes, *, changes: bool, mode: WatchMode, wake: Callable[[], None]) -> None:
        """Given the tree's path, whether deletions and attribute changes matter, and whom to wake, do nothing yet."""
        self._root = root
        self._changes = changes
        self._mode = mode
        self._wake = wake
        self._events: Events | None = None
        self._never = ""
        """Why there is no point in watching; empty if there is."""
        self._refused = False
        """Whether a watch was refused since the last full scan began."""
        self.gap = ""
        """Why changes must be looked for by scans, in words; empty while everything is watched."""

    def start(self) -> None:
        """Begin to watch, where that makes sense; what is watched is told by `watch`."""
        self._never = self.gap = _why_never(self._root, self._mode)
        if not self._never:
            self._open()
        elif self._mode is WatchMode.AUTO:
            logger.warning("%s: %s", display(self._root), self._never)

    def stop(self) -> None:
        """End watching."""
        if self._events is not None:
            self._events.stop()
            self._events = None

    # -- hints --------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether there are hints to take."""
        return self._events is not None and self._events.waiting

    def take(self) -> Hints | None:
        """Return what was heard since the last call; None if that is nothing, or nothing is watched."""
        if self._events is None:
            return None
        if not self._events.alive:
            logger.error("watching %s ended unexpectedly: starting it anew", display(self._root))
            self.stop()
            self._open()
            return Hints(names=frozenset(), directories=frozenset(), lost=True)
        return self._events.take() if self._events.waiting else None

    # -- watches ------------------------------------------------------------------------------

    def begin_scan(self) -> None:
        """Take note that a full scan begins: what was refused before is tried again."""
        self._refused = False
        if self._events is None and not self._never:
            self._open()

    def end_scan(self) -> None:
        """Take note that a full scan has ended: each directory was either watched or refused."""
        if self.gap and not self._refused and self._events is not None:
            logger.warning("%s: all of it is watched now", display(self._root))
            self.gap = ""

    def watch(self, name: bytes) -> None:
        """Given the name of a directory that is about to be listed, watch it, if possible."""
        if self._events is None or (self._refused and not self._events.watches(name)):
            return
        try:
            self._events.watch(name)
        except OSError as error:
            # One that is gone or must not be read is no gap: listing it tells.  Without the root there is nothing.
            if not name or error.errno in _NO_MORE:
                self._miss(error)

    def watch_tree(self, top: bytes, *, anew: bool) -> None:
        """Given the name of a directory that nobody lists, watch all that is below, known ones only if told to."""
        if self._events is None or (self._events.watches(top) and not anew):
            return
        for name in directories(self._root, top):
            self.watch(name)

    def _open(self) -> None:
        try:
            self._events = Events(self._root, changes=self._changes, wake=self._wake)
        except OSError as error:
            self._miss(error)

    def _miss(self, error: OSError) -> None:
        self._refused = True
        words = _WORDS.get(error.errno or 0, error.strerror or f"{error}")
        gap = f"not all of it can be watched ({words}), so it is scanned every few seconds"
        if gap != self.gap:
            logger.warning("%s: %s", display(self._root), gap)
            self.gap = gap


def _why_never(root: bytes, mode: WatchMode) -> str:
    if mode is WatchMode.POLL:
        return "it is only scanned, as its key watch says"
    if mode is WatchMode.AUTO and not reports_changes(root):
        return f"its filesystem ({filesystem_type(root)}) does not report changes of other hosts, so it is only scanned"
    return ""

"""What need not be listed again: directories in which nothing was to be done, and that have not changed since.

A directory that holds a unit is never remembered, so whatever becomes of that unit
(forgotten for want of room, rewritten in place, made readable), every scan sees it
anew.  In one without units, or with such only as are ignored by their names, only
something new matters, and whatever is new changes the directory's own times.  The
kernel writes these in ticks, so a directory that had changed just before it was
listed is not remembered either ("racy", as git says).

Reading a directory may cost far more than its few names: on ext4 one that ever held
a million names stays that long.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from mistamover.files.identity import identity_of
from mistamover.model import Identity

#: Directories that are remembered at most; what is beyond is listed by every scan.
_LIMIT = 100_000

#: How much older than its listing a directory's times must be: two changes within one tick of the filesystem's clock
#: look like one.  The coarsest clock that is left counts in 2 s (FAT), the usual one in 4 ms.
_MARGIN = 3.0


class Contents(NamedTuple):
    """What is to be known of a directory without listing it."""

    entries: int
    """How many names, our own and the excluded included."""
    directories: tuple[bytes, ...]
    """Names, relative to the root, of the directories that a scan visits next."""


class Memory:
    """Directories in which nothing is to be done, as the last full scan found them."""

    def __init__(self, margin: float = _MARGIN, limit: int = _LIMIT) -> None:
        """Given the margin in seconds and how many directories may be remembered, know of none."""
        self._margin_ns = int(margin * 1e9)
        self._limit = limit
        self._known: dict[bytes, tuple[Identity, Contents]] = {}
        self._fresh: dict[bytes, tuple[Identity, Contents]] = {}
        self._device = 0

    def __len__(self) -> int:
        return len(self._known)

    def clear(self) -> None:
        """Forget everything: the next scan lists all there is."""
        self._known = {}

    def begin(self) -> None:
        """Begin a full scan of a whole tree."""
        self._fresh = {}

    def end(self) -> None:
        """End a full scan: what it did not come across is forgotten."""
        self._known, self._fresh = self._fresh, {}

    def recall(self, name: bytes, status: os.stat_result) -> Contents | None:
        """Given a directory's name and its stat, return what it holds if that need not be listed."""
        if not name:
            # What is mounted below the root may show its changes less reliably, and is left out.
            self._device = status.st_dev
        known = self._known.get(name)
        if known is None or known[0] != identity_of(status):
            return None
        self._fresh[name] = known
        return known[1]

    def learn(self, name: bytes, status: os.stat_result, looked_ns: int, contents: Contents) -> None:
        """Given a directory in which nothing is to be done, its stat and its contents, remember it, if that is safe.

        The wall clock must have been looked at before the stat was made, and that before the directory was listed: what
        came meanwhile then shows next time.
        """
        newest = max(status.st_mtime_ns, status.st_ctime_ns)
        if status.st_dev == self._device and newest < looked_ns - self._margin_ns and len(self._fresh) < self._limit:
            self._fresh[name] = (identity_of(status), contents)

"""Directories in a stream of files: those that a move has emptied, and those that came empty.

An emptied directory goes away once nobody else has put anything into it for a
while, so that a producer who is about to write still finds it.
"""

from __future__ import annotations

import os

from mistamover.files.names import display, parent


class Directories:
    """Which directories of a move are empty, and since when they have been quiet."""

    def __init__(self, root: bytes, age: float) -> None:
        """Given the stream's directory and how long an empty directory must be quiet, know of none."""
        self._root = root
        self._age = age
        self._emptied: dict[bytes, float] = {}
        self._empty: dict[bytes, float] = {}

    def arrived(self, name: bytes, now: float) -> None:
        """Given the name of something new, note that its directory is in use."""
        above = parent(name)
        if above in self._emptied:
            self._emptied[above] = now

    def left(self, name: bytes, changed: float) -> None:
        """Given the name of a unit that was moved away, and when its owner last changed it, watch its directory."""
        above = parent(name)
        if above:
            self._emptied[above] = max(changed, self._emptied.get(above, 0.0))
            self._empty.pop(above, None)

    def seen(self, name: bytes, entries: int, changed: float) -> None:
        """Given a directory from a scan, how many names it held and when it changed, note it if it came empty."""
        if entries or name in self._emptied:
            self._empty.pop(name, None)
        else:
            self._empty[name] = changed

    def due_empty(self, now: float) -> list[bytes]:
        """Given the time, return directories that came empty and are old enough to be sent, and forget them."""
        due = [name for name, changed in self._empty.items() if changed + self._age <= now]
        for name in due:
            del self._empty[name]
        return due

    def remove_emptied(self, now: float) -> int:
        """Given the time, remove what was emptied by the move and is quiet; return how many directories went."""
        removed = 0
        for name in sorted(self._emptied, key=lambda n: n.count(b"/"), reverse=True):
            changed = self._emptied.get(name)
            if changed is None or changed + self._age > now:
                continue
            del self._emptied[name]
            try:
                os.rmdir(self._root + b"/" + name)
            except OSError:
                # Something is in it, or it went by itself: it is noted again when the move empties it again.
                continue
            removed += 1
            above = parent(name)
            if above:
                self._emptied[above] = max(changed, self._emptied.get(above, 0.0))
        return removed

    def next_time(self) -> float | None:
        """Return when the next directory will have been quiet for long enough."""
        times = [*self._emptied.values(), *self._empty.values()]
        return min(times) + self._age if times else None

    def __len__(self) -> int:
        return len(self._emptied) + len(self._empty)

    def names(self) -> list[str]:
        """Return what is being watched, for people."""
        return [display(name) for name in (*self._emptied, *self._empty)]

"""What the tests of arrivals share: a reader that remembers all it saw, and the kernel's own word on watches."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

from mistamover.config.settings import WatchMode
from mistamover.model import Kind
from mistamover.watch.arrivals import Arrivals
from mistamover.watch.scan import Sighting
from support import wait_until


class Watch:
    """Arrivals of one directory, with all that was sighted so far."""

    def __init__(self, root: Path, **more: object) -> None:
        self.root = root
        self.woken = threading.Event()
        options: dict[str, object] = {
            "excluded": frozenset(),
            "whole_directories": False,
            "changes": False,
            "mode": WatchMode.EVENTS,
            "rescan_interval": 3600.0,
            "wake": self.woken.set,
            **more,
        }
        self.arrivals = Arrivals(os.fsencode(root), **options)  # type: ignore[arg-type]
        self.seen: list[Sighting] = []
        self.arrivals.start()

    def look(self, room: int = 100_000) -> set[bytes]:
        """Take what there is; return the names of everything that was sighted as being there."""
        self.seen += self.arrivals.take(room)
        return {s.name for s in self.seen if s.status is not None and s.kind is not Kind.DIRECTORY}

    def until(self, *names: bytes) -> None:
        """Wait until all of the names were sighted."""
        wait_until(lambda: self.look() >= set(names), 10, f"sighted {names!r}")

    def scan_again(self) -> set[bytes]:
        """Forget what was sighted, have everything looked at, and return the names of what is there."""
        self.seen.clear()
        self.arrivals.request_scan()
        return self.look()


def units(root: Path) -> set[bytes]:
    """Given a directory, return the names of everything below it that is not a directory."""
    return set(_units(os.fsencode(root), b""))


def _units(root: bytes, prefix: bytes) -> Iterator[bytes]:
    with os.scandir(root + b"/" + prefix) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from _units(root, name + b"/")
            else:
                yield name


def kernel_watches() -> int:
    """Return how many directories this process watches, by the kernel's count."""
    count = 0
    for information in Path("/proc/self/fdinfo").iterdir():
        try:
            count += information.read_text().count("inotify wd:")
        except FileNotFoundError:
            continue
    return count

"""What may lie half written at a target after a crash: remembered here, cleaned there.

rsync writes beside the final name, under a dot-name (`.NAME.XXXXXX`), and renames.  A
marked directory for temporary files would be easier to clean, but was measured to
cost as much as the whole transfer again (10,000 small files, ext4: 0.72 s against 1.91 s), because
every rename then crosses directories.  So the names of every batch under way are kept
in a file until its rsync has ended well; what is found there after a crash is
cleaned before anything else is sent.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from mistamover.files.durable import write_whole

_PREFIX = "sending-"

#: rsync cuts long names to make room for its decoration; from here on the glob must allow for that.
_LONG = 235


class Leftovers:
    """The names of all batches that are under way to one target, on disk."""

    def __init__(self, run_dir: Path) -> None:
        """Given a private directory, know of what a predecessor left there."""
        self._run_dir = run_dir
        self._numbers = itertools.count(1)
        self._mine: set[Path] = set()
        # One lane looks for what ended badly while another begins or ends a batch.
        self._lock = threading.Lock()

    def begin(self, names: Iterable[bytes], *, durable: bool = False) -> Path:
        """Given the names of a batch, remember them; return what `end` takes. Raise OSError.

        `durable`: also when this host loses power, as is needed where nobody at the target cleans up by himself.
        """
        with self._lock:
            path = self._run_dir / f"{_PREFIX}{next(self._numbers)}"
            while path.exists():
                path = self._run_dir / f"{_PREFIX}{next(self._numbers)}"
            # rsync's need no flush: if this host loses power, the far rsync sees the connection end, and cleans up.
            write_whole(path, b"\0".join(names), durable=durable)
            self._mine.add(path)
        return path

    def end(self, batch: Path) -> None:
        """Given a batch of which nothing can be left, forget it."""
        with self._lock:
            batch.unlink(missing_ok=True)
            self._mine.discard(batch)

    def fail(self, batch: Path) -> None:
        """Given a batch of which something may be left, let `found` return it."""
        with self._lock:
            self._mine.discard(batch)

    def found(self) -> list[tuple[Path, list[bytes]]]:
        """Return every batch that ended badly, this process's and its predecessors', with its names."""
        with self._lock:
            paths = sorted(path for path in self._run_dir.glob(f"{_PREFIX}*") if path not in self._mine)
            return [(path, path.read_bytes().split(b"\0")) for path in paths]


def temporary_prefixes(names: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Given names, return how rsync's temporary names for them begin: whole ones, and those that it may have cut.

    A whole one is followed by `.XXXXXX`; a cut one by anything and then `.XXXXXX`.
    """
    whole, cut = [], []
    for name in names:
        above, slash, last = name.rpartition(b"/")
        if len(last) < _LONG:
            whole.append(above + slash + b"." + last)
        else:
            cut.append(above + slash + b"." + last[: _LONG - 5])
    return whole, cut

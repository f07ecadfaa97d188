"""A bounded queue of messages on disk: one file each, in order, kept until it is handed over."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from mistamover.files.durable import sync_directory, write_whole

logger = logging.getLogger(__name__)

#: Messages that are kept; beyond them the oldest goes.
MOST = 200

_SUFFIX = ".json"
_DROPPED = "dropped"


class Queue:
    """Messages that wait; one process puts them in and takes them out."""

    def __init__(self, directory: Path, *, most: int = MOST) -> None:
        """Given a directory and how many messages it may hold, use it; it is made if need be. Raise OSError."""
        self._directory = directory
        self._most = most
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, name: str, content: bytes) -> None:
        """Given a message and its name, keep it durably; nothing is done if it waits already. Raise OSError."""
        waiting = self.waiting()
        if any(_name_of(path) == name for path in waiting):
            return
        for path in waiting[: max(0, len(waiting) + 1 - self._most)]:
            logger.error("%d messages wait: the oldest one, %s, is dropped", len(waiting), _name_of(path))
            # Counted first: a crash in between may count one too many, never one too few.
            self._set_dropped(self.dropped + 1)
            self.remove(path)
        last = int(waiting[-1].name.partition("-")[0]) if waiting else 0
        # A clock that was set back must not bring a message before an older one.
        write_whole(self._directory / f"{max(time.time_ns(), last + 1):020d}-{name}{_SUFFIX}", content)

    def waiting(self) -> list[Path]:
        """Return the files of the messages that wait, the oldest first."""
        return sorted(self._directory.glob(f"[0-9]*-*{_SUFFIX}"))

    def remove(self, path: Path) -> None:
        """Given a message that was handed over, forget it. Raise OSError."""
        path.unlink(missing_ok=True)
        sync_directory(self._directory)

    @property
    def dropped(self) -> int:
        """How many messages were dropped since `clear_dropped`."""
        try:
            return int((self._directory / _DROPPED).read_text())
        except (OSError, ValueError):
            return 0

    def clear_dropped(self, told: int) -> None:
        """Given a number of dropped messages that was told, count them no more. Raise OSError."""
        if told:
            self._set_dropped(max(0, self.dropped - told))

    def _set_dropped(self, number: int) -> None:
        write_whole(self._directory / _DROPPED, b"%d" % number)


def _name_of(path: Path) -> str:
    return os.path.basename(path).partition("-")[2].removesuffix(_SUFFIX)

"""The process of the disk guard, as its master sees it: started where there is something to watch."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable

from mistamover.config.settings import LogSettings, Settings
from mistamover.disk.watch import Watch
from mistamover.master.fork import end_within
from mistamover.report import disks

logger = logging.getLogger(__name__)

#: Seconds before it is started again when it has died.
_PAUSE = 5.0

#: Seconds that it gets to end.
_END = 5.0

Fork = Callable[[Callable[[], int]], int]


class DiskProcess:
    """The process `disk`; the clock and the fork are given."""

    def __init__(self, *, fork: Fork) -> None:
        """Given how to run a function in a process of its own (returns the process's number), run nothing yet."""
        self._fork = fork
        self._wanted: tuple[Watch, LogSettings, bool] | None = None
        self._running: tuple[Watch, LogSettings, bool] | None = None
        self._start_at: float | None = None
        self.pid: int | None = None

    def consider(self, settings: Settings, now: float) -> None:
        """Given the settings and the time, see to it that the guard watches what they say.

        Where they ask for none, one runs all the same if another one has left something to clear up.
        """
        watch = Watch(disk=settings.disk, streams=settings.streams, state_dir=settings.state_dir)
        needed = settings.disk.enabled or disks.is_there(settings.state_dir)
        self._wanted = (watch, settings.log, settings.debug) if needed else None
        if self.pid is None:
            self._start_at = now if needed else None
        elif self._wanted != self._running:
            logger.info("the disk guard: what it watches has changed: starting it anew")
            os.kill(self.pid, signal.SIGTERM)

    def tick(self, now: float) -> None:
        """Given the time, start it if that is due."""
        if self._start_at is None or now < self._start_at or self._wanted is None:
            return
        watch, log, debug = self._wanted
        self._start_at, self._running = None, self._wanted

        def run() -> int:
            # Here, so that the streams do not carry what only the guard needs.
            from mistamover.disk import process

            return process.run(watch, log, debug=debug)

        self.pid = self._fork(run)

    def exited(self, code: int, words: str, now: float) -> None:
        """Given how it ended, as a number and in words, and the time, plan the next start."""
        self.pid = None
        if self._wanted != self._running:
            self._start_at = now
        elif code == 0 and self._wanted is not None and not self._wanted[0].disk.enabled:
            # It has cleared up.
            self._wanted = None
        else:
            logger.error("the disk guard %s; starting it again in %g s", words, _PAUSE)
            self._start_at = now + _PAUSE

    def next_moment(self) -> float | None:
        """Return when `tick` has something to do."""
        return self._start_at if self._wanted is not None else None

    def stop(self) -> None:
        """Ask it to end; stop files stay, as the room on the disk does."""
        self._start_at = self._wanted = None
        if self.pid is not None:
            end_within(self.pid, _END)
            self.pid = None

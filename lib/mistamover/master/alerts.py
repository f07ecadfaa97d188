"""The process of alerts, as its master sees it: started only if somebody is to be told something."""

from __future__ import annotations

import logging
import os
import signal
import time
from functools import partial

from mistamover.config.settings import Settings
from mistamover.master.fork import end_within
from mistamover.master.links import Fork

logger = logging.getLogger(__name__)

#: Seconds that it gets to end.
_END = 5.0


class AlertsProcess:
    """The process `alerts`; the clock and the fork are given."""

    def __init__(self, fork: Fork) -> None:
        """Given how to run a function in a process of its own (returns the process's number), run nothing yet."""
        self._fork = fork
        self._settings: Settings | None = None
        self._began = 0.0
        self._start_at: float | None = None
        self._replaced = False
        self.pid: int | None = None

    def consider(self, settings: Settings, now: float) -> None:
        """Given the settings in force and the time, see to it that it runs with them, or not at all."""
        wanted = settings if settings.alerts is not None else None
        if wanted == self._settings:
            return
        self._settings = wanted
        # Before the streams are started: what they deliver from now on is news.
        self._began = time.time()
        self._start_at = now if wanted is not None else None
        if self.pid is not None:
            self._replaced = True
            os.kill(self.pid, signal.SIGTERM)

    def tick(self, now: float) -> None:
        """Given the time, start it if that is due."""
        if self._start_at is None or now < self._start_at or self.pid is not None or self._settings is None:
            return
        # Most sites tell nobody; here and not in the child, which may come when a newer version is installed.
        from mistamover.alerts import process

        self._start_at = None
        self.pid = self._fork(partial(process.run, self._settings, self._began))
        logger.info("alerts are told by process %d", self.pid)

    def exited(self, words: str, now: float) -> None:
        """Given how it ended, and the time, plan the next start."""
        self.pid = None
        if self._replaced:
            self._replaced = False
        elif self._settings is not None:
            # What it has to tell waits on the disk.
            pause = self._settings.restart_pause
            logger.error("the process of alerts %s; starting it again in %g s", words, pause)
            self._start_at = now + pause

    def next_moment(self) -> float | None:
        """Return when `tick` has something to do."""
        return self._start_at if self.pid is None else None

    def stop(self) -> None:
        """Ask it to end, now that nothing happens any more."""
        self._start_at = None
        if self.pid is not None:
            end_within(self.pid, _END)
            self.pid = None

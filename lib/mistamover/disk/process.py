"""The process of the disk guard: entered after the fork, looks around every `poll_interval` until SIGTERM."""

from __future__ import annotations

import logging
import os
import select
import signal
from types import FrameType

from setproctitle import setproctitle

from mistamover.config.settings import LogSettings
from mistamover.disk.guard import DiskGuard
from mistamover.disk.watch import Watch
from mistamover.files import leases
from mistamover.report import logs

logger = logging.getLogger(__name__)

#: How it ends, for the master.
DONE, BROKEN = 0, 1


def run(watch: Watch, log: LogSettings, *, debug: bool) -> int:
    """Given what to watch and how to log, guard it until SIGTERM; with nothing to watch, clear up and end."""
    setproctitle("mistamover: disk")
    logs.start(log, "disk", to_stderr=False, debug=debug)
    leases.hear_breaks()
    wake = _Wake()
    guard = DiskGuard(watch, stopping=lambda: wake.stopping)
    try:
        if not watch.disk.enabled:
            guard.release()
        else:
            _serve(guard, wake, watch.disk.poll_interval)
    except Exception:
        logger.exception("the disk guard ends because of an error")
        return BROKEN
    return DONE


def _serve(guard: DiskGuard, wake: _Wake, pause: float) -> None:
    while not wake.stopping:
        guard.round()
        wake.wait(pause)


class _Wake:
    """Signals, as something to wait for."""

    def __init__(self) -> None:
        self.stopping = False
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGHUP, lambda _signal, _frame: None)
        # The terminal sends it to the whole group; the master decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def wait(self, seconds: float) -> None:
        """Given a time, wait for so long, or until a signal comes."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if poll.poll(1000 * seconds):
            os.read(self._read, 4096)

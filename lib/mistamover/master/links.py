"""The process that keeps what streams share: started when two of them go the same way, and kept from then on."""

from __future__ import annotations

import logging
import signal
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from setproctitle import setproctitle

from mistamover.config.settings import LogSettings, StreamSettings
from mistamover.links import messages
from mistamover.links.holder import Holder
from mistamover.links.login import Login
from mistamover.master.fork import end_within
from mistamover.report import logs

logger = logging.getLogger(__name__)

#: Seconds before it is started again when it has died; streams log in for themselves meanwhile.
_PAUSE = 2.0

#: Seconds before it is tried again where it cannot be reached at all.
_LONG_PAUSE = 30.0

#: Seconds that it gets to end.
_END = 5.0


Fork = Callable[[Callable[[], int]], int]


class LinksProcess:
    """The process `links`, as its master sees it; the clock and the fork are given."""

    def __init__(self, directory: Path, log: LogSettings, *, debug: bool, fork: Fork) -> None:
        """Given the directory for its sockets, how to log, and how to run a function in a process of its own (returns
        the process's number), run nothing yet.
        """
        self._directory = directory
        self._log = log
        self._debug = debug
        self._fork = fork
        self.pid: int | None = None
        self._start_at: float | None = None

    def consider(self, streams: Iterable[StreamSettings], now: float) -> None:
        """Given the streams that are to run, and the time, see to it that it runs if it is of use to them."""
        if self.pid is None and shares(streams):
            self._start_at = self._start_at or now

    def tick(self, now: float) -> None:
        """Given the time, start it if that is due."""
        if self._start_at is not None and now >= self._start_at:
            self._start_at = None
            # Here, so that streams that are started next find it.
            try:
                listener = messages.listen(self._directory)
            except OSError as error:
                # The disk may be full: no reason for the master to end, each stream logs in for itself.
                logger.error("cannot share connections: %s; trying again in %g s", error, _LONG_PAUSE)
                self._start_at = now + _LONG_PAUSE
                return
            with listener:
                self.pid = self._fork(lambda: run(self._directory, listener, self._log, debug=self._debug))
            logger.info("streams share connections: kept by process %d", self.pid)

    def exited(self, words: str, now: float) -> None:
        """Given how it ended, and the time, plan the next start."""
        logger.error("the process that keeps shared connections %s; starting it again in %g s", words, _PAUSE)
        self.pid = None
        self._start_at = now + _PAUSE

    def next_moment(self) -> float | None:
        """Return when `tick` has something to do."""
        return self._start_at

    def stop(self) -> None:
        """Ask it to end, now that no stream needs it any more."""
        self._start_at = None
        if self.pid is None:
            return
        end_within(self.pid, _END)
        self.pid = None


def shares(streams: Iterable[StreamSettings]) -> bool:
    """Given streams, tell whether two of them log in at the same place in the same way."""
    targets = (target for stream in streams for target in stream.targets if target.protocol == "rsync_ssh")
    ways = Counter(map(Login.of, targets))
    return any(number > 1 for number in ways.values())


def run(directory: Path, listener: socket.socket, log: LogSettings, *, debug: bool) -> int:
    """Given the directory for sockets, where questions come, and how to log, keep connections until SIGTERM."""
    setproctitle("mistamover: links")
    logs.start(log, "links", to_stderr=False, debug=debug)
    holder = Holder(directory, listener)
    signal.signal(signal.SIGTERM, holder.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        holder.serve()
    except Exception:
        logger.exception("the process that keeps shared connections ends because of an error")
        return 1
    return 0

"""The life of a process that has to stay, a stream's above all, as its master sees it.

Pure: the clock is given, nothing is started here.

    STARTING -> RUNNING -> STOPPING -> (gone)
        \\          \\
         `-> BACKOFF <-'   -> STARTING when its time has come
                              ENDED: it ended by itself, and well

There is no state in which a stream is given up: an agent that nobody watches keeps
trying, ever more slowly, and says so.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mistamover.report.mastership import ChildReport

#: Seconds after which a process counts as running well.
START_SECONDS = 5.0

#: Seconds before a restart at most: the first pause is doubled up to this.
_LONGEST_PAUSE = 60.0

#: Seconds beyond its own `stop_timeout` after which a process is killed.
_KILL_AFTER = 15.0


class ChildState(enum.Enum):
    """See the module."""

    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    ENDED = "ENDED"


class Wish(enum.Enum):
    """What the master should do for a child now."""

    NOTHING = "nothing"
    START = "start"
    KILL = "kill"


def label(name: str, *, arrivals: bool) -> str:
    """Given a stream's name, and whether its arrival monitor is meant, return who it is, for people."""
    return f"arrivals of stream {name}" if arrivals else f"stream {name}"


class Served(Protocol):
    """What is served by a process."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def stop_timeout(self) -> float:
        """Seconds that its process gets to end."""


S = TypeVar("S", bound=Served)


@dataclass(slots=True, kw_only=True)
class Child(Generic[S]):
    """One process and what it serves; changed by its master only."""

    settings: S
    arrivals: bool = False
    """Whether it is the stream's arrival monitor, and not what sends."""
    first_pause: float = 1.0
    """Seconds before the first restart."""
    state: ChildState = ChildState.BACKOFF
    pid: int | None = None
    since: float = 0.0
    """When the state began (seconds, of the master's clock)."""
    retry_at: float = 0.0
    failures: int = 0
    """Ends in a row that nobody asked for."""
    restarts: int = 0
    last_exit: str = ""
    successor: S | None = None
    """Settings with which it is to be started again once it has stopped."""

    @property
    def label(self) -> str:
        """Who it is, for people."""
        return label(self.settings.name, arrivals=self.arrivals)

    def started(self, pid: int, now: float) -> None:
        """Given the new process, take note."""
        self.pid = pid
        self.state = ChildState.STARTING
        self.since = now

    def stop(self, now: float, successor: S | None = None) -> bool:
        """Given the time and what is to follow, begin to stop; return whether a process must be told."""
        self.successor = successor
        if self.pid is None:
            self._stopped(now)
            return False
        if self.state is not ChildState.STOPPING:
            self.state = ChildState.STOPPING
            self.since = now
        return True

    def exited(self, how: str, well: bool, now: float) -> None:
        """Given how the process ended, whether it ended by itself and well, and the time, go to the next state."""
        self.pid = None
        self.last_exit = how
        if self.state is ChildState.STOPPING:
            self._stopped(now)
            return
        if well:
            self.state = ChildState.ENDED
            self.since = now
            return
        if now - self.since > self.pause():
            # It has run for longer than it was kept waiting: this is another trouble.
            self.failures = 0
        self.failures += 1
        self.restarts += 1
        self.state = ChildState.BACKOFF
        self.since = now
        self.retry_at = now + self.pause()

    def pause(self) -> float:
        """Return the seconds between the last failure and the restart; 0 when there was none."""
        if not self.failures:
            return 0.0
        return min(_LONGEST_PAUSE, self.first_pause * 2.0 ** min(self.failures - 1, 10))

    def hurry(self, now: float) -> None:
        """Given the time, let a restart that waits go at once: the operator asked for it."""
        self.retry_at = min(self.retry_at, now)

    def tick(self, now: float) -> Wish:
        """Given the time, go on to the state that is due, and return what the master should do."""
        if self.state is ChildState.STARTING and now - self.since >= START_SECONDS:
            # `since` stays: it tells how long the process has run when it ends.
            self.state = ChildState.RUNNING
        if self.state is ChildState.BACKOFF and now >= self.retry_at:
            return Wish.START
        if self.state is ChildState.STOPPING and now - self.since > self.settings.stop_timeout + _KILL_AFTER:
            return Wish.KILL
        return Wish.NOTHING

    def next_moment(self) -> float | None:
        """Return when `tick` has something to do; None if only an exit can change anything."""
        if self.state is ChildState.STARTING:
            return self.since + START_SECONDS
        if self.state is ChildState.BACKOFF:
            return self.retry_at
        if self.state is ChildState.STOPPING:
            return self.since + self.settings.stop_timeout + _KILL_AFTER + 0.1
        return None

    def report(self, name: str, now: float, wall: float) -> ChildReport:
        """Given what it is called there, the time, and the time for people, return what its master says of it."""
        return ChildReport(
            name=name,
            state=self.state.value,
            pid=self.pid,
            restarts=self.restarts,
            retry_at=wall + self.retry_at - now if self.state is ChildState.BACKOFF else None,
            last_exit=self.last_exit,
        )

    @property
    def gone(self) -> bool:
        """Whether it was stopped and nothing is to follow."""
        return self.state is ChildState.ENDED and self.last_exit == "stopped"

    def _stopped(self, now: float) -> None:
        self.since = now
        if self.successor is not None:
            self.settings, self.successor = self.successor, None
            self.state = ChildState.BACKOFF
            self.retry_at = now
            self.failures = 0
        else:
            self.state = ChildState.ENDED
            self.last_exit = "stopped"

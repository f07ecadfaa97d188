"""The processes beside the streams: shared connections, the disk guard, alerts and the job front, as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mistamover.config.settings import LINKS, Settings, StreamSettings
from mistamover.master.alerts import AlertsProcess
from mistamover.master.disk import DiskProcess
from mistamover.master.fork import how_it_ended
from mistamover.master.front import JobProcesses
from mistamover.master.links import LinksProcess
from mistamover.report.mastership import ChildReport

Fork = Callable[[Callable[[], int]], int]


class Helpers:
    """All of them; the clock and the fork are given."""

    def __init__(self, settings: Settings, fork: Fork) -> None:
        """Given the settings, and how to run a function in a process of its own, run nothing yet."""
        self._links = LinksProcess(settings.state_dir / LINKS, settings.log, debug=settings.debug, fork=fork)
        self._disk = DiskProcess(fork=fork)
        self._alerts = AlertsProcess(fork)
        self._jobs = JobProcesses(fork)

    def consider(self, settings: Settings, senders: Sequence[StreamSettings], now: float, *, links_only: bool) -> None:
        """Given the settings, the streams that are to send, and the time, see to it that those run that are needed."""
        self._links.consider(senders, now)
        if not links_only:
            self._disk.consider(settings, now)
            self._alerts.consider(settings, now)
            self._jobs.consider(settings, now)

    def tick(self, now: float) -> None:
        """Given the time, start and end what is due."""
        self._links.tick(now)
        self._disk.tick(now)
        self._alerts.tick(now)
        self._jobs.tick(now)

    def hurry(self, now: float) -> None:
        """Given the time, let restarts that wait go at once."""
        self._jobs.hurry(now)

    def exited(self, pid: int, code: int, now: float) -> None:
        """Given which process has ended, with what exit code, and the time, plan what follows."""
        if pid == self._links.pid:
            self._links.exited(how_it_ended(code), now)
        elif pid == self._disk.pid:
            self._disk.exited(code, how_it_ended(code), now)
        elif pid == self._alerts.pid:
            self._alerts.exited(how_it_ended(code), now)
        else:
            self._jobs.exited(pid, code, now)

    def next_moments(self) -> list[float | None]:
        """Return when `tick` has something to do."""
        others = (self._links.next_moment(), self._disk.next_moment(), self._alerts.next_moment())
        return [*others, *self._jobs.next_moments()]

    def reports(self, now: float, wall: float) -> tuple[ChildReport, ...]:
        """Given the time, and the time for people, return what is to be told of them."""
        return self._jobs.reports(now, wall)

    def begin_to_stop(self, now: float, *, at_once: bool) -> None:
        """Given the time, let those that take a while begin to end; kill them if it has to be at once."""
        self._jobs.stop(now)
        if at_once:
            self._jobs.kill()

    @property
    def at_rest(self) -> bool:
        """Whether those have ended that take a while."""
        return self._jobs.at_rest

    def stop(self) -> None:
        """End all that still run, now that no stream needs them any more."""
        self._jobs.kill()
        self._links.stop()
        self._disk.stop()
        self._alerts.stop()

"""What is known about every stream at one moment, gathered from snapshots, locks and ledgers.

Reads only.  How it is printed is `status_view`'s business.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mistamover.cli.common import is_held, is_served, reading
from mistamover.config.settings import Settings, StreamSettings, StreamStatus
from mistamover.errors import LedgerError
from mistamover.model import StreamState
from mistamover.report import alerting, arrivals, disks, mastership
from mistamover.report import snapshot as snapshots
from mistamover.report.alerting import AlertReport
from mistamover.report.arrivals import ArrivalsReport
from mistamover.report.disks import DisksReport
from mistamover.report.mastership import MasterReport
from mistamover.report.snapshot import Snapshot
from mistamover.stream import pause as pauses
from mistamover.stream.ledger import Totals, Trouble
from mistamover.stream.pause import Pause
from mistamover.stream.records import still_there

#: Seconds after which a rate that was published says nothing about now.
_RATE_HOLDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReport:
    """One stream; `snapshot` has the state that holds now, not the one that was written last."""

    name: str
    settings: StreamSettings | None
    """None for a stream that is no longer configured."""
    snapshot: Snapshot
    served: bool
    known: bool
    """Whether a process of this stream has ever said anything."""
    totals: Totals | None
    quarantined: tuple[Trouble, ...]
    """What is in quarantine now; the snapshot counts since the start of its process."""
    problem: str | None
    """Why the ledger cannot be read."""
    receives: bool = False
    """Whether a process serves its arrival monitor."""
    pause: Pause | None = None
    """Who has paused it; None if nobody has."""
    arrivals: ArrivalsReport | None = None
    """What that said last; None without one."""

    @property
    def should_run(self) -> bool:
        """Whether the configuration wants a process for it."""
        return should_run(self.settings)

    @property
    def should_receive(self) -> bool:
        """Whether the configuration wants an arrival monitor for it."""
        settings = self.settings
        return settings is not None and settings.status is StreamStatus.RUNNING and settings.monitor is not None

    @property
    def well(self) -> bool:
        """Whether there is nothing that an operator has to look after."""
        down = (self.should_run and self.snapshot.state is StreamState.DOWN) or (
            self.should_receive and not self.receives
        )
        unreachable = self.snapshot.state is StreamState.UNREACHABLE
        return not (down or unreachable or self.quarantined or self.problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteReport:
    """Everything that `status` shows, at the moment `now`."""

    settings: Settings
    now: float
    master: MasterReport | None
    """None when no master runs."""
    streams: tuple[StreamReport, ...]
    problems: tuple[str, ...] = ()
    disks: DisksReport | None = None
    """None when nobody is to watch the disks, or nobody has looked yet."""
    alerts: AlertReport | None = None
    """None when nobody is to be told anything, or the process of alerts has not said anything yet."""

    @property
    def serves_jobs(self) -> bool:
        """Whether the configuration wants the job front."""
        return self.settings.jobs is not None and self.settings.jobs.enabled

    @property
    def well(self) -> bool:
        """Whether every stream is well, and the configuration, the disks, the alerts and the job front as well."""
        full = self.disks is not None and any(each.level == "VLOW" for each in self.disks.filesystems)
        told = self.alerts is None or self.alerts.well
        configured = not (self.master and self.master.problems)
        helpers = self.master.helpers if self.master is not None else ()
        served = not self.serves_jobs or (bool(helpers) and all(each.pid is not None for each in helpers))
        return all(stream.well for stream in self.streams) and configured and told and served and not full


def report_on(
    settings: Settings,
    streams: Sequence[StreamSettings],
    *,
    with_unconfigured: bool,
    now: float,
    problems: tuple[str, ...] = (),
) -> SiteReport:
    """Given the settings, which streams, and the time, return what is known. Raise MistamoverError."""
    reports = [_report(stream.name, stream, stream.state_dir, now) for stream in streams]
    if with_unconfigured:
        leftovers = (_report(path.name, None, path, now) for path in _unconfigured(settings))
        reports += [each for each in leftovers if each.snapshot.waiting or each.quarantined or each.problem]
    return SiteReport(
        settings=settings,
        now=now,
        master=master_of(settings),
        streams=tuple(reports),
        problems=problems,
        disks=disks.read(settings.state_dir) if settings.disk.enabled else None,
        alerts=alerting.read(settings.state_dir) if settings.alerts is not None else None,
    )


def master_of(settings: Settings) -> MasterReport | None:
    """Given the settings, return what their running master says of itself; None if none runs. Raise MistamoverError."""
    if not is_held(mastership.lock_file(settings.state_dir)):
        return None
    return mastership.read(settings.state_dir) or mastership.unknown()


def should_run(settings: StreamSettings | None) -> bool:
    """Given a stream's settings, tell whether they want a process for it."""
    return settings is not None and settings.works


def state_now(settings: StreamSettings | None, last: Snapshot | None, *, served: bool) -> StreamState:
    """Given the settings, what the process last said and whether one runs now, return the state that holds now."""
    if served:
        # A new process that has not spoken yet must not be shown with the last words of the one before.
        return last.state if last is not None and Path(f"/proc/{last.pid}").exists() else StreamState.STARTING
    if settings is not None and settings.status is StreamStatus.COMPLETE:
        return StreamState.COMPLETE
    if settings is not None and not should_run(settings):
        return StreamState.STOPPED
    return StreamState.COMPLETE if last is not None and last.state is StreamState.COMPLETE else StreamState.DOWN


def _report(name: str, settings: StreamSettings | None, state_dir: Path, now: float) -> StreamReport:
    served = is_served(state_dir)
    last = snapshots.read(state_dir)
    totals, quarantined, problem = _from_ledger(state_dir, settings)
    return StreamReport(
        name=name,
        settings=settings,
        snapshot=_up_to_date(name, settings, last, served=served, now=now),
        served=served,
        known=last is not None,
        totals=totals,
        quarantined=quarantined,
        problem=problem,
        pause=pauses.read(state_dir),
        receives=is_held(state_dir / arrivals.LOCK_FILE),
        arrivals=arrivals.read(state_dir) if settings is not None and settings.monitor is not None else None,
    )


def _up_to_date(
    name: str, settings: StreamSettings | None, last: Snapshot | None, *, served: bool, now: float
) -> Snapshot:
    state = state_now(settings, last, served=served)
    if last is None:
        return Snapshot(name=name, state=state)
    if not served:
        return replace(last, state=state, sending=0, rate=0.0, hold=None, retry_at=None)
    return last if last.updated > now - _RATE_HOLDS and last.state is state else replace(last, state=state, rate=0.0)


def _from_ledger(
    state_dir: Path, settings: StreamSettings | None
) -> tuple[Totals | None, tuple[Trouble, ...], str | None]:
    try:
        with reading(state_dir) as ledger:
            if ledger is None:
                return None, (), None
            root = os.fsencode(settings.directory) if settings is not None else None
            quarantined = tuple(t for t in ledger.troubles() if t.quarantined and still_there(t, root))
            return ledger.totals(), quarantined, None
    except LedgerError as error:
        return None, (), str(error)


def _unconfigured(settings: Settings) -> list[Path]:
    configured = {stream.state_dir for stream in settings.streams}
    try:
        found = sorted((settings.state_dir / "streams").iterdir())
    except OSError:
        return []
    return [path for path in found if path not in configured and path.is_dir()]

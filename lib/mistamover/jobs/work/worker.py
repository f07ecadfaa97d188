"""The process `worker`: is given jobs, does some of them at a time, and puts back what it cannot end.

Who gives them out is the engine's business (`giving`, `celery_worker`); all else is the same with each of them.

It may be killed at any instant: its jobs are another one's, or its own after the next start, and go on from what the
store says.  Never imports the front.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

from setproctitle import setproctitle

from mistamover.config.serving import JobSettings
from mistamover.config.settings import Settings
from mistamover.errors import EngineError, StoreError
from mistamover.files import leases
from mistamover.jobs.bell import Bell
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.engine.announcing import announcer_of
from mistamover.jobs.groups import served
from mistamover.jobs.installation import identity
from mistamover.jobs.store.store import Store
from mistamover.jobs.work.callbacks import Teller
from mistamover.jobs.work.celery_worker import Told
from mistamover.jobs.work.crew import Crew
from mistamover.jobs.work.forgetting import Forgetting
from mistamover.jobs.work.giving import Claiming, Gives, Looking
from mistamover.jobs.work.moving import Moving, make
from mistamover.jobs.work.pulse import Pulse
from mistamover.jobs.work.upkeep import Chore, Upkeep
from mistamover.report import logs
from mistamover.report.snapshot import lock

logger = logging.getLogger(__name__)

DONE, BROKEN = 0, 1

#: Seconds between two looks for jobs, if nobody rings.
_LOOK = 1.0

#: The part of the time to stop in which jobs may still end by themselves, before they are put back.
_PATIENCE = 0.7

#: Seconds for which it is remembered that a host could not be reached, since somebody tried it last.
_HOSTS_KEPT = 600.0

#: Seconds for what does not even notice that it is to stop.
_LAST = 2.0


def run(settings: Settings) -> int:
    """Given settings with jobs, do jobs until SIGTERM; return the exit status. Raise StoreError."""
    assert settings.jobs is not None
    setproctitle("mistamover: worker")
    logs.start(settings.log, "worker", to_stderr=True, debug=settings.debug)
    directory = settings.jobs.directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if lock(directory / "worker.lock") is None:
        logger.error("another worker serves %s: stop that one first", directory)
        return BROKEN
    try:
        with Store(settings.jobs.engine.database_url) as store, Bell(directory) as bell:
            store.prepare()
            Worker(settings, store, bell, make(settings, store)).serve()
    except (StoreError, EngineError) as error:
        logger.error("the worker ends: %s", error)
        return BROKEN
    except Exception:
        logger.exception("the worker ends because of an error")
        return BROKEN
    return DONE


class Worker:
    """One worker; its main thread gives out jobs, others do them."""

    def __init__(self, settings: Settings, store: Store, bell: Bell, moving: Moving) -> None:
        """Given settings with jobs, the store, the bell, and what does the jobs, do nothing yet."""
        assert settings.jobs is not None
        self._settings: JobSettings = settings.jobs
        self._stop_timeout = settings.stop_timeout
        self._store = store
        self._bell = bell
        self._moving = moving
        mine = identity(self._settings.directory)
        self._prefix = f"{socket.gethostname()}-{mine}-"
        self._name = f"{self._prefix}{os.getpid()}"
        self._endpoints = Endpoints(self._settings, store.endpoints)
        self._engine = self._settings.engine
        self._groups = served(self._engine, mine)
        self._crew = Crew(self._engine, store, moving.do, self._freed)
        self._gives = self._engine_of_choice()
        self._pulse = Pulse(store, self._engine.lease, self._crew.holds)
        self._upkeep = Upkeep(self._chores())
        self._teller = Teller(store, settings)
        self._stop_signals = 0

    def serve(self) -> None:
        """Do jobs until SIGTERM. Raise StoreError if the store cannot be used at the start."""
        self._hear_signals()
        self._take_over()
        for each in (self._crew, self._pulse, self._upkeep, self._teller, self._gives):
            each.start()
        logger.info("worker %s: does %d jobs at a time%s", self._name, self._engine.threads, self._which())
        while not self._stop_signals:
            self._gives.look()
            if self._bell.wait(_LOOK):
                self._pulse.hurry()
        self._end()

    # -- the steps ----------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Put back what predecessors had in their hands: nobody else may have been one, we hold the lock."""
        for job in self._store.claims.release(self._prefix):
            logger.info("job %s: was in the hands of a worker that is gone: begins again", job)

    def _end(self) -> None:
        """Let jobs end, put back those that do not, and stop; claims are renewed until nothing is in our hands."""
        self._gives.stop()
        began, left = time.monotonic(), self._crew.holds
        logger.info("worker %s: stops, with %d jobs under way", self._name, len(left()))
        self._upkeep.end()
        self._teller.end()
        self._until(lambda: not left() or self._stop_signals > 1, began + _PATIENCE * self._stop_timeout)
        for hold in left():
            hold.stop()
        self._until(lambda: not left(), max(began + self._stop_timeout, time.monotonic() + _LAST))
        if left():
            logger.warning("%d jobs do not notice that they are to stop: their connections are cut", len(left()))
            self._moving.abort()
            self._until(lambda: not left(), time.monotonic() + _LAST)
        self._pulse.end()
        self._gives.end(_LAST)
        self._crew.end(_LAST)
        self._moving.close()
        try:
            self._store.claims.seen(self._name, 0, 0.0)
        except StoreError as error:
            logger.error("that this worker is gone cannot be kept: %s", error)
        logger.info("worker %s: has stopped", self._name)

    def _until(self, done: Callable[[], bool], deadline: float) -> None:
        """Given what is waited for, and a time of the monotonic clock, wait until one of them comes."""
        while not done() and (left := deadline - time.monotonic()) > 0:
            self._bell.wait(min(_LOOK, left))

    # -- beside them --------------------------------------------------------------------------

    def _engine_of_choice(self) -> Gives:
        """Return who gives out the jobs."""
        claiming = Claiming(self._name, self._groups, self._store, self._engine, self._endpoints, self._crew)
        announcer = announcer_of(self._engine, self._store, self._endpoints)
        if announcer is None:
            return Looking(claiming, self._bell.ring)
        return Told(claiming, self._engine, self._groups, announcer, self._bell.ring)

    def _freed(self) -> None:
        self._gives.freed()

    def _which(self) -> str:
        named = ", ".join(sorted(group for group in self._groups if group and not group.startswith("@")))
        only = " alone" if "" not in self._groups else ""
        return f", of {named}{only}" if named else ""

    def _chores(self) -> list[Chore]:
        lease, retention = self._engine.lease, self._engine.retention
        claims = self._store.claims
        chores = [
            Chore(
                name="sign of life",
                every=lease / 3,
                do=self._tell_of_life,
            ),
            Chore(name="silent workers", every=max(1.0, lease / 3), do=self._sweep),
            Chore(name="circuits", every=1.0, do=self._crew.look_at_circuits),
            Chore(name="hosts", every=60.0, do=lambda: claims.forget_circuits(time.time() - _HOSTS_KEPT)),
            Chore(name="connections", every=15.0, do=self._moving.tidy),
            Chore(name="leftovers", every=120.0, do=self._clean),
            Chore(name="carts", every=10.0, do=lambda: self._moving.clear_carts(self._crew)),
            Chore(name="secrets", every=5.0, do=Forgetting(self._store).look),
        ]
        if retention:
            old = Chore(name="old jobs", every=3600.0, do=lambda: self._store.jobs.prune(time.time() - retention))
            chores.append(old)
        return chores

    def _tell_of_life(self) -> None:
        if not self._stop_signals:
            self._store.claims.seen(self._name, self._engine.threads, self._engine.lease, self._groups)

    def _sweep(self) -> None:
        if self._store.claims.sweep():
            self._bell.ring()

    def _clean(self) -> None:
        self._moving.clean(self._crew)

    def _hear_signals(self) -> None:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            self._stop_signals += 1

        signal.set_wakeup_fd(self._bell.wakeup, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # A writer may come for a source in the moment in which it is removed.
        leases.hear_breaks()

"""Who gives out the jobs of a worker: the one thing in which the engines differ, and the one that looks by itself.

Whatever gives them out claims them from the store first, and puts them into the hands of the crew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from mistamover.config.serving import EngineSettings
from mistamover.errors import StoreError
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.engine.announcing import limits_of
from mistamover.jobs.store.store import Store
from mistamover.jobs.work.crew import Crew
from mistamover.jobs.work.hold import Hold, clock

logger = logging.getLogger(__name__)


class Gives(Protocol):
    """What gives jobs to a crew; `look`, `stop` and `end` are called by the main thread, `freed` by any."""

    def start(self) -> None:
        """Begin; nothing is given before. Raise MistamoverError if that is of no use."""

    def look(self) -> None:
        """There may be jobs to be given out, or time has passed: do what is due."""

    def freed(self) -> None:
        """A job is out of the crew's hands."""

    def stop(self) -> None:
        """Give no more from now on: nothing is given when this has returned."""

    def end(self, seconds: float) -> None:
        """Given how long it may take, end what belongs to it."""


class Claiming:
    """Claims jobs for one worker, and gives them to its crew."""

    def __init__(
        self, name: str, groups: frozenset[str], store: Store, engine: EngineSettings, endpoints: Endpoints, crew: Crew
    ) -> None:
        """Given the worker's name and groups, the store, the settings, the endpoints and the crew."""
        self._name = name
        self._store = store
        self._engine = engine
        self._endpoints = endpoints
        self._groups = groups
        self.crew = crew

    def next(self) -> str:
        """Give out the job that is to begin next; return its id, nothing if none may. Raise StoreError."""
        until = clock() + self._engine.lease
        claim = self._store.claims.next(
            self._name,
            self._engine.lease,
            limits=limits_of(self._endpoints),
            owner_max=self._engine.owner_max_running,
            groups=self._groups,
        )
        if claim is None:
            return ""
        self.crew.give(Hold(claim, until))
        return claim.job.id

    def one(self, job_id: str) -> bool:
        """Given the id of a job, give it out; return False if it may not begin. Raise StoreError."""
        until = clock() + self._engine.lease
        claim = self._store.claims.claim(
            job_id,
            self._name,
            self._engine.lease,
            limits=limits_of(self._endpoints),
            owner_max=self._engine.owner_max_running,
            groups=self._groups,
        )
        if claim is not None:
            self.crew.give(Hold(claim, until))
        return claim is not None

    def one_or_better(self, job_id: str) -> None:
        """Given the id of a job that we were told of, give out the one that is to begin next by now.

        If that is another one, the first is announced again. Raise StoreError.
        """
        if self.next() != job_id:
            self.decline(job_id)

    def decline(self, job_id: str) -> None:
        """Given the id of a job that we cannot take now, have it announced to others. Raise StoreError."""
        self._store.claims.unannounce([job_id])

    def overdue(self, seconds: float) -> bool:
        """Tell whether a job that we could do was announced so many seconds ago, and still waits. Raise StoreError."""
        return self._store.claims.overdue(
            self._groups,
            seconds,
            limits=limits_of(self._endpoints),
            owner_max=self._engine.owner_max_running,
        )


class Looking:
    """The embedded engine: the worker looks into the store, whenever somebody rings."""

    def __init__(self, claiming: Claiming, ring: Callable[[], None]) -> None:
        """Given what claims, and what has `look` called soon."""
        self._claiming = claiming
        self._ring = ring
        self._stopped = False
        self._trouble = ""

    def start(self) -> None:
        """See `Gives.start`."""

    def look(self) -> None:
        """Claim as many jobs as can be done now."""
        try:
            while self._claiming.crew.free > 0 and not self._stopped and self._claiming.next():
                pass
        except StoreError as error:
            if str(error) != self._trouble:
                logger.error("no jobs can be had: %s", error)
            self._trouble = str(error)
        else:
            if self._trouble:
                logger.info("jobs can be had again")
            self._trouble = ""

    def freed(self) -> None:
        """See `Gives.freed`."""
        self._ring()

    def stop(self) -> None:
        """See `Gives.stop`."""
        self._stopped = True

    def end(self, seconds: float) -> None:
        """See `Gives.end`."""

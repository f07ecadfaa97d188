"""What the threads of a worker do jobs with: endpoints, their connections, and what is left behind by a crash."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from mistamover.config.serving import JobSettings
from mistamover.config.settings import LINKS, Settings
from mistamover.jobs import spool
from mistamover.jobs.carts import removal
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.store.store import Store
from mistamover.jobs.transfer import operations
from mistamover.jobs.transfer.context import Context, Outcome
from mistamover.jobs.transfer.leftovers import Traces
from mistamover.jobs.transfer.places import Places
from mistamover.jobs.work.hold import Hold

logger = logging.getLogger(__name__)

#: Seconds for which content that came with a request is kept although nobody needs it: its job failed, or never came to
#: be, since the request was cut off.
_SPOOL_KEPT = 86400.0


def make(settings: Settings, store: Store) -> Moving:
    """Given settings with jobs, and the store, return what does jobs; nothing is connected to yet."""
    assert settings.jobs is not None
    return Moving(settings.jobs, settings.state_dir / LINKS, store)


class Moving:
    """Does jobs, several at a time; one for each process."""

    def __init__(self, settings: JobSettings, links_dir: Path, store: Store) -> None:
        """Given the settings, the directory of shared connections, and the store, do nothing yet."""
        self._settings = settings
        self._store = store
        self._holds: dict[str, Hold] = {}
        endpoints = Endpoints(settings, store.endpoints)
        self._places = Places(endpoints, settings.directory / "run", links_dir)
        self._traces = Traces(settings.directory / "traces")
        self._context = Context(
            settings=settings,
            endpoints=endpoints,
            places=self._places,
            claims=store.claims,
            objects=store.objects,
            carts=store.carts,
            traces=self._traces,
            tell=lambda job: self._holds[job].tell,
        )

    def do(self, hold: Hold) -> Outcome:
        """Given a job, do it. Raise JobCancelled, JobStopping or LostClaim, as `Hold.check` does, and StoreError."""
        # One hold at a time has a job, unless it was lost: then the newer one is told.
        self._holds[hold.claim.job.id] = hold
        try:
            return operations.run(hold.claim, self._context)
        finally:
            if self._holds.get(hold.claim.job.id) is hold:
                del self._holds[hold.claim.job.id]

    def tidy(self) -> None:
        """End connections that nobody uses."""
        self._places.tidy()

    def clean(self, busy: Collection[str]) -> None:
        """Given the ids of jobs that are under way here, as they come and go, remove what dead ones have left."""
        removed = self._traces.clean(self._places, busy)
        if removed:
            logger.info("removed %d files that jobs had left under temporary names", removed)
        self._clean_scratch(busy)
        needed = self._store.jobs.spooled(time.time() - _SPOOL_KEPT)
        spool.sweep(self._settings.directory, needed, _SPOOL_KEPT)

    def clear_carts(self, busy: Collection[str]) -> None:
        """Given the ids of jobs that are under way here, remove carts that are not kept. Raise OSError, StoreError."""
        removal.clear(self._context.volume, self._store, busy)

    def abort(self) -> None:
        """Cut all connections."""
        self._places.abort()

    def close(self) -> None:
        """End all."""
        self._places.close()

    def _clean_scratch(self, busy: Collection[str]) -> None:
        """Remove what was made here for jobs that have ended."""
        directory = self._settings.directory / "scratch"
        for path in directory.iterdir() if directory.is_dir() else ():
            if path.name not in busy:
                job = self._store.jobs.get(path.name)
                if job is None or job.state.final:
                    shutil.rmtree(path, ignore_errors=True)

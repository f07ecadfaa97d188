"""Room for one cart: kept in the store, where all carts are counted, and free on the disk, which is others' as well.

Those that nobody has used for longest go for it; what they held is removed here at once.
"""

from __future__ import annotations

import logging
import threading

from mistamover.errors import NoSpace
from mistamover.jobs.carts import removal
from mistamover.jobs.model import Job
from mistamover.jobs.transfer.context import Context
from mistamover.jobs.transfer.landing import Landing

logger = logging.getLogger(__name__)


class Room:
    """See the module; used by several threads. Methods raise StoreError, OSError."""

    def __init__(self, job: Job, context: Context, landing: Landing) -> None:
        """Given a cart's job and its directory, keep nothing yet."""
        self._job = job
        self._context = context
        self._landing = landing
        self._lock = threading.Lock()
        self._kept = -1

    def reserve(self, size: int, lacking: int) -> None:
        """Given how many bytes the cart needs in all, and how many of these are not here yet, keep room for them.

        Raise NoSpace.
        """
        settings = self._context.settings.carts
        with self._lock:
            if size != self._kept:
                self._clear_deleted()
                gone = self._context.carts.reserve(
                    self._job.id, size, quota=settings.quota, unused_since=self._unused_since
                )
                for job in gone:
                    self._remove(job)
                self._kept = size
            while self._landing.free() < lacking:
                self._evict_one()

    def make_more(self) -> None:
        """The disk is full although there was room: evict one cart. Raise NoSpace."""
        with self._lock:
            self._evict_one()

    @property
    def _unused_since(self) -> float:
        return self._context.clock() - self._context.settings.carts.lru_buffer_time

    def _evict_one(self) -> None:
        job = self._context.carts.evict_one(self._job.id, unused_since=self._unused_since)
        if job is None:
            raise NoSpace
        self._remove(job)

    def _remove(self, job: str) -> None:
        logger.info("cart of job %s: evicted, for that of job %s", job, self._job.id)
        removal.discard(self._context.volume, job)

    def _clear_deleted(self) -> None:
        """What is deleted, and not removed yet, takes no room from others."""
        for job in self._context.carts.doomed():
            if removal.discard(self._context.volume, job):
                self._context.carts.removed(job)

"""Removing what carts hold, when they are not kept any more."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection

from mistamover.jobs.carts.volume import Volume
from mistamover.jobs.store.store import Store

logger = logging.getLogger(__name__)

#: Carts that the store is asked about at a time.
_AT_ONCE = 500


def remove(volume: Volume, job: str) -> None:
    """Given the volume and a job, remove what its cart holds; content if that is nothing. Raise OSError."""
    try:
        shutil.rmtree(volume.cart(job))
    except FileNotFoundError:
        # Another worker may be at it as well.
        shutil.rmtree(volume.cart(job), ignore_errors=True)


def discard(volume: Volume, job: str) -> bool:
    """As `remove`, but where that cannot be, say so in the log; return whether it is gone.

    One that cannot be removed (a network file system keeps what somebody reads) is in the way of no other.
    """
    try:
        remove(volume, job)
    except OSError as error:
        logger.error("the files of cart %s cannot be removed: %s", job, error, extra={"action": "cart"})
        return False
    return True


def clear(volume: Volume, store: Store, busy: Collection[str]) -> int:
    """Given the volume, the store, and the jobs in the hands of this process, remove the carts that are not kept.

    These are deleted, evicted or forgotten; none is touched that a worker has. Return how many. Raise OSError,
    StoreError.
    """
    doomed = [job for job in store.carts.doomed() if job not in busy]
    removed = 0
    for job in doomed:
        if discard(volume, job):
            store.carts.removed(job)
            removed += 1
            logger.info("cart of job %s: removed, it was deleted", job)
    there = [job for job in volume.jobs() if job not in busy and job not in doomed]
    for start in range(0, len(there), _AT_ONCE):
        some = there[start : start + _AT_ONCE]
        for job in sorted(set(some) - store.carts.kept(some)):
            known = store.jobs.get(job)
            if (known is None or known.state.final) and discard(volume, job):
                removed += 1
                logger.info("cart of job %s: removed, it is not kept any more", job)
    return removed

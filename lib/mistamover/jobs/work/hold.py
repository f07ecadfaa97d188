"""A job in a worker's hands: how far its items are, and whether it may go on.

The thread that moves tells each step here, and learns here that it has to end.  A worker that has not renewed its claim
for the length of a lease goes on with nothing, whatever the store would say: it may have stood still meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from mistamover.errors import JobCancelled, JobStopping, LostClaim
from mistamover.jobs.model import Claim, ItemState, Standing

Step = tuple[ItemState, int, int | None]
"""State, bytes that are done, and the size if it is known."""


def clock() -> float:
    """Return seconds of a clock that goes on while the machine sleeps, and that nobody sets."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Hold:
    """One claim and what is known of it; used by the thread that moves and by the one that renews."""

    def __init__(self, claim: Claim, until: float, now: Callable[[], float] = clock) -> None:
        """Given a claim, and until when it holds by the clock `now`, begin with nothing done."""
        self.claim = claim
        self._until = until
        self._now = now
        self._lock = threading.Lock()
        self._steps: dict[int, Step] = {}
        self._cancelled = self._lost = self._stopping = False
        self.thread = 0
        """Which thread does it, by its `get_ident`; 0 while none does."""
        self._ends_since: float | None = None
        # Of one that has to finish a removal first, whoever does it looks at the deadline behind that.
        removing = any(item.state is ItemState.REMOVING for item in claim.items)
        self._deadline = None if removing else claim.job.deadline

    def tell(self, seq: int, state: ItemState, bytes_done: int, size: int | None) -> None:
        """Given how far an item is, take note. Raise LostClaim, JobCancelled or JobStopping if it has to end."""
        with self._lock:
            self._steps[seq] = (state, bytes_done, size)
        self.check()

    def check(self) -> None:
        """Return if the job may go on. Raise LostClaim, JobCancelled or JobStopping."""
        if self.lost:
            raise LostClaim(f"job {self.claim.job.id} is not ours any more")
        if self._cancelled:
            raise JobCancelled(f"job {self.claim.job.id} is to be cancelled")
        if self._stopping or self._late:
            raise JobStopping(f"job {self.claim.job.id} is put back")

    def take_steps(self) -> dict[tuple[str, int], Step]:
        """Return how far items are that have gone on since the last call."""
        with self._lock:
            steps, self._steps = self._steps, {}
        return {(self.claim.job.id, seq): step for seq, step in steps.items()}

    def renewed(self, standing: Standing, until: float) -> None:
        """Given how the claim stands, and until when it holds if it does, take note."""
        if standing is Standing.LOST:
            self._lost = True
        else:
            self._until = until
            # One that was to be cancelled before we got it is ours only so that a removal that has begun is finished.
            self._cancelled = standing is Standing.CANCELLING and not self.claim.job.cancelling

    def stop(self) -> None:
        """Let the job be put back."""
        self._stopping = True

    def hangs(self, seconds: float) -> bool:
        """Given how long a thread may take to notice, tell whether the job has had to end for longer than that."""
        if not (self.lost or self._cancelled or self._stopping or self._late):
            return False
        self._ends_since = self._now() if self._ends_since is None else self._ends_since
        return self._now() - self._ends_since >= seconds

    @property
    def _late(self) -> bool:
        return self._deadline is not None and time.time() >= self._deadline

    @property
    def lost(self) -> bool:
        """Whether it may be another worker's by now."""
        return self._lost or self._now() >= self._until

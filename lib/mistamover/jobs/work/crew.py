"""The threads of a worker that do jobs, one at a time each, and what becomes of a job that came out of one.

They live as long as the process: programs that they start, such as ssh, would end with them.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Collection, Iterator

from mistamover.config.serving import EngineSettings
from mistamover.errors import JobCancelled, JobStopping, LostClaim, PlaceTaken, StoreError
from mistamover.jobs import lines
from mistamover.jobs.model import JobState
from mistamover.jobs.store.store import Store
from mistamover.jobs.transfer.context import Outcome
from mistamover.jobs.work import retries
from mistamover.jobs.work.hold import Hold
from mistamover.jobs.work.retries import Again, End, Unreachable

logger = logging.getLogger(__name__)

#: Seconds between two attempts to write down what became of a job, while the store cannot be used.
_PAUSE = 0.5


class Crew(Collection[str]):
    """A fixed number of such threads; as a collection, the ids of the jobs in our hands at this moment."""

    def __init__(
        self, settings: EngineSettings, store: Store, do: Callable[[Hold], Outcome], rest: Callable[[], None]
    ) -> None:
        """Given the settings, the store, what does a job, and what to call when one is out of hand, start no thread."""
        self._settings = settings
        self._store = store
        self._do = do
        self._rest = rest
        self._lock = threading.Lock()
        self._holds: dict[str, Hold] = {}
        self._waiting: queue.SimpleQueue[Hold | None] = queue.SimpleQueue()
        self._unreachable = Unreachable()
        self._broken: frozenset[str] = frozenset()
        self._threads = [
            threading.Thread(target=self._work, name=f"job {number}", daemon=True) for number in range(settings.threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def holds(self) -> list[Hold]:
        """Return the jobs in our hands."""
        with self._lock:
            return list(self._holds.values())

    def __contains__(self, job: object) -> bool:
        return any(hold.claim.job.id == job for hold in self.holds())

    def __iter__(self) -> Iterator[str]:
        return iter([hold.claim.job.id for hold in self.holds()])

    def __len__(self) -> int:
        return len(self.holds())

    @property
    def free(self) -> int:
        """How many more jobs can be done at once."""
        with self._lock:
            return self._settings.threads - len(self._holds)

    def give(self, hold: Hold) -> None:
        """Given a job, have it done."""
        with self._lock:
            self._holds[hold.claim.token] = hold
        self._waiting.put(hold)

    def end(self, seconds: float) -> None:
        """Given how long it may take, let the threads end that have nothing to do."""
        for _ in self._threads:
            self._waiting.put(None)
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def look_at_circuits(self) -> None:
        """Take in what is known of endpoints, and end the jobs that have waited for one long enough."""
        circuits, now = self._store.claims.circuits(), time.time()
        with self._lock:
            self._broken = frozenset(circuits)
            self._unreachable.known(circuits, now)
            hopeless = list(self._unreachable.hopeless(now, self._settings.give_up_after))
        for endpoint in hopeless:
            reason = retries.hopeless(circuits[endpoint].reason, self._settings.give_up_after)
            for job in self._store.claims.give_up(endpoint, now - self._settings.give_up_after, reason):
                logger.warning("job %s: failed: %s", job, reason)

    # -- one job ------------------------------------------------------------------------------

    def _work(self) -> None:
        while (hold := self._waiting.get()) is not None:
            try:
                self._take_through(hold)
            except Exception:  # the top of a thread: the others' jobs must go on
                logger.exception("job %s: an error of the program", hold.claim.job.id)
            finally:
                with self._lock:
                    del self._holds[hold.claim.token]
                self._rest()

    def _take_through(self, hold: Hold) -> None:
        """Given a job, do it, and write down what became of it; of one that is not ours any more nothing."""
        job = hold.claim.job
        logger.info("job %s: begins (%s, attempt %d)", job.id, job.op.value, job.attempts)
        settle = self._done(hold)
        while True:
            try:
                settle()
                return
            except LostClaim:
                logger.warning("job %s: is not ours any more; what becomes of it is another worker's to say", job.id)
                return
            except StoreError as error:
                if hold.lost:
                    logger.error("job %s: what became of it cannot be kept, it will be done again: %s", job.id, error)
                    return
                logger.error("job %s: what became of it cannot be kept, trying again: %s", job.id, error)
            threading.Event().wait(_PAUSE)

    def _done(self, hold: Hold) -> Callable[[], None]:
        """Given a job, do it; return what writes down what became of it."""
        job, claims = hold.claim.job, self._store.claims
        try:
            hold.check()
            outcome = self._do_it(hold)
        except JobCancelled:
            # The store ends it, unless a removal has begun: that is finished first.
            return lambda: claims.put_back(hold.claim)
        except JobStopping:
            return lambda: self._again(hold, reason="", not_before=None, since=None)
        except (LostClaim, StoreError) as error:
            # Nothing of it can be said now.  Put back, if it is still ours and the store can be used again.
            words = "" if isinstance(error, LostClaim) else str(error)
            return lambda: claims.put_back(hold.claim, not_before=None, reason=words)
        except Exception as error:  # a job must come to an end, whatever it meets
            logger.exception("job %s: an error of the program", job.id)
            words = f"an error of the program: {type(error).__name__} (see worker.log)"
            if job.attempts > self._settings.retry_count:
                return lambda: self._finish(hold, End(state=JobState.FAILED, reason=words))
            pause = self._settings.retry_pause * 2.0 ** min(job.attempts - 1, 10)
            return lambda: self._again(hold, reason=words, not_before=time.time() + pause, since=None)
        return lambda: self._settle(hold, outcome)

    def _do_it(self, hold: Hold) -> Outcome:
        """Do a job, so that it can be cut off. Raise what `Hold.check` does where that was the end of it."""
        lines.begin()
        hold.thread = threading.get_ident()
        try:
            outcome = self._do(hold)
        finally:
            hold.thread = 0
            lines.end()
        if outcome.state is not JobState.DONE:
            # What failed may have failed because we have cut it.
            hold.check()
        return outcome

    def _settle(self, hold: Hold, outcome: Outcome) -> None:
        for endpoint in set(outcome.worked) & self._broken:
            if self._store.claims.close_circuit(endpoint):
                logger.info("endpoint %s: can be reached again", endpoint)
        since = [self._open_circuit(endpoint, reason) for endpoint, reason in outcome.endpoints.items()]
        if outcome.state is None:
            # An endpoint of ours that cannot be reached is tried again for all of its jobs at once, by its circuit.
            paced = bool(since) and all("://" not in endpoint for endpoint in outcome.endpoints)
            not_before = None if paced else outcome.not_before
            self._again(hold, reason=outcome.reason, not_before=not_before, since=min(since, default=None))
        elif hold.claim.job.cancelling and outcome.state is not JobState.DONE:
            self._finish(hold, End(state=JobState.CANCELLED), outcome)
        else:
            self._finish(hold, End(state=outcome.state, reason=outcome.reason), outcome)

    def _again(self, hold: Hold, *, reason: str, not_before: float | None, since: float | None) -> None:
        job = hold.claim.job
        verdict = retries.after(
            job,
            reason=reason,
            not_before=not_before,
            unreachable_since=since,
            now=time.time(),
            give_up_after=self._settings.give_up_after,
        )
        if isinstance(verdict, Again):
            self._store.claims.put_back(hold.claim, not_before=verdict.not_before, reason=verdict.reason)
            logger.info("job %s: waits again: %s", job.id, verdict.reason or "the worker ends")
        else:
            self._finish(hold, verdict)

    def _finish(self, hold: Hold, end: End, outcome: Outcome | None = None) -> None:
        claim, claims = hold.claim, self._store.claims
        try:
            ours = claims.finish(
                claim,
                end.state,
                reason=end.reason,
                result=outcome.result if outcome is not None else {},
                objects=outcome.objects if outcome is not None else None,
            )
        except PlaceTaken as error:
            end = End(state=JobState.FAILED, reason=str(error))
            ours = claims.finish(claim, end.state, reason=end.reason, objects=())
        if not ours:
            raise LostClaim(f"job {claim.job.id} is not ours any more")
        level = logging.WARNING if end.state is JobState.FAILED else logging.INFO
        logger.log(level, "job %s: %s%s", claim.job.id, end.state.value, f": {end.reason}" if end.reason else "")

    def _open_circuit(self, endpoint: str, reason: str) -> float:
        """Given an endpoint that could not be reached, and why, let its jobs wait; return since when that is so."""
        now = time.time()
        known = self._store.claims.circuits().get(endpoint)
        if known is None or known.until <= now:
            # Not for each of those that were under way when it failed: that is one failure.
            pause = retries.pause_of((known.failures if known else 0) + 1, random.random())  # noqa: S311 (no secret)
            known = self._store.claims.open_circuit(endpoint, now + pause, reason)
            logger.warning("endpoint %s: cannot be reached, again in %.0f s: %s", endpoint, pause, reason)
        with self._lock:
            return self._unreachable.failed(endpoint, known.failures, now)

"""The end of a batch: what was confirmed is recorded and handed over, what was not is planned anew."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence

from mistamover.config.settings import TargetSettings
from mistamover.files.closer import Closer
from mistamover.files.names import display
from mistamover.model import Confirmed, Failed, FaultClass, Kind, Unit
from mistamover.stream import handover
from mistamover.stream.books import Books
from mistamover.stream.decide import counts_as_attempt
from mistamover.stream.guard import LeaseGuard
from mistamover.stream.lane import Outcome
from mistamover.stream.ledger import Trouble
from mistamover.stream.records import with_parts
from mistamover.stream.rescue import Rescue
from mistamover.stream.roll import AT_ONCE, Candidate

logger = logging.getLogger(__name__)

#: Seconds before the second attempt; doubles with each, up to the longest.
_FIRST_RETRY = 1.0
_LONGEST_RETRY = 60.0

#: Seconds before a file that changed under way is looked at again; grows with each change, up to the longest.
_CHURN = 0.05
_LONGEST_CHURN = 5.0

#: Seconds before a unit that this host could not send, for want of room for instance, is tried again.
_HELD_UP = 10.0


class Conclusion:
    """What becomes of units when a lane has come back."""

    def __init__(self, books: Books, required: frozenset[str], look_at: Callable[[bytes, float], None]) -> None:
        """Given the books, the names of the required targets, and how to look at a name anew, be ready."""
        self._books = books
        self._completion = handover.Completion(required)
        self._look_at = look_at
        self.rescue = Rescue(books.root)
        self.closer = Closer()

    def recover(self) -> None:
        """Finish what a predecessor confirmed and recorded but did not hand over."""
        for batch, target, confirmed in self._books.ledger.open_batches():
            complete = self._completion.confirmed(target, confirmed)
            done = handover.remove_after_restart(self._books.root, complete)
            self._books.ledger.handed_over(batch, time.time(), _kept(done))
            logger.info("batch %d of an earlier run: %d units handed over", batch, len(done))
            for item in confirmed:
                self._books.directories.left(item.unit.name, time.time())
            self._look_for_completion(confirmed)
            note_stuck(self._books, done, {item.unit.name: item.unit for item in confirmed}, target)

    def conclude(self, outcome: Outcome, guard: LeaseGuard, target: TargetSettings) -> None:
        """Given what came of a batch, its guard and the target, record it, hand it over, and plan the rest."""
        batch = outcome.errand.batch
        assert batch is not None
        guard.release_waiting()
        try:
            confirmed = [v for v in outcome.verdicts if isinstance(v, Confirmed)]
            for algorithm in dict.fromkeys(item.algorithm for item in confirmed):
                same = [item for item in confirmed if item.algorithm == algorithm]
                self._hand_over(outcome, same, guard, target, algorithm or target.hash)
        finally:
            guard.close(self.closer)
        failures = [v for v in outcome.verdicts if isinstance(v, Failed)]
        if not outcome.verdicts:
            fault = outcome.fault or FaultClass.ABANDONED
            failures = [Failed(unit=unit, fault=fault, reason=outcome.reason) for unit in batch.units]
        self._plan(failures, target.name)

    def _hand_over(
        self,
        outcome: Outcome,
        confirmed: Sequence[Confirmed],
        guard: LeaseGuard,
        target: TargetSettings,
        algorithm: str,
    ) -> None:
        books = self._books
        now = time.time()
        batch = books.ledger.confirm(
            confirmed,
            target=target.name,
            lane=outcome.lane,
            algorithm=algorithm,
            started=outcome.started,
            now=now,
            mirror=not books.move,
        )
        self._look_for_completion(confirmed)
        done: list[handover.HandedOver] = []
        if books.move:
            complete = self._completion.confirmed(target.name, confirmed)
            units = (item.unit for item in complete)
            done = handover.remove_sources(books.root, units, guard.intact, guard.orphaned)
            for orphan in guard.orphans:
                self.rescue.adopt(orphan)
            books.ledger.handed_over(batch, time.time(), _kept(done))
        again = self._strike_off(confirmed)
        again |= {item.name for item in done if item.kept == handover.CHANGED}
        note_stuck(self._books, done, {item.unit.name: item.unit for item in confirmed}, target.name)
        size = sum(map(_size, confirmed))
        books.counts.delivered += len(confirmed)
        books.counts.sent(outcome.started, now, size)
        for name in again:
            self._look_at(name, time.time())
        words = (len(confirmed), size, target.host, now - outcome.started)
        logger.info("delivered %d units (%d bytes) to %s in %.3f s", *words)
        books.moved_on()

    def look_after_orphans(self) -> None:
        """Take in again what was written to in the moment of its removal."""
        for name in self.rescue.look():
            self._look_at(name, time.time())

    def _look_for_completion(self, confirmed: Sequence[Confirmed]) -> None:
        """Note durably, before it is removed, that the completion file was delivered."""
        name = self._books.settings.completion_file
        if name and any(item.unit.name == os.fsencode(name) for item in confirmed):
            self._books.ledger.completing = True

    def _strike_off(self, confirmed: Sequence[Confirmed]) -> set[bytes]:
        """Take what was delivered off the roll; return the names that were heard of while they travelled."""
        books = self._books
        again = set()
        troubled = []
        for item in confirmed:
            name = item.unit.name
            candidate = books.roll.get(name)
            if candidate is not None:
                books.roll.drop(candidate)
                if candidate.again:
                    again.add(name)
                if candidate.troubled:
                    troubled.append(name)
            if books.move:
                books.directories.left(name, item.unit.identity.ctime_ns / 1e9)
        books.forget_trouble(*troubled)
        return again

    def _plan(self, failures: Sequence[Failed], target: str) -> None:
        """Decide when each unit that failed is looked at again; remember attempts that count."""
        books = self._books
        now = time.time()
        notes = []
        for failure in failures:
            candidate = books.roll.get(failure.unit.name)
            if candidate is None:
                continue
            candidate.travelling = candidate.again = False
            if failure.fault is FaultClass.VANISHED:
                books.withdraw(candidate)
                continue
            plan(candidate, failure, books.settings.retry_count, now)
            if candidate.held_up or counts_as_attempt(failure.fault):
                notes.append(_note(candidate, failure, target))
                what = "it waits" if candidate.held_up else f"attempt {candidate.attempts} failed"
                logger.warning("%s: %s: %s", display(candidate.name), what, failure.reason)
                books.error(f"{display(candidate.name)}: {failure.reason}")
            books.roll.look(candidate, max(candidate.retry_at, AT_ONCE))
        if notes:
            books.note_troubles(notes)


def plan(candidate: Candidate, failure: Failed, retry_count: int, now: float) -> None:
    """Given a candidate, how its delivery failed, the allowed attempts and the time, set when it may go again.

    No I/O: only the candidate is changed.
    """
    candidate.failure = failure.reason
    candidate.retry_at = AT_ONCE
    candidate.held_up = failure.fault is FaultClass.HERE
    if failure.fault is FaultClass.CHANGED:
        candidate.churn += 1
        candidate.observed = now
        candidate.retry_at = now + min(_LONGEST_CHURN, _CHURN * 2.0 ** min(candidate.churn, 10))
    elif counts_as_attempt(failure.fault):
        candidate.attempts += 1
        if candidate.attempts < max(1, retry_count):
            candidate.retry_at = now + min(_LONGEST_RETRY, _FIRST_RETRY * 2.0 ** (candidate.attempts - 1))
    elif failure.fault is FaultClass.TARGET:
        # Another file may fit where this one did not.
        candidate.retry_at = now + _FIRST_RETRY
    elif failure.fault is FaultClass.HERE:
        candidate.retry_at = now + _HELD_UP


def _kept(done: Sequence[handover.HandedOver]) -> dict[bytes, str]:
    return {item.name: item.kept for item in done if item.kept is not None}


def _size(item: Confirmed) -> int:
    """The bytes of all that has a hash of its own: what travelled inside a zip has none."""
    return sum(part.unit.identity.size for _, part in with_parts(item) if part.unit.kind is Kind.FILE and part.digest)


def note_stuck(books: Books, done: Sequence[handover.HandedOver], units: dict[bytes, Unit], target: str) -> None:
    """Given the books, what became of sources, their units and the target, remember what cannot be removed.

    It is not sent again as it is, and a person must help.
    """
    stuck = [item for item in done if item.stuck]
    for item in stuck:
        books.error(f"{display(item.name)}: {item.kept}")
    if stuck:
        now = time.time()
        books.note_troubles([_stuck_note(units[item.name], item.kept or "", target, now) for item in stuck])


def _stuck_note(unit: Unit, reason: str, target: str, now: float) -> Trouble:
    return Trouble(
        name=unit.name,
        target=target,
        quarantined=True,
        attempts=unit.attempts,
        fault=FaultClass.SOURCE,
        reason=reason,
        since=now,
        retry_at=AT_ONCE,
        identity=unit.identity,
    )


def _note(candidate: Candidate, failure: Failed, target: str) -> Trouble:
    candidate.troubled = True
    return Trouble(
        name=candidate.name,
        target=target,
        quarantined=False,
        attempts=candidate.attempts,
        fault=failure.fault,
        reason=failure.reason,
        since=candidate.first_seen,
        retry_at=candidate.retry_at,
        identity=candidate.identity,
    )

"""The way to one target: its lanes, what is ready for them, its circuit, and the leases of what travels."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from mistamover.config.settings import TargetSettings
from mistamover.files import leases
from mistamover.links.shared import Turn
from mistamover.links.turns import Request
from mistamover.model import Batch, Confirmed, Failed, FaultClass, Kind, Reason
from mistamover.stream.books import Books
from mistamover.stream.circuit import Circuit
from mistamover.stream.guard import LeaseGuard
from mistamover.stream.lane import Errand, Lane, Outcome
from mistamover.stream.pace import BATCH_BYTES, BATCH_FILES, Pace, cost
from mistamover.stream.roll import AT_ONCE, Candidate
from mistamover.transport.base import Transport

logger = logging.getLogger(__name__)

#: From this size on a file rides alone, on its own lane, so that small ones do not wait behind it.
HUGE = 64 * 1024 * 1024

#: Units that are kept ready, with their leases held, while the lanes are busy.
READY = 5_000

#: A second batch travels beside the first one when at least so many units wait, or the first one is large.
_SECOND_FROM = 200
_LARGE = 16 * 1024 * 1024

#: Faults that say something about the target, not about a unit.
_TARGET_FAULTS = (FaultClass.LINK, FaultClass.TARGET, FaultClass.BUG)

_BULK, _SECOND, _HUGE = "bulk", "second", "huge"


class Route:
    """One target of one stream, as the stream's own thread sees it."""

    def __init__(
        self,
        books: Books,
        target: TargetSettings,
        transport: Transport,
        *,
        lease_capacity: int,
        wake: Callable[[], None],
    ) -> None:
        """Given the books, the target and its transport, how many leases may be held, and how to wake us, prepare."""
        self.target = target
        self._books = books
        self._transport = transport
        self._wake = wake
        # Descriptors are held by what is ready, by what travels on two lanes, and by two batches that are being closed.
        self._batch_files = max(1, min(BATCH_FILES, lease_capacity // 6))
        self._limit = max(1, min(READY, lease_capacity // 3))
        self._bulk: deque[Candidate] = deque()
        self._huge: deque[Candidate] = deque()
        self._lanes: list[Lane] = []
        self._guards: dict[int, LeaseGuard] = {}
        self._outcomes: deque[Outcome] = deque()
        self._lock = threading.Lock()
        self._batches = 0
        self._suspended_until = 0.0
        self._suspended = ""
        self._pace = Pace()
        self.circuit = Circuit()

    def start(self, *, connect: bool) -> None:
        """Start the lanes, and, unless nothing is to be sent for now, connect: what is decided meanwhile leaves in one
        batch.
        """
        self._lanes = [Lane(name, self._transport, self._arrive, self._turn) for name in (_BULK, _SECOND, _HUGE)]
        if connect:
            self._lanes[0].give(Errand(connect=True))

    # -- what can be asked --------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and no outcome waits to be collected."""
        return not self._outcomes and all(lane.free for lane in self._lanes)

    @property
    def has_outcomes(self) -> bool:
        """Whether an outcome waits to be collected."""
        return bool(self._outcomes)

    @property
    def ready(self) -> int:
        """How many units wait for a lane, with their leases held."""
        return len(self._bulk) + len(self._huge)

    @property
    def has_room(self) -> bool:
        """Whether more units can be made ready."""
        return self.ready < self._limit

    @property
    def travelling(self) -> int:
        """How many units are on their way."""
        return sum(len(lane.errand.batch.units) for lane in self._lanes if lane.errand and lane.errand.batch)

    def under_way(self) -> tuple[int, int, int]:
        """Return how many of the travelling units were read to their end, the bytes of large files sent, and of all."""
        batches = [lane.errand.batch for lane in self._lanes if lane.errand and lane.errand.batch]
        guards = [guard for number, guard in self._guards.items() if any(b.number == number for b in batches)]
        units = sum(guard.sent_units for guard in guards)
        return units, sum(guard.sent_bytes for guard in guards), sum(batch.size for batch in batches)

    def hold(self, now: float) -> Reason | None:
        """Given the time, return why nothing is sent to this target at the moment, or None."""
        if not self.circuit.closed:
            return Reason(code="circuit", words=f"the target failed: {self.circuit.reason}")
        if self._suspended_until > now:
            return Reason(code="stop-there", words=self._suspended)
        return None

    def next_moment(self) -> float | None:
        """Return when this route wants to be served next, apart from outcomes; None if only they matter."""
        if not self.circuit.closed:
            return self.circuit.retry_at if self.idle else None
        return self._suspended_until or None

    # -- what is done -------------------------------------------------------------------------

    def add(self, candidate: Candidate) -> None:
        """Given a candidate that is to be sent, let it wait for its lane."""
        huge = candidate.kind is Kind.TREE or candidate.size() >= HUGE
        (self._huge if huge else self._bulk).append(candidate)

    def dispatch(self, now: float, removals: Callable[[], Sequence[bytes]]) -> None:
        """Given the time and where to ask for names to remove, give every free lane what it can carry.

        A target that failed gets a probe when its time has come, and nothing else.
        """
        if not self.circuit.closed:
            if self.circuit.probe_due(now) and self.idle:
                self._lanes[0].give(Errand())
            return
        if self._connecting:
            return
        first, second, huge = self._lanes
        if first.free and self._bulk:
            self._send(first, self._bulk, self._batch_files)
        if second.free and self._bulk and (len(self._bulk) >= _SECOND_FROM or _carries_much(first)):
            self._send(second, self._bulk, self._batch_files)
        if huge.free and self._huge:
            self._send(huge, self._huge, 1)
        if self._lanes[0].free and not self.travelling:
            names = removals()
            if names:
                self._lanes[0].give(Errand(remove=names))

    def collect(self) -> list[Outcome]:
        """Return the outcomes since the last call; their lanes are free from now on."""
        with self._lock:
            outcomes = list(self._outcomes)
            self._outcomes.clear()
        for outcome in outcomes:
            next(lane for lane in self._lanes if lane.name == outcome.lane).errand = None
            batch = outcome.errand.batch
            if batch is not None and outcome.verdicts and outcome.lane != _HUGE:
                self._pace.learn(cost(len(batch.units), batch.size), time.time() - outcome.started)
            self._learn(outcome)
        return outcomes

    def guard(self, number: int) -> LeaseGuard:
        """Given a batch's number, return its guard; it is the caller's to close from now on."""
        return self._guards.pop(number)

    def let_writers_in(self, now: float) -> None:
        """A writer waits for one of our leases: let it in, at once if its file is not on its way."""
        for guard in self._guards.values():
            guard.breaking()
        for candidate in list(self._waiting()):
            if not all(map(leases.held, candidate.handles.values())):
                self.take_back(candidate)
                self._books.roll.look(candidate, now + 0.01)

    def take_back(self, candidate: Candidate) -> None:
        """Given a candidate, take it out of what is ready, if it is there, and let go of its leases."""
        for queue in (self._bulk, self._huge):
            if candidate in queue:
                queue.remove(candidate)
        candidate.release()

    def give_back(self) -> None:
        """Put everything that waits for a lane back on the roll, to be looked at when there is a lane again."""
        for candidate in list(self._waiting()):
            candidate.release()
            self._books.roll.look(candidate, AT_ONCE)
        self._bulk.clear()
        self._huge.clear()

    def give_up(self) -> None:
        """Ask every delivery that is under way to end now."""
        for guard in self._guards.values():
            guard.give_up()

    def replaced(self, name: bytes) -> None:
        """Given a name under way that belongs to another file now, end the attempt unless the right one was read."""
        for guard in self._guards.values():
            guard.replaced(name)

    def abort(self) -> None:
        """Cut the connection: whatever lanes wait for ends now."""
        self._transport.abort()

    def hurry(self) -> None:
        """Try a target that failed or was suspended again at once."""
        self.circuit.hurry(time.time())
        self._suspended_until = 0.0

    def close(self, *, finished: bool, timeout: float) -> None:
        """End the connection and the lanes within `timeout` seconds; with `finished`, leave nothing at the target.

        The connection is closed by a lane, while all lanes live: a process ends with the thread that started it.
        """
        deadline = time.monotonic() + timeout
        if self._lanes and self.idle:
            self._lanes[0].give(Errand(close=True, finished=finished and self.circuit.closed))
        for lane in self._lanes:
            if not lane.stop(max(0.0, deadline - time.monotonic())):
                logger.warning("lane %s did not end within %g s: cutting the connection", lane.name, timeout)
                self.abort()
        for guard in self._guards.values():
            guard.close()
        self._guards.clear()

    @property
    def _connecting(self) -> bool:
        return any(lane.errand is not None and lane.errand.connect for lane in self._lanes)

    # -- inside -------------------------------------------------------------------------------

    def _waiting(self) -> Iterator[Candidate]:
        yield from self._bulk
        yield from self._huge

    def _arrive(self, outcome: Outcome) -> None:
        """Take an outcome from a lane's thread."""
        with self._lock:
            self._outcomes.append(outcome)
        self._wake()

    def _turn(self, batch: Batch) -> Turn | None:
        """Ask for a turn among all streams of this agent that have much for this target (in a lane's thread).

        Small batches go at once: they are over before it would be somebody else's turn.
        """
        if not _is_large(batch):
            return None
        settings = self._books.settings
        kind = _HUGE if batch.size >= HUGE and len(batch.units) == 1 else _BULK
        request = Request(
            target=f"{self.target.host} {kind}",
            stream=settings.name,
            weight=settings.priority,
            cost=cost(len(batch.units), batch.size),
        )
        return Turn.ask(settings.links_dir, request)

    def _send(self, lane: Lane, queue: deque[Candidate], most: int) -> None:
        chosen: list[Candidate] = []
        handles: dict[bytes, int] = {}
        size = 0
        while queue and len(chosen) < most and size < BATCH_BYTES and cost(len(chosen), size) < self._pace.limit:
            candidate = queue.popleft()
            if not self._is_ready(candidate):
                continue
            candidate.travelling = True
            for each in (candidate, *self._linked(queue, candidate)):
                each.travelling = True
                handles.update(each.handles)
                each.handles = {}
                size += each.size()
                chosen.append(each)
        if not chosen:
            return
        self._batches += 1
        guard = LeaseGuard(handles)
        self._guards[self._batches] = guard
        batch = Batch(number=self._batches, units=tuple(c.unit() for c in chosen), size=size)
        lane.give(Errand(batch=batch, guard=guard))

    def _is_ready(self, candidate: Candidate) -> bool:
        """Whether a unit in a queue is still what was judged: it may have changed, or be gone, or be sent already."""
        known = self._books.roll.get(candidate.name) is candidate
        return known and candidate.look_at is None and not candidate.travelling

    def _linked(self, queue: deque[Candidate], candidate: Candidate) -> list[Candidate]:
        """The other names of a file that are ready as well: only in one batch do they stay links of one file."""
        if candidate.links < 2 or candidate.kind is not Kind.FILE:
            return []
        inode = candidate.identity[:2]
        others = [each for each in queue if each.identity[:2] == inode and self._is_ready(each)]
        return list({each.name: each for each in others}.values())

    def _learn(self, outcome: Outcome) -> None:
        """See from an outcome how the target is, before anything more is sent there."""
        now = time.time()
        if outcome.suspended:
            self.circuit.worked()
            if not self._suspended_until:
                logger.warning("%s has the stop file %s: sending nothing", self._target_words(), self.target.stop_file)
            self._suspended_until = now + self.target.stop_file_poll_interval
            self._suspended = f"{self.target.stop_file} is in {self._target_words()}"
            return
        self._suspended_until = 0.0
        fault, reason = _target_fault(outcome)
        if outcome.removed or any(isinstance(verdict, Confirmed) for verdict in outcome.verdicts):
            self.circuit.proved()
        if fault is FaultClass.LINK and self.circuit.forgives(outcome.started, now):
            logger.info("%s: %s; connecting anew", self._target_words(), reason)
            return
        if fault is None:
            if self.circuit.worked():
                logger.info("%s works again", self._target_words())
                self._books.last_error = None
            return
        self.circuit.failed(reason, now, random.random())  # noqa: S311
        logger.log(
            logging.ERROR if self.circuit.failures == 1 else logging.WARNING,
            "%s: %s; tried again in %.0f s",
            self._target_words(),
            reason,
            self.circuit.retry_at - now,
        )
        self._books.error(reason)

    def _target_words(self) -> str:
        return f"{self.target.host}:{self.target.directory}"


def _carries_much(lane: Lane) -> bool:
    """Whether what travels on a lane will take a while."""
    batch = lane.errand.batch if lane.errand is not None else None
    return batch is not None and _is_large(batch)


def _is_large(batch: Batch) -> bool:
    return len(batch.units) >= _SECOND_FROM or batch.size >= _LARGE


def _target_fault(outcome: Outcome) -> tuple[FaultClass | None, str]:
    if outcome.fault is not None:
        return outcome.fault, outcome.reason
    for verdict in outcome.verdicts:
        if isinstance(verdict, Failed) and verdict.fault in _TARGET_FAULTS:
            return verdict.fault, verdict.reason
    return None, ""


def excluded_names(root: bytes, quarantine: bytes) -> frozenset[bytes]:
    """Given the stream's directory and its quarantine directory, return the names that a scan passes over."""
    prefix = root.rstrip(b"/") + b"/"
    return frozenset({os.path.normpath(quarantine[len(prefix) :])} if quarantine.startswith(prefix) else ())

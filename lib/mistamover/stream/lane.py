"""A lane: one thread that does what may block on the network, so that the stream's own thread never does.

The stream gives it one errand at a time and hears of the end through a queue
and an event.  The lane thread lives as long as its stream: the processes that it
starts end with it.
"""

from __future__ import annotations

import logging
import queue
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mistamover.errors import LinkError, TargetError
from mistamover.links.shared import Turn
from mistamover.model import Batch, Confirmed, Failed, FaultClass, Verdict
from mistamover.stream.guard import LeaseGuard
from mistamover.transport.base import Transport

logger = logging.getLogger(__name__)

#: Seconds after which a batch travels although it is not its turn.
_LONGEST_WAIT = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a lane is asked to do: deliver a batch, remove names, connect, end the connection, or else probe."""

    batch: Batch | None = None
    guard: LeaseGuard | None = None
    remove: Sequence[bytes] = ()
    connect: bool = False
    close: bool = False
    finished: bool = False
    """With `close`: nothing is half sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an errand."""

    lane: str
    errand: Errand
    started: float
    """Seconds since the epoch."""
    verdicts: Sequence[Verdict] = ()
    removed: Sequence[bytes] = ()
    suspended: bool = False
    """The target's stop file is there; nothing was sent."""
    fault: FaultClass | None = None
    """LINK, TARGET or BUG when the whole errand failed."""
    reason: str = ""


class Lane:
    """One thread that runs errands at one transport."""

    def __init__(
        self,
        name: str,
        transport: Transport,
        done: Callable[[Outcome], None],
        turn: Callable[[Batch], Turn | None],
    ) -> None:
        """Given a name, the transport, where to put outcomes (called in the lane's thread) and how to ask for a turn
        for a batch (None: it needs none), be ready; the thread starts with the first errand.
        """
        self.name = name
        self.errand: Errand | None = None
        """What is under way; set and cleared by the stream's thread."""
        self._transport = transport
        self._done = done
        self._turn = turn
        self._queue: queue.SimpleQueue[Errand | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def free(self) -> bool:
        """Whether an errand can be given."""
        return self.errand is None

    def give(self, errand: Errand) -> None:
        """Given an errand, begin it. The lane must be free."""
        self.errand = errand
        self._queue.put(errand)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"lane-{self.name}", daemon=True)
            self._thread.start()

    def stop(self, timeout: float) -> bool:
        """Given a limit in seconds, let the thread end after its errand; return whether it did."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (errand := self._queue.get()) is not None:
            started = time.time()
            try:
                outcome = self._do(errand, started)
            except LinkError as error:
                outcome = self._failed(errand, started, FaultClass.LINK, str(error))
            except TargetError as error:
                outcome = self._failed(errand, started, FaultClass.TARGET, str(error))
            except Exception as error:
                logger.exception("lane %s: an error that should not happen", self.name)
                outcome = self._failed(errand, started, FaultClass.BUG, f"{type(error).__name__}: {error}")
            self._done(outcome)

    def _failed(self, errand: Errand, started: float, fault: FaultClass, reason: str) -> Outcome:
        return Outcome(lane=self.name, errand=errand, started=started, fault=fault, reason=reason)

    def _do(self, errand: Errand, started: float) -> Outcome:
        if errand.close:
            self._transport.close(finished=errand.finished)
            return Outcome(lane=self.name, errand=errand, started=started)
        if self._suspended():
            # Asked before every errand: to connect is to ask just that.
            return Outcome(lane=self.name, errand=errand, started=started, suspended=True)
        if errand.batch is not None and errand.guard is not None:
            return self._in_turn(errand, errand.batch, errand.guard)
        if errand.remove:
            removed = self._transport.remove(errand.remove)
            return Outcome(lane=self.name, errand=errand, started=started, removed=removed)
        if errand.connect:
            self._transport.open()
        else:
            self._transport.probe()
        return Outcome(lane=self.name, errand=errand, started=started)

    def _in_turn(self, errand: Errand, batch: Batch, guard: LeaseGuard) -> Outcome:
        """Deliver a batch when it is its turn; return no verdict where the attempt is given up before."""
        turn = self._turn(batch)
        try:
            if turn is not None and not _wait_for(turn, guard):
                return Outcome(lane=self.name, errand=errand, started=time.time())
            guard.begin()
            started = time.time()
            verdicts = self._examined(self._transport.deliver(batch, guard))
            return Outcome(lane=self.name, errand=errand, started=started, verdicts=verdicts)
        finally:
            if turn is not None:
                turn.close()

    def _suspended(self) -> bool:
        """Look for the stop file; a connection that died while idle costs a reconnect, not a failure."""
        try:
            return self._transport.suspended()
        except (LinkError, TargetError):
            self._transport.open()
            return self._transport.suspended()

    def _examined(self, verdicts: list[Verdict]) -> list[Verdict]:
        """Find out whether what was refused is the files' fault or the target's.

        Where something arrived, the target is well.  Where nothing did, a probe tells.
        """
        if any(isinstance(v, Confirmed) for v in verdicts):
            return [_blamed(v, FaultClass.BUG, FaultClass.REFUSED) for v in verdicts]
        if not any(isinstance(v, Failed) and v.fault is FaultClass.REFUSED for v in verdicts):
            return verdicts
        try:
            self._transport.probe()
        except TargetError as error:
            return [_blamed(v, FaultClass.REFUSED, FaultClass.TARGET, str(error)) for v in verdicts]
        return verdicts


def _wait_for(turn: Turn, guard: LeaseGuard) -> bool:
    """Wait for our turn; return whether it came before the attempt is to be given up.

    The holder of turns forgets who has died, and when it dies itself, everybody may go.  A turn is a courtesy: after
    `_LONGEST_WAIT` it is not waited for any more.
    """
    patience_ends = time.monotonic() + _LONGEST_WAIT
    poll = select.poll()
    poll.register(turn.fileno(), select.POLLIN)
    poll.register(guard.fileno(), select.POLLIN)
    while True:
        deadline = guard.deadline()
        until = patience_ends if deadline is None else min(deadline, patience_ends)
        ready = {handle for handle, _ in poll.poll(1000 * max(0.0, until - time.monotonic()))}
        if turn.fileno() in ready or time.monotonic() >= patience_ends:
            return True
        if deadline is not None and time.monotonic() >= deadline:
            return False


def _blamed(verdict: Verdict, old: FaultClass, new: FaultClass, reason: str = "") -> Verdict:
    if isinstance(verdict, Confirmed) or verdict.fault is not old:
        return verdict
    return Failed(unit=verdict.unit, fault=new, reason=f"{reason}; {verdict.reason}" if reason else verdict.reason)

"""The main flow of one stream: arrivals, decisions, batches, verdicts, hand-over.

`Pipeline.run` is the list of its steps.  All of them run in the stream's own thread;
what may block on the network runs in lanes, and its outcome comes back to `collect`.
While one batch travels, the next is decided and the one before it is handed over.
"""

from __future__ import annotations

import os
import time

from mistamover.config.settings import StreamSettings, TransferUnit
from mistamover.files import stopfile
from mistamover.model import Action, Reason, StreamState
from mistamover.stream import pause, rescue
from mistamover.stream.alarm import Alarm
from mistamover.stream.books import Books
from mistamover.stream.conclude import Conclusion
from mistamover.stream.decide import decide, ignored_by_name
from mistamover.stream.desk import Desk
from mistamover.stream.examine import examine, facts_of
from mistamover.stream.intake import Intake
from mistamover.stream.lane import Outcome
from mistamover.stream.ledger import Ledger
from mistamover.stream.mirror import MirrorRemoval, forget_gone
from mistamover.stream.present import Presenter
from mistamover.stream.quarantine import quarantine
from mistamover.stream.roll import Candidate
from mistamover.stream.route import Route, excluded_names
from mistamover.stream.zips import beside_zips
from mistamover.transport.base import Transport
from mistamover.watch.arrivals import Arrivals

#: Sightings that are taken in at one go, so that the first batch of a backlog leaves early.
_INTAKE = 2_000

#: As above while nothing travels: what is found first sets out at once, and the rest is found meanwhile.
_FIRST_INTAKE = 300

#: Seconds between two looks for a local stop file, or a pause, that is there.
_STOP_LOOK = 1.0
_LOCAL_HOLDS = ("stop-here", pause.CODE)

#: States of a stream that is held, where it is not SUSPENDED.
_HELD = {"circuit": StreamState.UNREACHABLE, pause.CODE: StreamState.PAUSED}

#: Seconds between two looks at the progress of what is on its way.
_PROGRESS_LOOK = 1.0

#: Seconds between two looks of a one-off run at whether it may end.
_ONE_OFF_LOOK = 0.25

#: How long a one-off run waits after the last progress for files that are open or settling, beyond their own times.
_ONE_OFF_PATIENCE = 10.0

#: How long a one-off run waits for the age of directories that it has emptied.
_ONE_OFF_DIRECTORIES = 60.0

#: Seconds between two prunings of the history.
_PRUNE_EVERY = 3600.0

#: Seconds that each step of the end may take when the network does not answer.
_END_SECONDS = 2.0

#: A wait is never longer, whatever the plans say.
_LONGEST_WAIT = 3600.0


class Pipeline:
    """One stream at work."""

    def __init__(
        self,
        settings: StreamSettings,
        ledger: Ledger,
        transport: Transport,
        *,
        lease_capacity: int,
        one_off: bool,
    ) -> None:
        """Given the stream's settings, its ledger and the transport to its target, prepare; see `run`."""
        self._settings = settings
        self._one_off = one_off
        self._alarm = Alarm(settings.state_dir)
        self.wake = self._alarm.wake
        target = settings.targets[0]
        self._books = Books(settings, ledger)
        self._route = Route(self._books, target, transport, lease_capacity=lease_capacity, wake=self.wake)
        self._intake = Intake(self._books, target.name, self._route.replaced)
        required = frozenset(t.name for t in settings.targets if t.required)
        self._conclusion = Conclusion(self._books, required, self._intake.look_at)
        self._desk = Desk(self._books, self._intake.look_at)
        self._removal = MirrorRemoval(settings, target.name)
        self._presenter = Presenter(self._books, self._route)
        self._arrivals = Arrivals(
            self._books.root,
            excluded=excluded_names(self._books.root, os.fsencode(settings.quarantine_dir)),
            whole_directories=settings.unit is TransferUnit.DIRECTORY,
            changes=not self._books.move,
            ignored=lambda name, kind: ignored_by_name(name, kind, self._books.rules) is not None,
            mode=settings.watch,
            rescan_interval=settings.rescan_interval,
            wake=self.wake,
        )
        self._stop_at: float | None = None
        self._lease_broken = False
        self._pruned = 0.0
        self.complete = False
        """Whether the completion file was delivered and nothing was left."""

    # -- called by signal handlers and by other threads ---------------------------------------

    def stop(self) -> None:
        """Ask for an orderly end: what is under way is finished, or abandoned in time for `stop_timeout`."""
        if self._stop_at is None:
            self._stop_at = time.monotonic() + self._settings.stop_timeout
        self.wake()

    def leases_broken(self) -> None:
        """Take note that a writer waits for one of our leases."""
        self._lease_broken = True
        self.wake()

    def hurry(self) -> None:
        """Try a target that failed again at once, and look at everything anew."""
        self._route.hurry()
        self._arrivals.request_scan()
        self._alarm.ring()

    # -- the main flow ------------------------------------------------------------------------

    def run(self) -> int:
        """Serve the stream until it is told to stop, is complete, or (one-off) all that is there has ended.

        Return 0, or 1 when a one-off run leaves something undelivered.
        """
        self._desk.recover()
        self._conclusion.recover()
        self._arrivals.start()
        self._route.start(connect=self._paused() is None)
        try:
            while True:
                self._let_writers_in()
                self._answer_requests()
                self._take_arrivals()
                self._judge()
                outcomes = self._route.collect()
                self._dispatch()
                for outcome in outcomes:
                    self._conclude(outcome)
                self._tidy()
                self._show()
                if self._finished():
                    break
                self._wait()
        finally:
            self._end()
        return 1 if self._one_off and self._left_something() else 0

    def _let_writers_in(self) -> None:
        if self._lease_broken:
            self._lease_broken = False
            self._route.let_writers_in(time.time())

    def _answer_requests(self) -> None:
        if self._stop_at is None and (self._alarm.rung() or self._desk.busy):
            self._desk.serve()

    def _take_arrivals(self) -> None:
        if self._stop_at is not None:
            return
        now = time.time()
        roll = self._books.roll
        if not roll.room and not self._route.travelling and not self._route.ready:
            self._books.counts.seen -= roll.evict(now)
        most = _INTAKE if self._route.travelling else _FIRST_INTAKE
        for sighting in self._arrivals.take(min(most, roll.room)):
            self._intake.meet(sighting, now)
        for name in self._books.directories.due_empty(now):
            self._intake.look_at(name, now)

    def _judge(self) -> None:
        """Decide about everything that is due, as far as batches have room for it."""
        if self._stop_at is not None or self._hold() is not None:
            return
        now = time.time()
        while self._route.has_room and (candidate := self._books.roll.due(now)) is not None:
            self._judge_one(candidate, now)

    def _judge_one(self, candidate: Candidate, now: float) -> None:
        if ignored_by_name(candidate.name, candidate.kind, self._books.rules) is None:
            facts = examine(self._books.root, candidate, now)
        else:
            facts = facts_of(candidate, None)
        if facts is None:
            self._books.withdraw(candidate)
            self._intake.look_at(candidate.name, now)
            return
        if self._books.rules.zips:
            facts = beside_zips(facts, self._books.root, self._books.rules, self._books.ledger, self._books.roll)
        decision = decide(facts, self._books.rules, now)
        candidate.decision = decision
        if decision.action is Action.SEND:
            self._route.add(candidate)
            return
        candidate.release()
        if decision.action is Action.WAIT:
            self._books.roll.look(candidate, decision.look_again)
        elif decision.action is Action.QUARANTINE:
            quarantine(self._books, candidate, decision.reasons[-1].text, self._route.target.name)
        elif decision.action is Action.DONE:
            # It was met because it might have changed; it has not.
            self._books.roll.drop(candidate)
            self._books.counts.seen -= 1
        else:
            self._intake.ignored(candidate)

    def _dispatch(self) -> None:
        if self._stop_at is not None:
            return
        if self._hold() is not None:
            self._route.give_back()
        if not self._stopped_here() and self._paused() is None:
            self._route.dispatch(time.time(), self._removals)

    def _removals(self) -> list[bytes]:
        """Ask the mirror what to remove at the target, once everything that was found is there."""
        if not self._removal.due(self._arrivals.full_scans) or self._arrivals.problems or self._hold() is not None:
            return []
        return list(self._removal.wanted(self._books.ledger, self._books.root))

    def _conclude(self, outcome: Outcome) -> None:
        errand = outcome.errand
        if errand.batch is not None:
            self._conclusion.conclude(outcome, self._route.guard(errand.batch.number), self._route.target)
        elif errand.remove:
            self._removal.done(self._books.ledger, outcome.removed, failed=outcome.fault is not None)
            self._books.moved_on()

    def _tidy(self) -> None:
        now = time.time()
        if len(self._conclusion.rescue):
            self._conclusion.look_after_orphans()
        if self._books.move and self._stop_at is None and self._books.directories.remove_emptied(now):
            self._books.moved_on()
        if now - self._pruned > _PRUNE_EVERY:
            self._pruned = now
            if self._settings.history_retention:
                self._books.ledger.prune(now - self._settings.history_retention)
            self._books.forget_emptied_quarantine()
            if self._settings.keeps_for_whole:
                forget_gone(self._books.ledger, self._books.root, self._route.target.name)

    # -- when to end --------------------------------------------------------------------------

    def _finished(self) -> bool:
        if self._stop_at is not None:
            return self._stopped(self._stop_at)
        scanned = self._arrivals.full_scans > 0 and not self._arrivals.busy
        if not scanned or not self._route.idle or len(self._conclusion.rescue):
            return False
        empty = not len(self._books.roll) and not self._removal.due(self._arrivals.full_scans)
        if empty and self._settings.completion_file and self._books.ledger.completing:
            self.complete = True
            self._books.ledger.completing = False
            return True
        if not self._one_off:
            return False
        return not self._directories_worth_waiting() if empty else self._nothing_more_to_hope_for()

    def _stopped(self, limit: float) -> bool:
        """Whether a stop has come to its end: what was under way has ended, or has been given up."""
        self._route.give_back()
        if self._route.idle:
            return True
        left = limit - time.monotonic()
        if left < self._settings.stop_timeout / 3:
            self._route.give_up()
        return left < 0

    def _directories_worth_waiting(self) -> bool:
        when = self._books.directories.next_time() if self._books.move else None
        return when is not None and when - time.time() <= _ONE_OFF_DIRECTORIES

    def _nothing_more_to_hope_for(self) -> bool:
        """Whether a one-off run has to leave behind what is still on the roll."""
        hold = self._hold()
        if hold is not None:
            return hold.code != "circuit" or self._route.circuit.failures >= max(1, self._settings.retry_count)
        now = time.time()
        if self._route.ready or any(c.retry_at > now and not c.held_up for c in self._books.roll):
            return False
        patience = max(self._settings.settle_time, self._settings.minimum_age) + _ONE_OFF_PATIENCE
        return time.monotonic() - self._books.progress > patience

    def _left_something(self) -> bool:
        left = len(self._books.roll) or self._books.counts.quarantined
        return bool(left or self._arrivals.problems or self._removal.refused)

    # -- waiting and showing ------------------------------------------------------------------

    def _stopped_here(self) -> bool:
        return stopfile.pauses(self._books.root + b"/" + self._books.rules.stop_file)

    def _paused(self) -> Reason | None:
        return pause.reason(self._settings.state_dir, self._settings.name)

    def _hold(self) -> Reason | None:
        """Why nothing is sent at the moment, or None."""
        if (paused := self._paused()) is not None:
            return paused
        if self._stopped_here():
            return Reason(code="stop-here", words=f"{self._settings.stop_file} is in the stream's directory")
        return self._route.hold(time.time())

    def _wait(self) -> None:
        """Wait for an event, or for the next moment at which something is to be done."""
        self._alarm.sleep(min(_LONGEST_WAIT, self._next_moment() - time.time()))

    def _next_moment(self) -> float:
        now = time.time()
        if self._route.has_outcomes or (self._desk.busy and self._stop_at is None):
            return now
        if self._stop_at is not None:
            return now + 0.05
        if self._arrivals.busy and self._books.roll.room:
            return now
        hold = self._hold()
        moments: list[float | None] = [now + max(0.0, self._arrivals.next_scan() - time.monotonic())]
        if hold is None and self._route.has_room:
            # Without room, the outcome that makes room wakes us.
            moments.append(self._books.roll.next_look())
        elif hold is not None:
            moments.append(now + _STOP_LOOK if hold.code in _LOCAL_HOLDS else self._route.next_moment())
        if self._books.move:
            moments.append(self._books.directories.next_time())
        if self._one_off:
            moments.append(now + _ONE_OFF_LOOK)
        if len(self._conclusion.rescue):
            moments.append(now + rescue.LOOK)
        if seconds := self._presenter.next_moment:
            moments.append(now + seconds)
        elif self._route.travelling:
            # Progress is worth showing while something takes long.
            moments.append(now + _PROGRESS_LOOK)
        return min(moment for moment in moments if moment is not None)

    def _show(self, *, final: bool = False) -> None:
        hold = self._hold()
        problems = dict(self._arrivals.problems)
        self._presenter.show(self._state(hold), hold, problems, self._removal.refused, self._arrivals.gap, final=final)

    def _state(self, hold: Reason | None) -> StreamState:
        if self.complete:
            return StreamState.COMPLETE
        if self._stop_at is not None:
            return StreamState.STOPPING
        if hold is not None:
            return _HELD.get(hold.code, StreamState.SUSPENDED)
        if self._route.travelling:
            return StreamState.SENDING
        return StreamState.WAITING if len(self._books.roll) else StreamState.IDLE

    def _end(self) -> None:
        """Close in the order that loses nothing: arrivals, what is under way, the connection, the last word."""
        self._arrivals.stop()
        self._route.give_up()
        if not self._lanes_end(_END_SECONDS):
            self._route.abort()
            self._lanes_end(_END_SECONDS)
        deadline = time.monotonic() + _END_SECONDS
        while len(self._conclusion.rescue) and time.monotonic() < deadline:
            self._conclusion.look_after_orphans()
            self._alarm.sleep(rescue.LOOK)
        self._route.give_back()
        self._conclusion.closer.stop()
        self._route.close(finished=not len(self._books.roll), timeout=_END_SECONDS)
        self._show(final=True)

    def _lanes_end(self, seconds: float) -> bool:
        """Given a limit, wait for what is under way, and conclude it; return whether all of it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            for outcome in self._route.collect():
                self._conclude(outcome)
            if self._route.idle:
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._alarm.sleep(left)

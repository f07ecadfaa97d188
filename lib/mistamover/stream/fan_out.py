"""The end of the way in a stream with several targets: a source goes when every required one has it.

Each target has a part of its own, a process that sends and keeps (see `config.fan_out`).  This process reads the
ledgers of the required parts, and removes what stands in all of them as it is here now, in the order of `handover`:
recorded, looked at once more, removed.  It remembers how far it has read; killed in between it reads that batch again.
"""

from __future__ import annotations

import logging
import os
import select
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from mistamover.config.settings import StreamSettings
from mistamover.errors import LedgerError
from mistamover.files.identity import DirectoryHandles, identity_of
from mistamover.model import Confirmed, Kind, StreamState
from mistamover.report import snapshot as snapshots
from mistamover.report.snapshot import Snapshot
from mistamover.stream import handover
from mistamover.stream.books import Books
from mistamover.stream.conclude import note_stuck
from mistamover.stream.desk import Desk
from mistamover.stream.ledger import Ledger
from mistamover.watch.events import Events

logger = logging.getLogger(__name__)

#: Seconds between two looks at the ledgers when no event tells of one.
_LOOK = 1.0

#: Seconds before a source that somebody had open is looked at again.
_LATER = 2.0

#: What the notes on how far each ledger was read begin with.
_READ = "read:"

_LEDGER = "ledger.sqlite"


@dataclass(slots=True)
class _Part:
    """One required part, and how far its ledger was read."""

    settings: StreamSettings
    read: int = 0
    """The last batch that was taken in."""
    ledger: Ledger | None = None

    @property
    def target(self) -> str:
        return self.settings.targets[0].name


class FanOut:
    """The removing end of one stream with several targets."""

    def __init__(self, settings: StreamSettings, ledger: Ledger, *, one_off: bool) -> None:
        """Given the whole stream's settings and its ledger, prepare; see `run`.

        With `one_off` nothing is waited for: the parts have ended.
        """
        self._settings = settings
        self._one_off = one_off
        self._books = Books(settings, ledger)
        self._parts = [_Part(part) for part in settings.parts if any(target.required for target in part.targets)]
        self._desk = Desk(self._books, lambda _name, _now: self.hurry())
        self._later: dict[int, tuple[float, list[Confirmed]]] = {}
        """Batches of which a source could not go yet, and when to look again."""
        self._removed = self._size = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._events: list[Events] = []
        self._stopping = self._anew = False
        self._started = time.time()
        self._shown: Snapshot | None = None

    def wake(self) -> None:
        """Look around now; from any thread or a signal."""
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def stop(self) -> None:
        """Ask for an end."""
        self._stopping = True
        self.wake()

    def hurry(self) -> None:
        """Look at all deliveries that are recorded once more: what could not be removed may go now."""
        self._anew = True
        self.wake()

    def run(self) -> int:
        """Serve until told to stop, or (one-off) hand over all that the parts have delivered.

        Return 0, or 1 when a one-off run leaves something.
        """
        self._desk.recover()
        self._recover()
        self._find_positions()
        self._listen()
        try:
            while True:
                self._desk.serve()
                self._take_all()
                self._try_again()
                self._books.directories.remove_emptied(time.time())
                self._show()
                if self._stopping or (self._one_off and not self._later and not len(self._books.directories)):
                    break
                self._wait()
        finally:
            for events in self._events:
                events.stop()
            self._show(final=True)
        return 1 if self._one_off and any(t.quarantined for t in self._books.troubles.values()) else 0

    # -- taking in ----------------------------------------------------------------------------

    def _recover(self) -> None:
        """Finish what a predecessor recorded and did not hand over."""
        for batch, _, confirmed in list(self._books.ledger.open_batches()):
            self._hand_over(batch, confirmed)

    def _find_positions(self) -> None:
        """Go on where a predecessor stopped; from the beginning if it waited for other targets than we do."""
        noted = self._books.ledger.notes(_READ)
        if set(noted) == {part.target for part in self._parts}:
            for part in self._parts:
                part.read = int(noted[part.target])

    def _take_all(self) -> None:
        if self._anew:
            self._anew = False
            for part in self._parts:
                part.read = 0
        before = [part.read for part in self._parts]
        for part in self._parts:
            try:
                self._take(part)
            except (sqlite3.Error, LedgerError) as error:
                words = f"a ledger of {self._settings.name} cannot be read: {error}"
                if self._books.last_error is None or self._books.last_error[0] != words:
                    logger.error("%s", words)
                self._books.error(words)
        if before != [part.read for part in self._parts]:
            self._books.ledger.note(_READ, {part.target: str(part.read) for part in self._parts})

    def _take(self, part: _Part) -> None:
        """Take in what a part has delivered since the last look; what another one lacks comes up when it has it."""
        ledgers = {each.target: _ledger_of(each) for each in self._parts}
        mine = ledgers.pop(part.target)
        if mine is None:
            return
        if mine.last_batch() < part.read:
            # It is another ledger than the one that was read: somebody has removed that.
            part.read = 0
        for batch, confirmed in mine.batches_after(part.read):
            complete = self._complete(confirmed, ledgers)
            if complete:
                self._record(complete)
            part.read = batch
            if self._stopping:
                return

    def _complete(self, confirmed: Sequence[Confirmed], others: dict[str, Ledger | None]) -> list[Confirmed]:
        """Return what the others have as well and is still here as it was."""
        complete = []
        with DirectoryHandles(self._books.root) as handles:
            for item in confirmed:
                unit = item.unit
                if any(led is None or led.mirrored(unit.name, name) != unit.identity for name, led in others.items()):
                    continue
                if unit.kind is Kind.DIRECTORY:
                    # It goes when it is empty and nobody has used it for a while.
                    self._books.directories.left(unit.name + b"/.", unit.identity.ctime_ns / 1e9)
                elif _is_here(handles, item):
                    complete.append(item)
        return complete

    # -- handing over -------------------------------------------------------------------------

    def _record(self, complete: Sequence[Confirmed]) -> None:
        now = time.time()
        batch = self._books.ledger.confirm(
            complete,
            target=" and ".join(part.settings.name.rpartition("@")[2] for part in self._parts),
            lane="fan-out",
            algorithm=self._parts[0].settings.targets[0].hash,
            started=now,
            now=now,
            mirror=False,
        )
        self._hand_over(batch, complete)

    def _hand_over(self, batch: int, confirmed: Sequence[Confirmed]) -> None:
        """Remove the sources; what somebody has open is looked at again."""
        done = handover.remove_after_restart(self._books.root, confirmed)
        units = {item.unit.name: item.unit for item in confirmed}
        note_stuck(self._books, done, units, self._parts[0].target)
        for item in done:
            if item.kept is None:
                unit = units[item.name]
                self._removed += 1
                self._size += unit.identity.size
                self._books.directories.left(unit.name, unit.identity.ctime_ns / 1e9)
        self._books.moved_on()
        busy = {item.name for item in done if item.kept == handover.BUSY}
        if busy:
            left = [item for item in confirmed if item.unit.name in busy]
            self._later[batch] = (time.time() + _LATER, left)
            return
        self._later.pop(batch, None)
        kept = {item.name: item.kept for item in done if item.kept is not None}
        self._books.ledger.handed_over(batch, time.time(), kept)
        if len(done) > len(kept):
            logger.info("%d units are at every required target: removed here", len(done) - len(kept))

    def _try_again(self) -> None:
        now = time.time()
        for batch, (when, left) in list(self._later.items()):
            if when <= now:
                self._hand_over(batch, left)

    # -- waiting and showing ------------------------------------------------------------------

    def _listen(self) -> None:
        """Hear of what the parts write: each replaces its status when something has happened."""
        for part in self._parts if not self._one_off else ():
            part.settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                events = Events(os.fsencode(part.settings.state_dir), changes=False, wake=self.wake)
                self._events.append(events)
                events.watch(b"")
            except OSError as error:
                logger.warning("no events (%s): looking every %g s", error.strerror, _LOOK)

    def _wait(self) -> None:
        seconds = _LOOK
        if self._desk.busy:
            seconds = 0.0
        if (moment := self._books.directories.next_time()) is not None:
            seconds = min(seconds, max(0.0, moment - time.time()))
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if poll.poll(1000 * seconds):
            with suppress(BlockingIOError):
                while os.read(self._wake_read, 65536):
                    continue
        for events in self._events:
            events.take()

    def _show(self, *, final: bool = False) -> None:
        hold = self._hold()
        waiting = sum(len(left) for _, left in self._later.values())
        error, error_at = self._books.last_error or (None, None)
        snapshot = Snapshot(
            name=self._settings.name,
            state=StreamState.STOPPING if self._stopping else StreamState.SUSPENDED if hold else StreamState.IDLE,
            since=self._started,
            pid=os.getpid(),
            seen=self._removed + waiting,
            delivered=self._removed,
            waiting=waiting,
            bytes_delivered=self._size,
            last_error=error,
            last_error_at=error_at,
            hold=hold,
            directories=len(self._books.directories),
        )
        if snapshot == self._shown and not final:
            return
        try:
            snapshots.write(self._settings.state_dir, replace(snapshot, updated=time.time()))
        except OSError as failure:
            logger.error("cannot write the status: %s", failure)
        self._shown = snapshot

    def _hold(self) -> str | None:
        """Why nothing can leave: a required part that sends nothing."""
        for part in self._parts:
            said = snapshots.read(part.settings.state_dir)
            if said is not None and said.hold:
                return f"{part.settings.name}: {said.hold}"
        return None


def _ledger_of(part: _Part) -> Ledger | None:
    """Return the ledger of a part, opened when it is first there; None while it has delivered nothing yet."""
    if part.ledger is None and (path := part.settings.state_dir / _LEDGER).exists():
        with suppress(LedgerError):  # it is just being made
            part.ledger = Ledger(path, read_only=True)
    return part.ledger


def _is_here(handles: DirectoryHandles, item: Confirmed) -> bool:
    try:
        status = handles.lstat(item.unit.name)
    except OSError:
        return False
    # What a directory unit holds is compared when it is removed.
    return item.unit.kind is Kind.TREE or identity_of(status) == item.unit.identity

"""What a stream's ledger holds that a program has not been told yet, in order, and how far it was told.

Reads the ledger only.  The position is written after a batch was taken, so a batch may be told twice and none is left
out; every event has an id that never changes.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mistamover.alerts.incidents import Incident
from mistamover.alerts.look import LEDGER, Mark, journal_of, marks
from mistamover.alerts.poster import Event
from mistamover.config.settings import StreamSettings
from mistamover.errors import LedgerError
from mistamover.files.durable import write_whole
from mistamover.files.names import display, json_name
from mistamover.stream.ledger import Delivery, Ledger, Trouble

#: Events of one message.
MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a ledger was told."""

    owner: str = ""
    """Of the ledger: another one begins anew."""
    delivered: int = 0
    confirmed: float | None = None
    """When that delivery was confirmed: numbers are given again once all records were pruned."""
    quarantined: tuple[str, ...] = ()
    """Keys of what is in quarantine and was told."""


class Feed:
    """The events of one stream."""

    def __init__(self, stream: StreamSettings, directory: Path, wanted: tuple[str, ...], began: float) -> None:
        """Given a stream, where positions are kept, which events are wanted, and from when on a stream without a
        position is told, find the position. Raise OSError, LedgerError.
        """
        self._stream = stream
        self._ledger = stream.state_dir / LEDGER
        self._file = directory / f"{stream.name}.json"
        self._wanted = wanted
        self._mark: Mark | None = None
        position = _read(self._file)
        if position is None:
            position = self._first(began)
            _write(self._file, position)
        self._position = position

    def next(self) -> tuple[list[Event], Position] | None:
        """Return the next events and the position behind them; None if there are none. Raise LedgerError, OSError."""
        mark = marks((self._ledger, *journal_of(self._ledger)))
        if mark == self._mark or not self._ledger.exists():
            return None
        with _opened(self._ledger) as ledger:
            found, position = self._deliveries(ledger, self._begin(ledger))
            if len(found) < MOST:
                quarantined, position = self._quarantines(ledger, position, MOST - len(found))
                found += quarantined
        if not found:
            # Taken before the reading: what came meanwhile is found next time.
            self._mark = mark
            if position != self._position:
                self.accept(position)
            return None
        return found, position

    def accept(self, position: Position) -> None:
        """Given the position behind events that were taken, go on from there. Raise OSError."""
        _write(self._file, position)
        self._position = position

    def _first(self, began: float) -> Position:
        if not self._ledger.exists():
            return Position()
        with _opened(self._ledger) as ledger:
            number = ledger.last_before(began)
            known = (t for t in ledger.troubles() if t.quarantined and t.since < began)
            return Position(
                owner=ledger.owner,
                delivered=number,
                confirmed=ledger.confirmed_at(number),
                quarantined=tuple(sorted(map(_key, known))),
            )

    def _begin(self, ledger: Ledger) -> Position:
        """The position, if it still means something in this ledger."""
        position = self._position
        if position.owner != ledger.owner:
            return Position(owner=ledger.owner)
        confirmed = ledger.confirmed_at(position.delivered)
        pruned = confirmed is None and ledger.last_number() >= position.delivered
        if confirmed == position.confirmed or pruned:
            return position
        return replace(position, delivered=0, confirmed=None)

    def _deliveries(self, ledger: Ledger, position: Position) -> tuple[list[Event], Position]:
        if "delivered" not in self._wanted:
            number = ledger.last_number()
            return [], replace(position, delivered=number, confirmed=ledger.confirmed_at(number))
        found = ledger.delivered_after(position.delivered, MOST)
        if not found:
            return [], position
        events = [_delivered(self._stream.name, position.owner, delivery) for delivery in found]
        return events, replace(position, delivered=found[-1].id, confirmed=found[-1].confirmed)

    def _quarantines(self, ledger: Ledger, position: Position, most: int) -> tuple[list[Event], Position]:
        there = {_key(trouble): trouble for trouble in ledger.troubles() if trouble.quarantined}
        told = there.keys() & set(position.quarantined)
        fresh = [key for key in there if key not in told]
        if "quarantined" in self._wanted:
            fresh = fresh[:most]
            events = [_quarantined(self._stream.name, position.owner, key, there[key]) for key in fresh]
        else:
            events = []
        return events, replace(position, quarantined=tuple(sorted({*told, *fresh})))


def of_incident(incident: Incident) -> Event:
    """Given an incident that is told for the first time or is over, return the event."""
    condition = incident.condition
    over = incident.gone is not None
    return {
        "id": f"{incident.id}-{'over' if over else 'opened'}",
        "event": "incident",
        "state": "over" if over else "opened",
        "kind": condition.kind.value,
        "subject": condition.subject,
        "streams": list(condition.streams),
        "text": condition.words,
        "details": list(condition.details),
        "files": condition.count,
        "began": incident.began,
        "over": incident.gone,
    }


def _delivered(stream: str, owner: str, delivery: Delivery) -> Event:
    return {
        "id": f"{owner}-{delivery.id}-{int(delivery.confirmed * 1000)}",
        "event": "delivered",
        "stream": stream,
        **json_name(delivery.name),
        "kind": delivery.kind.value,
        "size": delivery.identity.size,
        "target": delivery.target,
        "algorithm": delivery.algorithm or None,
        "digest": delivery.digest or None,
        "first_seen": delivery.first_seen,
        "delivered": delivery.confirmed,
    }


def _quarantined(stream: str, owner: str, key: str, trouble: Trouble) -> Event:
    return {
        "id": f"{owner}-q-{key}",
        "event": "quarantined",
        "stream": stream,
        **json_name(trouble.name),
        "target": trouble.target,
        "attempts": trouble.attempts,
        "reason": display(trouble.reason.encode("utf-8", "surrogateescape")),
        "first_seen": trouble.since,
    }


def _key(trouble: Trouble) -> str:
    what = b"\0".join((trouble.name, trouble.target.encode(), repr(trouble.since).encode()))
    return hashlib.blake2b(what, digest_size=8).hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Ledger]:
    try:
        with Ledger(path, read_only=True) as ledger:
            yield ledger
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {error}") from error


def _read(path: Path) -> Position | None:
    try:
        values = json.loads(path.read_bytes())
        return Position(**{**values, "quarantined": tuple(values["quarantined"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(path: Path, position: Position) -> None:
    write_whole(path, json.dumps(asdict(position)).encode())

"""What the ledger holds, as tables and as values; no file is opened here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mistamover.model import Confirmed, FaultClass, Identity, Kind, TreeEntry, Unit

_FIRST = """
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL,
    lane TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    started REAL NOT NULL,
    confirmed REAL NOT NULL,
    handed_over REAL
);
CREATE INDEX batch_open ON batch (id) WHERE handed_over IS NULL;
CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    name BLOB NOT NULL,
    kind TEXT NOT NULL,
    dev INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    digest TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    first_seen REAL NOT NULL,
    part INTEGER NOT NULL,
    kept TEXT
);
CREATE INDEX delivery_batch ON delivery (batch);
CREATE TABLE trouble (
    name BLOB NOT NULL,
    target TEXT NOT NULL,
    quarantined INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    fault TEXT NOT NULL,
    reason TEXT NOT NULL,
    since REAL NOT NULL,
    retry_at REAL NOT NULL,
    dev INTEGER, ino INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    moved_to BLOB,
    PRIMARY KEY (name, target)
) WITHOUT ROWID;
CREATE TABLE mirrored (
    name BLOB NOT NULL,
    target TEXT NOT NULL,
    kind TEXT NOT NULL,
    dev INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    PRIMARY KEY (name, target)
) WITHOUT ROWID;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_RELEASES = """
CREATE TABLE trouble_by_place (
    name BLOB NOT NULL,
    target TEXT NOT NULL,
    quarantined INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    fault TEXT NOT NULL,
    reason TEXT NOT NULL,
    since REAL NOT NULL,
    retry_at REAL NOT NULL,
    dev INTEGER, ino INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
    moved_to BLOB NOT NULL,
    PRIMARY KEY (name, target, moved_to)
) WITHOUT ROWID;
INSERT INTO trouble_by_place
    SELECT name, target, quarantined, attempts, fault, reason, since, retry_at, dev, ino, size, mtime_ns, ctime_ns,
        coalesce(moved_to, x'') FROM trouble;
DROP TABLE trouble;
ALTER TABLE trouble_by_place RENAME TO trouble;
CREATE TABLE relocation (
    source BLOB PRIMARY KEY,
    name BLOB NOT NULL,
    verb TEXT NOT NULL,
    who TEXT NOT NULL,
    destination BLOB NOT NULL,
    dev INTEGER NOT NULL, ino INTEGER NOT NULL,
    copy_dev INTEGER, copy_ino INTEGER,
    placed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE released (
    id INTEGER PRIMARY KEY,
    name BLOB NOT NULL,
    target TEXT NOT NULL,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    released REAL NOT NULL,
    place BLOB NOT NULL,
    dev INTEGER, ino INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER
);
CREATE INDEX released_name ON released (name);
"""

#: What each version of the file added to the one before.
STEPS = {1: _FIRST, 2: _RELEASES}

HISTORY = (
    "SELECT d.id, d.name, d.kind, d.dev, d.ino, d.size, d.mtime_ns, d.ctime_ns, b.target, b.lane, b.algorithm,"
    " d.digest, d.attempts, d.first_seen, b.started, b.confirmed, b.handed_over, d.kept"
    " FROM delivery d JOIN batch b ON b.id = d.batch"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One line of the history."""

    id: int
    name: bytes
    kind: Kind
    identity: Identity
    target: str
    lane: str
    algorithm: str
    digest: str
    attempts: int
    first_seen: float
    started: float
    confirmed: float
    handed_over: float | None
    """When the source was removed, or decided to be kept; None while that is to be done."""
    kept: str | None
    """Why the source was kept, where that is worth saying."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What the ledger remembers about a unit that could not be delivered."""

    name: bytes
    target: str
    quarantined: bool
    attempts: int
    fault: FaultClass
    reason: str
    since: float
    retry_at: float
    identity: Identity | None
    moved_to: bytes | None = None
    """Absolute path in the quarantine directory, when it was moved there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over the whole history that is kept."""

    files: int
    size: int
    quarantined: int
    released: int
    last: float | None
    """When the last delivery was confirmed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """A unit that is moved out of quarantine: noted before it is, so that whoever comes after a crash can finish."""

    name: bytes
    verb: str
    """Why it is moved; see `requests.Verb`."""
    who: str
    source: bytes
    """Absolute path where it lies."""
    destination: bytes
    """Absolute path where it is to lie."""
    found: tuple[int, int]
    """Device and inode of what lies at `source`."""
    copy: tuple[int, int] | None = None
    """Device and inode of its complete copy, where it cannot be renamed."""
    placed: bool = False
    """The copy is at `destination`, durably: what is left at `source` is to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A unit that somebody has taken out of the stream for good."""

    name: bytes
    target: str
    reason: str
    """Why it had been quarantined."""
    who: str
    when: float
    place: bytes
    """Absolute path where it was left."""
    identity: Identity | None = None
    """What it was, if it lies in the stream's directory: as such it is not sent."""

    @property
    def words(self) -> str:
        """Who released it and when, for people."""
        return f"released by {self.who} at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.when))}"


def still_there(trouble: Trouble, root: bytes | None) -> bool:
    """Given a note of a quarantine and the stream's directory, tell whether what it speaks of is still there.

    An operator who has moved it back, or has thrown it away, has dealt with it.
    """
    if trouble.moved_to is not None:
        return os.path.lexists(trouble.moved_to)
    return root is None or os.path.lexists(root + b"/" + trouble.name)


def with_parts(whole: Confirmed) -> Iterator[tuple[bool, Confirmed]]:
    """Given a unit, yield it and then its parts, each with whether it is a part."""
    yield False, whole
    for part in whole.parts:
        yield True, part


def at_target(whole: Confirmed) -> Iterator[Confirmed]:
    """Given a unit, yield what stands for it in the target directory: itself, and its zip if it was zipped."""
    yield whole
    yield from (part for part in whole.parts if b"/" not in part.unit.name)


def row_of(batch: int, confirmed: Confirmed, part: bool) -> tuple[object, ...]:
    """Given a batch, a unit and whether it is a part of another, return its row in the table of deliveries."""
    unit = confirmed.unit
    return (
        batch,
        unit.name,
        unit.kind.value,
        *unit.identity,
        confirmed.digest,
        unit.attempts,
        unit.first_seen,
        part,
    )


def restored(rows: Iterable[tuple[Any, ...]]) -> list[Confirmed]:
    """Given rows in the order in which they were written, return units; parts follow their directory unit."""
    units: list[Confirmed] = []
    for name, kind, *numbers, digest, attempts, first_seen, part in rows:
        unit = Unit(name=name, kind=Kind(kind), identity=Identity(*numbers), attempts=attempts, first_seen=first_seen)
        if not part:
            units.append(Confirmed(unit=unit, digest=digest))
            continue
        whole = units[-1].unit
        if not name.startswith(whole.name + b"/"):
            # The zip of the unit is at the target, not in the directory here.
            continue
        entry = TreeEntry(name=name[len(whole.name) + 1 :], kind=unit.kind, identity=unit.identity)
        units[-1] = replace(units[-1], unit=replace(whole, manifest=(*whole.manifest, entry)))
    return units


def delivery_of(row: tuple[Any, ...]) -> Delivery:
    """Given a row of `HISTORY`, return it as a value."""
    number, name, kind, dev, ino, size, mtime, ctime, *rest = row
    target, lane, algorithm, digest, attempts, seen, started, confirmed, handed_over, kept = rest
    return Delivery(
        id=number,
        name=name,
        kind=Kind(kind),
        identity=Identity(dev, ino, size, mtime, ctime),
        target=target,
        lane=lane,
        algorithm=algorithm,
        digest=digest,
        attempts=attempts,
        first_seen=seen,
        started=started,
        confirmed=confirmed,
        handed_over=handed_over,
        kept=kept,
    )


def relocation_of(row: tuple[Any, ...]) -> Relocation:
    """Given a whole row of the table, return it as a value."""
    source, name, verb, who, destination, dev, ino, copy_dev, copy_ino, placed = row
    return Relocation(
        name=name,
        verb=verb,
        who=who,
        source=source,
        destination=destination,
        found=(dev, ino),
        copy=(copy_dev, copy_ino) if copy_dev is not None else None,
        placed=bool(placed),
    )


def release_of(row: tuple[Any, ...]) -> Release:
    """Given a whole row of the table, return it as a value."""
    _, name, target, reason, who, when, place, *numbers = row
    identity = Identity(*numbers) if numbers[0] is not None else None
    return Release(name=name, target=target, reason=reason, who=who, when=when, place=place, identity=identity)

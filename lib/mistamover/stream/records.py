"""What the ledger holds, as tables and as values; no file is opened here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from mistamover.model import Confirmed, FaultClass, Identity, Kind, TreeEntry, Unit

VERSION = 1

SCHEMA = """
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
    last: float | None
    """When the last delivery was confirmed."""


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

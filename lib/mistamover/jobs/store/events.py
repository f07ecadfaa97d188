"""The log of what happened to jobs: its numbers grow in the order in which readers can see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select

from mistamover.jobs.model import Event
from mistamover.jobs.store.database import Database
from mistamover.jobs.store.schema import events

#: The largest number that a database can hold; beyond it there is nothing.
LARGEST: Final = 2**63 - 1
#: Of these only the newest one of each job is kept.
PROGRESS: Final = "progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is to be recorded."""

    job: str
    kind: str
    seq: int | None = None
    data: Mapping[str, object] = field(default_factory=dict)


def record(database: Database, connection: Connection, now: float, news: Sequence[News]) -> None:
    """Given a writing connection, record what happened; the last that is done in its transaction.

    Otherwise numbers could become visible in another order than they grow, and a reader would miss some.
    """
    if not news:
        return
    database.serialise(connection, "events")
    for each in news:
        if each.kind == PROGRESS:
            connection.execute(delete(events).where(events.c.job == each.job, events.c.kind == PROGRESS))
    rows: list[dict[str, Any]] = [
        {"job": each.job, "seq": each.seq, "time": now, "kind": each.kind, "data": dict(each.data)} for each in news
    ]
    connection.execute(insert(events), rows)


class Events:
    """The log, to be read."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def after(self, number: int, *, job: str | None = None, limit: int = 1000) -> list[Event]:
        """Given a number, return the events that came later, oldest first; of one job, or of all."""
        wanted = select(events).where(events.c.number > min(number, LARGEST))
        if job is not None:
            wanted = wanted.where(events.c.job == job)
        with self._database.read() as connection:
            rows = connection.execute(wanted.order_by(events.c.number).limit(limit)).all()
        return [
            Event(number=row.number, job=row.job, seq=row.seq, time=row.time, kind=row.kind, data=row.data)
            for row in rows
        ]

    def last(self) -> int:
        """Return the number of the newest event, 0 if there is none."""
        with self._database.read() as connection:
            return connection.execute(select(func.max(events.c.number))).scalar() or 0

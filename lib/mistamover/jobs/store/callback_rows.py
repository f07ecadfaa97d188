"""The callbacks in the store: whom to tell that a job has ended, until that has worked."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import delete, func, select, update

from mistamover.jobs.model import DueCallback
from mistamover.jobs.store.database import Database
from mistamover.jobs.store.rows import job_of
from mistamover.jobs.store.schema import callbacks, jobs


class Callbacks:
    """All that are still to be made; each is put here in the moment in which its job ends."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def due(self, lease: float, *, limit: int = 20) -> list[DueCallback]:
        """Return those whose time has come, and give nobody else the same ones for so many seconds."""
        now = self._clock()
        wanted = select(callbacks.c.job).where(callbacks.c.next <= now).order_by(callbacks.c.next).limit(limit)
        with self._database.read() as connection:
            if connection.execute(wanted.limit(1)).first() is None:
                return []
        with self._database.write() as connection:
            self._database.serialise(connection, "callbacks")
            ids = [row.job for row in connection.execute(wanted)]
            connection.execute(update(callbacks).where(callbacks.c.job.in_(ids)).values(next=now + lease))
            both = select(jobs, callbacks.c.attempts.label("callback_attempts")).join(callbacks)
            rows = connection.execute(both.where(jobs.c.id.in_(ids)).order_by(jobs.c.ended)).all()
        return [DueCallback(job=job_of(row), attempts=row.callback_attempts) for row in rows]

    def made(self, job: str) -> None:
        """Given the id of a job whose end was told, or is never to be, forget its callback."""
        with self._database.write() as connection:
            connection.execute(delete(callbacks).where(callbacks.c.job == job))

    def failed(self, job: str, next: float, reason: str) -> None:
        """Given the id of a job whose end could not be told, when to try again, and why, write that down."""
        values = {"next": next, "reason": reason, "attempts": callbacks.c.attempts + 1}
        with self._database.write() as connection:
            connection.execute(update(callbacks).where(callbacks.c.job == job).values(values))

    def pending(self) -> int:
        """Return how many there are."""
        with self._database.read() as connection:
            return connection.execute(select(func.count()).select_from(callbacks)).scalar_one()

"""The jobs in the store, as clients see them: submitted, asked for, cancelled, tried again, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, exists, func, select, update

from mistamover.errors import JobError, RetryRefused
from mistamover.jobs.cart_model import Kept
from mistamover.jobs.model import DataObject, Item, ItemState, Job, JobState, NewJob, ObjectState, Op
from mistamover.jobs.store.admission import UNFINISHED, admit, lock
from mistamover.jobs.store.database import Database
from mistamover.jobs.store.ending import end, hold_again, removes
from mistamover.jobs.store.events import LARGEST, News, record
from mistamover.jobs.store.rows import item_of, job_of
from mistamover.jobs.store.schema import carts, items, jobs, lanes, objects

#: Transfers that an estimate looks back upon.
_SAMPLE: Final = 500
#: Jobs that are forgotten in one transaction; others must not wait long for it.
_AT_ONCE: Final = 100


class Jobs:
    """All jobs."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def submit(
        self, new: NewJob, *, objects: Sequence[DataObject] = (), locks: Sequence[str] = (), max_unfinished: int = 0
    ) -> tuple[Job, bool]:
        """Given a new job, return it and True; if its owner's key was used already, that earlier job and False.

        The places of `objects` (which are RESERVED) are taken, the objects whose ids are in `locks` are locked.
        Raise KeyReused, PlaceTaken, ObjectLocked, TooManyJobs, JobRefused; nothing was done then.
        """
        now = self._clock()
        with self._database.write() as connection:
            job, created = admit(self._database, connection, new, objects, locks, max_unfinished, now)
            if created:
                record(self._database, connection, now, [News(job=job, kind="submitted")])
            row = _row(connection, job)
        assert row is not None
        return job_of(row), created

    def get(self, id: str) -> Job | None:
        """Given the id of a job, return it."""
        with self._database.read() as connection:
            row = _row(connection, id)
        return None if row is None else job_of(row)

    def items(self, id: str, *, offset: int = 0, limit: int | None = None) -> list[Item]:
        """Given the id of a job, return its items in their order; none if there is no such job."""
        wanted = select(items).where(items.c.job == id).order_by(items.c.seq)
        with self._database.read() as connection:
            rows = connection.execute(wanted.offset(min(offset, LARGEST)).limit(limit)).all()
        return [item_of(row) for row in rows]

    def page(
        self,
        *,
        owner: str | None = None,
        state: JobState | None = None,
        op: Op | None = None,
        label: str | None = None,
        since: float | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> tuple[list[Job], int | None]:
        """Given filters, return jobs, the newest first, and the cursor of what comes after them, None at the end.

        `since` is when a job was created at the earliest; `before` the cursor that the page before came with.
        """
        wanted = _matching(owner=owner, state=state, op=op, label=label)
        if since is not None:
            wanted = wanted.where(jobs.c.created >= since)
        if before is not None:
            wanted = wanted.where(jobs.c.number < min(before, LARGEST))
        with self._database.read() as connection:
            rows = connection.execute(wanted.order_by(jobs.c.number.desc()).limit(limit + 1)).all()
        more = rows[limit - 1].number if len(rows) > limit else None
        return [job_of(row) for row in rows[:limit]], more

    def cancel(self, id: str) -> Job | None:
        """Given the id of a job, end it if it waits, or ask its worker to; return it. One that has ended stays so."""
        now = self._clock()
        with self._database.write() as connection:
            row = _row(connection, id, change=True)
            if row is None:
                return None
            news: list[News] = []
            if row.state == JobState.QUEUED and not removes(connection, id):
                news = end(connection, row, JobState.CANCELLED, now)
            elif row.state in UNFINISHED:
                connection.execute(update(jobs).where(jobs.c.number == row.number).values(cancelling=True))
            record(self._database, connection, now, news)
            row = _row(connection, id)
        return None if row is None else job_of(row)

    def retry(self, id: str) -> Job | None:
        """Given the id of a job that failed or was cancelled, queue it again, without the items that are done.

        Return it. Raise RetryRefused if it is neither, or if what it needs is another job's meanwhile.
        """
        now = self._clock()
        with self._database.write() as connection:
            row = _row(connection, id, change=True)
            if row is None:
                return None
            if row.state not in (JobState.FAILED, JobState.CANCELLED):
                raise RetryRefused(f"job {id} is {row.state}: only what failed or was cancelled can be tried again")
            if row.secretive:
                raise RetryRefused("it came with a password, which was forgotten at its end: ask for it anew")
            taken = hold_again(connection, id)
            if taken:
                raise RetryRefused("the place of what it makes is taken meanwhile: ask for it anew, at another place")
            try:
                lock(connection, id, row.locks)
            except JobError as error:
                raise RetryRefused(f"it cannot be tried again: {error}") from error
            self._requeue(connection, row, now)
            record(self._database, connection, now, [News(job=id, kind="retry")])
            row = _row(connection, id)
        return None if row is None else job_of(row)

    def drop(self, id: str) -> bool:
        """Given the id of a job that has ended, forget it; return False if there is none that has."""
        with self._database.write() as connection:
            return bool(_forget(connection, select(jobs.c.id).where(jobs.c.id == id, jobs.c.ended.is_not(None))))

    def prune(self, older_than: float) -> int:
        """Given a time, forget the jobs that ended before; return how many. Lanes that no job uses go with them.

        Carts stay that were used since.
        """
        whole = 0
        used = exists().where(carts.c.job == jobs.c.id, carts.c.state == Kept.LIVE, carts.c.last_used >= older_than)
        old = select(jobs.c.id).where(jobs.c.ended < older_than, ~used).limit(_AT_ONCE)
        gone = _AT_ONCE
        while gone == _AT_ONCE:
            with self._database.write() as connection:
                gone = _forget(connection, old)
            whole += gone
        if whole:
            with self._database.write() as connection:
                self._database.serialise(connection, "lanes")
                connection.execute(delete(lanes).where(~exists().where(jobs.c.lane == lanes.c.number)))
        return whole

    def secretive_since(self, moment: float) -> bool:
        """Given a time, tell whether a job ended at or after it that had come with a secret."""
        with self._database.read() as connection:
            wanted = exists().where(jobs.c.ended >= moment, jobs.c.secretive)
            return bool(connection.execute(select(wanted)).scalar())

    def counts(self) -> dict[JobState, int]:
        """Return how many jobs there are in each state."""
        wanted = select(jobs.c.state, func.count().label("number")).group_by(jobs.c.state)
        with self._database.read() as connection:
            found = {row.state: row.number for row in connection.execute(wanted)}
        return {state: found.get(state.value, 0) for state in JobState}

    def spooled(self, ended_since: float) -> set[str]:
        """Given a time, return the names in the spool that jobs need which have not ended, or may be tried again.

        These are the ones that failed or were cancelled at or after that time.
        """
        needed = jobs.c.ended.is_(None) | ((jobs.c.ended >= ended_since) & (jobs.c.state != JobState.DONE))
        wanted = select(items.c.source_spool).join(jobs, jobs.c.id == items.c.job)
        with self._database.read() as connection:
            rows = connection.execute(wanted.where(items.c.source_spool.is_not(None), needed).distinct())
            return {str(row.source_spool) for row in rows}

    def estimate(self, source: str, target: str) -> float | None:
        """Given an endpoint or the scheme of a URL, and an endpoint, return bytes per second of late transfers.

        Return None if nothing is known.
        """
        wanted = (
            select(items.c.size, items.c.started, items.c.ended)
            .where(items.c.source_key == source, items.c.target_endpoint == target, items.c.ended.is_not(None))
            .where(items.c.state == ItemState.DONE, items.c.size > 0)
            .order_by(items.c.ended.desc())
            .limit(_SAMPLE)
        )
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        seconds = sum(row.ended - row.started for row in rows if row.started is not None)
        size = sum(row.size for row in rows if row.started is not None)
        return size / seconds if seconds > 0 else None

    def _requeue(self, connection: Connection, row: Row[Any], now: float) -> None:
        connection.execute(
            update(jobs)
            .where(jobs.c.number == row.number)
            .values(
                # It has all its time again.
                state=JobState.QUEUED,
                reason="",
                result={},
                started=None,
                ended=None,
                not_before=None,
                cancelling=False,
                announced=None,
            )
        )
        left = update(items).where(items.c.job == row.id, items.c.state != ItemState.DONE)
        # Confirmed and not removed: it goes on there.
        removing = left.where(items.c.landed_path.is_not(None))
        fresh = {"attempts": 0, "not_before": None, "ended": None, "fault": "", "reason": ""}
        connection.execute(removing.values(state=ItemState.REMOVING, **fresh))
        connection.execute(
            left.where(items.c.landed_path.is_(None)).values(state=ItemState.QUEUED, bytes_done=0, **fresh)
        )
        done = select(func.coalesce(func.sum(items.c.bytes_done), 0)).where(items.c.job == row.id).scalar_subquery()
        connection.execute(update(jobs).where(jobs.c.number == row.number).values(bytes_done=done))


def _row(connection: Connection, id: str, *, change: bool = False) -> Row[Any] | None:
    wanted = select(jobs).where(jobs.c.id == id)
    # In SQLite a transaction that writes has the store for itself.
    return connection.execute(wanted.with_for_update() if change else wanted).first()


def _matching(**words: Any) -> Select[Any]:
    wanted = select(jobs)
    for name, value in words.items():
        if value is not None:
            wanted = wanted.where(jobs.c[name] == value)
    return wanted


def _forget(connection: Connection, wanted: Select[tuple[str]]) -> int:
    """Given which jobs, remove them with all that belongs to them; return how many."""
    gone = [row.id for row in connection.execute(wanted)]
    unmade = delete(objects).where(objects.c.maker.in_(gone), objects.c.state == ObjectState.RESERVED)
    connection.execute(unmade)
    connection.execute(delete(jobs).where(jobs.c.id.in_(gone)))
    return len(gone)

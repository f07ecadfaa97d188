"""Claims: which worker has which job, and for how long.

A worker gets a job by one change that only succeeds once, and keeps it as long as it renews the claim. Each claim has
a token of its own, and every change that a worker makes names it: one that was too slow changes nothing any more.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from mistamover.errors import LostClaim
from mistamover.jobs.model import Claim, DataObject, JobState, Standing
from mistamover.jobs.store.announcements import Announcements, unannounce
from mistamover.jobs.store.circuit_rows import Circuits
from mistamover.jobs.store.crews import Crews
from mistamover.jobs.store.database import Database
from mistamover.jobs.store.ending import end, is_removing, requeue
from mistamover.jobs.store.events import News, record
from mistamover.jobs.store.item_steps import Advance, ItemSteps, own
from mistamover.jobs.store.lanes import (
    CLAIMED,
    Limits,
    all_circuits,
    due,
    first_in,
    lane_in,
    open_lanes,
    running,
    waiting,
)
from mistamover.jobs.store.rows import item_of, job_of
from mistamover.jobs.store.schema import items, job_secrets, jobs, lanes


class Claims(ItemSteps, Circuits, Announcements, Crews):
    """All of them, and what is done with them."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        ItemSteps.__init__(self, database, clock)

    # -- getting one ------------------------------------------------------------------------------

    def next(
        self,
        worker: str,
        lease: float,
        *,
        limits: Mapping[str, int] | None = None,
        owner_max: int = 0,
        groups: Collection[str] | None = None,
    ) -> Claim | None:
        """Given a worker, and for how many seconds, return a claim to the job that is to begin next, None if none may.

        That is the one of the highest priority, then the oldest. `limits` says how many jobs may use an endpoint at a
        time, `owner_max` how many of one owner may run, `groups` which groups of workers it is one of (None: all).
        """
        wanted = Limits(endpoints=limits or {}, owner=owner_max)
        # Looked for without keeping anybody from writing: mostly there is nothing to do.
        with self._database.read() as connection:
            job = _pick(connection, wanted, self._clock(), groups)
        return None if job is None else self._claim(job, worker, lease, wanted, groups, or_another=True)

    def claim(
        self,
        job_id: str,
        worker: str,
        lease: float,
        *,
        limits: Mapping[str, int] | None = None,
        owner_max: int = 0,
        groups: Collection[str] | None = None,
    ) -> Claim | None:
        """As `next`, for one job; None also if it does not wait, or its time has not come.

        If it waits on, it has to be announced again.
        """
        return self._claim(job_id, worker, lease, Limits(endpoints=limits or {}, owner=owner_max), groups)

    def _claim(
        self,
        job_id: str,
        worker: str,
        lease: float,
        limits: Limits,
        groups: Collection[str] | None,
        *,
        or_another: bool = False,
    ) -> Claim | None:
        with self._database.write() as connection:
            # Whoever claims at the same time would not be counted.
            self._database.serialise(connection, "claims")
            now = self._clock()
            job: str | None = job_id
            if not _is_open(connection, job_id, limits, now, groups):
                job = _pick(connection, limits, now, groups) if or_another else None
            if job is None:
                unannounce(connection, [job_id])
                return None
            changed = connection.execute(
                update(jobs)
                .where(jobs.c.id == job, jobs.c.state == JobState.QUEUED)
                .values(
                    state=JobState.RUNNING,
                    worker=worker,
                    claim_token=secrets.token_hex(16),
                    lease_until=now + lease,
                    attempts=jobs.c.attempts + 1,
                    started=func.coalesce(jobs.c.started, now),
                    not_before=None,
                )
            )
            if not changed.rowcount:
                return None
            record(self._database, connection, now, [News(job=job, kind="started", data={"worker": worker})])
            return self._taken(connection, job)

    def _taken(self, connection: Connection, job_id: str) -> Claim:
        row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
        parts = connection.execute(select(items).where(items.c.job == job_id).order_by(items.c.seq)).all()
        content = connection.execute(select(job_secrets.c.content).where(job_secrets.c.job == job_id)).scalar()
        return Claim(
            job=job_of(row),
            items=tuple(item_of(part) for part in parts),
            worker=row.worker,
            token=row.claim_token,
            secrets=content or {},
            expires=row.lease_until,
        )

    # -- keeping it -------------------------------------------------------------------------------

    def renew(
        self, claims: Sequence[Claim], lease: float, progress: Mapping[tuple[str, int], Advance] | None = None
    ) -> dict[str, Standing]:
        """Given all claims of a worker, keep them for so many seconds from now; return how each stands, by its token.

        `progress` says how far items are, by the id of their job and their number.
        """
        if not claims:
            return {}
        advances: dict[str, dict[int, Advance]] = {}
        for (job, seq), advance in (progress or {}).items():
            advances.setdefault(job, {})[seq] = advance
        standings: dict[str, Standing] = {}
        news: list[News] = []
        with self._database.write() as connection:
            now = self._clock()
            for claim in sorted(claims, key=lambda claim: claim.job.id):
                try:
                    row = own(connection, claim)
                except LostClaim:
                    standings[claim.token] = Standing.LOST
                    continue
                standings[claim.token] = Standing.CANCELLING if row.cancelling else Standing.OK
                connection.execute(update(jobs).where(jobs.c.number == row.number).values(lease_until=now + lease))
                news += self._advance(connection, claim, advances.get(claim.job.id, {}), now)
            record(self._database, connection, now, news)
        return standings

    def packaging(self, claim: Claim) -> bool:
        """Given a claim to a job that is to be packaged, let it; return False if it has begun to. Raise LostClaim."""
        with self._database.write() as connection:
            row = own(connection, claim)
            if row.state == JobState.PACKAGING:
                return False
            connection.execute(update(jobs).where(jobs.c.number == row.number).values(state=JobState.PACKAGING))
        return True

    # -- giving it up -----------------------------------------------------------------------------

    def finish(
        self,
        claim: Claim,
        state: JobState,
        *,
        reason: str = "",
        result: Mapping[str, object] | None = None,
        objects: Sequence[DataObject] | None = None,
    ) -> bool:
        """Given a claim, end its job in a final state; return False if the claim was lost, and nothing was changed.

        `objects` replace those of the same ids in the catalogue, in the same moment; where they are not given, the
        items tell what has become of them. Raise PlaceTaken.
        """
        with self._database.write() as connection:
            try:
                row = own(connection, claim)
            except LostClaim:
                return False
            now = self._clock()
            news = end(connection, row, state, now, reason=reason, result=result or {}, given=objects)
            record(self._database, connection, now, news)
        return True

    def put_back(self, claim: Claim, *, not_before: float | None = None, reason: str = "") -> None:
        """Given a claim, let its job wait, until a time or for the next worker. Raise LostClaim.

        One that is to be cancelled ends instead, unless a removal has to be finished first.
        """
        with self._database.write() as connection:
            row = own(connection, claim)
            now = self._clock()
            news = requeue(connection, row, now, not_before=not_before, reason=reason)
            record(self._database, connection, now, news)

    # -- what nobody does -------------------------------------------------------------------------

    def sweep(self) -> list[str]:
        """Put back the jobs whose workers are silent, end the waiting ones whose deadline is over; return their ids."""
        now = self._clock()
        overdue = jobs.c.lease_until < now
        found = self._requeue_where(overdue, "its worker was not heard of any more")
        # A removal that was begun is finished first, by whoever claims the job next.
        late = select(jobs).where(
            jobs.c.deadline < now, jobs.c.ended.is_(None), jobs.c.worker.is_(None), ~is_removing(jobs.c.id)
        )
        return found + self._fail(late, "it did not end before its deadline")

    def release(self, worker_prefix: str) -> list[str]:
        """Given what the names of workers that are surely dead begin with, put back their jobs; return the ids."""
        return self._requeue_where(jobs.c.worker.startswith(worker_prefix, autoescape=True), "its worker was ended")

    def give_up(self, endpoint: str, before: float, reason: str) -> list[str]:
        """Given an endpoint, end the waiting jobs that use it and were created before a time; return their ids."""
        with self._database.read() as connection:
            numbers = [lane.number for lane in waiting(connection) if endpoint in lane.endpoints]
        late = select(jobs).where(jobs.c.state == JobState.QUEUED, jobs.c.lane.in_(numbers), jobs.c.created < before)
        late = late.where(~is_removing(jobs.c.id))
        return self._fail(late, reason)

    def _requeue_where(self, condition: Any, reason: str) -> list[str]:
        wanted = select(jobs).where(jobs.c.state.in_(CLAIMED), condition)

        def back(connection: Connection, row: Row[Any], now: float) -> Iterable[News]:
            return requeue(connection, row, now, not_before=None, reason=reason)

        return self._each(wanted, back)

    def _fail(self, wanted: Any, reason: str) -> list[str]:
        def fail(connection: Connection, row: Row[Any], now: float) -> Iterable[News]:
            return end(connection, row, JobState.FAILED, now, reason=reason)

        return self._each(wanted, fail)

    def _each(self, wanted: Any, act: Callable[[Connection, Row[Any], float], Iterable[News]]) -> list[str]:
        """Given which jobs, do something with each of them; return their ids."""
        with self._database.read() as connection:
            if connection.execute(wanted.limit(1)).first() is None:
                return []
        news: list[News] = []
        with self._database.write() as connection:
            rows = connection.execute(wanted.order_by(jobs.c.number).with_for_update()).all()
            now = self._clock()
            for row in rows:
                news += act(connection, row, now)
            record(self._database, connection, now, news)
        return [row.id for row in rows]


def _pick(connection: Connection, limits: Limits, now: float, groups: Collection[str] | None) -> str | None:
    """Given a connection, return the id of the job that is to begin next, None if none may."""
    wanted = waiting(connection, groups)
    if not wanted:
        return None
    free = open_lanes(wanted, running(connection), limits, all_circuits(connection), now)
    return first_in(connection, free, now) if free else None


def _is_open(connection: Connection, job_id: str, limits: Limits, now: float, groups: Collection[str] | None) -> bool:
    """Given the id of a job, return whether it waits and may begin."""
    mine = select(lanes).join(jobs, jobs.c.lane == lanes.c.number)
    row = connection.execute(mine.where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED, due(now))).first()
    if row is None or not (groups is None or row.workers in groups):
        return False
    return bool(open_lanes([lane_in(row)], running(connection), limits, all_circuits(connection), now))

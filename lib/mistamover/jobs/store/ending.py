"""How a job gets out of a worker's hands: its end, or its way back into the queue; each inside of one transaction.

These are functions on a connection that writes; `Jobs` and `Claims` say when they are called, and record the events
that are returned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Exists, Row, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from mistamover.errors import PlaceTaken
from mistamover.jobs import results
from mistamover.jobs.model import DataObject, ItemState, JobState, ObjectState, Op
from mistamover.jobs.store.events import News
from mistamover.jobs.store.rows import item_of, job_of, object_of, object_values
from mistamover.jobs.store.schema import callbacks, items, job_secrets, jobs, objects

#: An item in one of these states has begun, and begins anew; one that is being removed goes on there.
BEGUN: Final = (ItemState.STAGING, ItemState.TRANSFERRING, ItemState.VERIFYING)
_ENDED: Final = (ItemState.DONE, ItemState.FAILED, ItemState.CANCELLED)
_UNCLAIMED: Final[Mapping[str, Any]] = {
    "worker": None,
    "claim_token": None,
    "lease_until": None,
    "announced": None,
}


def end(
    connection: Connection,
    row: Row[Any],
    state: JobState,
    now: float,
    *,
    reason: str = "",
    result: Mapping[str, object] | None = None,
    given: Sequence[DataObject] | None = None,
) -> list[News]:
    """Given the row of a job that nobody else can change, end it in a state; return what is to be recorded.

    `given` are objects as they are from now on; None where no worker says: then its items do, and what is done is
    done, whatever state was asked for. What was reserved is given up, what was locked is free again, and secrets are
    forgotten. Raise PlaceTaken.
    """
    job: str = row.id
    # A bundle is not made with the last of its files.
    if given is None and state is not JobState.DONE and row.op != Op.BUNDLE and _all_done(connection, job):
        state, reason = JobState.DONE, ""
    values: dict[str, Any] = {"state": state, "reason": reason, "ended": now, "cancelling": False, "not_before": None}
    if result is not None:
        values["result"] = dict(result)
    connection.execute(update(jobs).where(jobs.c.number == row.number).values(**values, **_UNCLAIMED))
    if state is not JobState.DONE:
        connection.execute(
            update(items)
            .where(items.c.job == job, items.c.state.not_in(_ENDED))
            .values(state=ItemState.CANCELLED, ended=now, not_before=None)
        )
    if given is None:
        _settle_by_items(connection, row, state, now)
    else:
        settle(connection, job, given, now, forget=state is JobState.DONE)
    connection.execute(delete(job_secrets).where(job_secrets.c.job == job))
    if row.callback is not None:
        # A job that was tried again ends a second time, and is told again.
        connection.execute(delete(callbacks).where(callbacks.c.job == job))
        connection.execute(insert(callbacks).values(job=job, attempts=0, next=now, reason=""))
    return [News(job=job, kind=state.value, data={"reason": reason} if reason else {})]


def _all_done(connection: Connection, job: str) -> bool:
    mine = exists().where(items.c.job == job)
    left = exists().where(items.c.job == job, items.c.state != ItemState.DONE)
    return bool(connection.execute(select(mine & ~left)).scalar())


def _settle_by_items(connection: Connection, row: Row[Any], state: JobState, now: float) -> None:
    """Given the row of a job that ends in a state, have the catalogue know what has become of its objects.

    Its worker may have died behind the deed, and have told nobody.
    """

    def get(id: str) -> DataObject | None:
        found = connection.execute(select(objects).where(objects.c.id == id)).first()
        return None if found is None else object_of(found)

    job = job_of(row)
    wanted = select(items).where(items.c.job == job.id).order_by(items.c.seq)
    if state is not JobState.DONE:
        wanted = wanted.where(items.c.object_id.is_not(None) | items.c.result_id.is_not(None))
    parts = [item_of(part) for part in connection.execute(wanted)]
    given = results.objects(job, parts, state, get, now)
    if state is JobState.DONE:
        told = dict(results.result(job, parts, given))
        connection.execute(update(jobs).where(jobs.c.number == row.number).values(result=told))
    try:
        with connection.begin_nested():
            settle(connection, job.id, given, now, forget=state is JobState.DONE)
    except PlaceTaken:
        # Whoever came first has the place.
        settle(connection, job.id, (), now, forget=state is JobState.DONE)


def requeue(connection: Connection, row: Row[Any], now: float, *, not_before: float | None, reason: str) -> list[News]:
    """Given the row of a job that a worker had, put it back into the queue; return what is to be recorded.

    One that is to be cancelled ends instead, unless a removal has to be finished first.
    """
    if row.cancelling and not removes(connection, row.id):
        return end(connection, row, JobState.CANCELLED, now)
    connection.execute(
        update(jobs)
        .where(jobs.c.number == row.number)
        .values(state=JobState.QUEUED, not_before=not_before, **_UNCLAIMED)
    )
    # An archive that was asked for a file is not asked again.
    begins = ItemState.STAGING if row.op == Op.BUNDLE else ItemState.QUEUED
    connection.execute(update(items).where(items.c.job == row.id, items.c.state.in_(BEGUN)).values(state=begins))
    return [News(job=row.id, kind="requeued", data={"reason": reason} if reason else {})]


def removes(connection: Connection, job: str) -> bool:
    """Given a job, return whether a source of it may be half-way removed."""
    return bool(connection.execute(select(is_removing(job))).scalar())


def is_removing(job: Any) -> Exists:
    """Given the id of a job, or the column of it, return the condition that a source may be half-way removed."""
    return exists().where(items.c.job == job, items.c.state == ItemState.REMOVING)


def settle(connection: Connection, job: str, given: Sequence[DataObject], now: float, *, forget: bool) -> None:
    """Given a job that ends, and objects as they are from now on, free all other places and objects of it.

    Unless `forget`, what it was to make is remembered for another try, without a place. Raise PlaceTaken.
    """
    mine = [objects.c.maker == job, objects.c.state == ObjectState.RESERVED]
    mine.append(objects.c.id.not_in([object.id for object in given]))
    connection.execute(delete(objects).where(*mine) if forget else update(objects).where(*mine).values(holds=None))
    for object in sorted(given, key=lambda object: object.id):
        save(connection, dataclasses.replace(object, lock="", registered=object.registered or now))
    connection.execute(update(objects).where(objects.c.lock == job).values(lock=None))


def save(connection: Connection, object: DataObject) -> None:
    """Given an object, insert it, or replace the one of its id. Raise PlaceTaken."""
    values = object_values(object)
    there = update(objects).where(objects.c.id == object.id)
    try:
        with connection.begin_nested():
            if connection.execute(there.values(values)).rowcount == 0:
                connection.execute(insert(objects).values(values))
    except IntegrityError as error:
        raise PlaceTaken(object.location.endpoint, object.location.path) from error


def hold_again(connection: Connection, job: str) -> str:
    """Given a job that is to be tried again, reserve what it is to make; return the id of what cannot be, or ''."""
    wanted = select(objects).where(objects.c.maker == job, objects.c.state == ObjectState.RESERVED)
    for row in connection.execute(wanted.order_by(objects.c.place)).all():
        try:
            with connection.begin_nested():
                connection.execute(
                    update(objects).where(objects.c.number == row.number).values(holds=row.place, lock=job)
                )
        except IntegrityError:
            return str(row.id)
    return ""

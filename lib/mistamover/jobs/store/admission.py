"""How a job gets into the store: once, with all that belongs to it, in the one transaction of its caller."""

from __future__ import annotations

import dataclasses
import os
import uuid
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, select, update

from mistamover.errors import JobRefused, KeyReused, ObjectLocked, PlaceTaken, TooManyJobs
from mistamover.jobs.cart_model import Kept
from mistamover.jobs.model import DataObject, JobState, NewJob, Op
from mistamover.jobs.store.database import Database, insert_or_skip
from mistamover.jobs.store.lanes import CLAIMED, lane_of
from mistamover.jobs.store.rows import item_values, job_values, object_values, reaches
from mistamover.jobs.store.schema import carts, items, job_secrets, jobs, lanes, objects

UNFINISHED: Final = (JobState.QUEUED.value, *CLAIMED)
#: Characters of what is kept in an index.
_LONGEST: Final = 255
_HIGHEST: Final = 1_000_000


def admit(
    database: Database,
    connection: Connection,
    new: NewJob,
    reserved: Sequence[DataObject],
    locks: Sequence[str],
    most: int,
    now: float,
) -> tuple[str, bool]:
    """Given a new job, what it makes and what it changes, and how many its owner may have; return its id and True.

    Return the id of an earlier one and False if the owner's key was used by the same request. Raise JobError.
    """
    for what, text in (("owner", new.owner), ("label", new.label), ("key", new.key)):
        if len(text) > _LONGEST:
            raise JobRefused("too-long", f"the {what} of a job has at most {_LONGEST} characters")
    if abs(new.priority) > _HIGHEST:
        raise JobRefused("bad-priority", f"the priority of a job is between -{_HIGHEST} and {_HIGHEST}")
    earlier = _earlier(connection, new) if new.key else None
    if earlier is None:
        if most > 0 and _unfinished(connection, new.owner, most) >= most:
            raise TooManyJobs(most)
        job = new_id(now)
        lane = lane_of(database, connection, new.owner, reaches(new), new.workers)
        values = job_values(new, id=job, lane=lane, locks=locks, now=now)
        if insert_or_skip(connection, jobs, ("owner", "idempotency_key"), values):
            _add_parts(connection, job, new, reserved, locks, now)
            return job, True
        earlier = _earlier(connection, new)
    if earlier is None or earlier.request_hash != new.request_hash:
        raise KeyReused(earlier.id if earlier else "")
    return str(earlier.id), False


def new_id(now: float) -> str:
    """Given the time, return the id of a new job: a UUID (version 7) without dashes; later ones sort behind."""
    head = int(now * 1000).to_bytes(6, "big", signed=False)
    tail = bytearray(os.urandom(10))
    tail[0] = 0x70 | tail[0] & 0x0F
    tail[2] = 0x80 | tail[2] & 0x3F
    return uuid.UUID(bytes=head + bytes(tail)).hex


def lock(connection: Connection, job: str, wanted: Sequence[str]) -> None:
    """Given a job and the ids of objects, let nobody else change them. Raise ObjectLocked, JobRefused."""
    for object_id in sorted(set(wanted)):
        free = update(objects).where(objects.c.id == object_id, objects.c.lock.is_(None))
        if connection.execute(free.values(lock=job)).rowcount:
            continue
        row = connection.execute(select(objects.c.lock).where(objects.c.id == object_id)).first()
        if row is None:
            raise JobRefused("unknown-object", f"there is no object {object_id}")
        raise ObjectLocked(object_id, row.lock or "")


def _add_parts(
    connection: Connection, job: str, new: NewJob, reserved: Sequence[DataObject], locks: Sequence[str], now: float
) -> None:
    lock(connection, job, locks)
    # In one order, so that two transactions never wait for each other.
    for object in sorted(reserved, key=lambda object: (object.location.endpoint, os.fsencode(object.location.path))):
        values = object_values(dataclasses.replace(object, lock=job, registered=now), maker=job)
        if not insert_or_skip(connection, objects, ("holds",), values):
            raise PlaceTaken(object.location.endpoint, object.location.path)
    if new.items:
        connection.execute(insert(items), [item_values(job, seq, item) for seq, item in enumerate(new.items)])
    if new.op is Op.BUNDLE:
        own = {"uid": new.label, "state": Kept.LIVE, "reserved": 0, "last_used": now}
        connection.execute(insert(carts).values(job=job, **own))
    if new.secrets:
        connection.execute(insert(job_secrets).values(job=job, content=dict(new.secrets)))


def _earlier(connection: Connection, new: NewJob) -> Row[Any, Any] | None:
    wanted = select(jobs.c.id, jobs.c.request_hash)
    return connection.execute(wanted.where(jobs.c.owner == new.owner, jobs.c.idempotency_key == new.key)).first()


def _unfinished(connection: Connection, owner: str, most: int) -> int:
    """Given an owner, return how many of his jobs wait or run; no more than `most` are counted."""
    own = select(lanes.c.number).where(lanes.c.owner == owner)
    found = select(jobs.c.number).where(jobs.c.state.in_(UNFINISHED), jobs.c.lane.in_(own)).limit(most)
    return connection.execute(select(func.count()).select_from(found.subquery())).scalar_one()

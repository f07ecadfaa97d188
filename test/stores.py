"""What the tests of the store share: a clock that they turn, and jobs, items and objects with nothing special."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mistamover.jobs.model import Claim, DataObject, ItemState, Job, Location, NewItem, NewJob, ObjectState, Op, Source
from mistamover.jobs.store.store import Store

START = 1_000_000.0


@dataclass
class Clock:
    """A clock that only goes on when it is told to."""

    now: float = START

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def at(endpoint: str, path: str) -> Location:
    """Return a place."""
    return Location(endpoint=endpoint, path=path)


def an_item(name: str = "a", *, source: str = "here", target: str = "there", **words: Any) -> NewItem:
    """Return an item that copies a name from one endpoint to another."""
    return NewItem(source=Source(location=at(source, name)), target=at(target, name), **words)


def a_job(*names: str, source: str = "here", target: str = "there", **words: Any) -> NewJob:
    """Return a job that copies names (default: one) from one endpoint to another."""
    items = [an_item(name, source=source, target=target) for name in names or ("a",)]
    words.setdefault("items", items)
    return NewJob(op=words.pop("op", Op.COPY), **words)


def reserved(endpoint: str, path: str) -> DataObject:
    """Return an object that a job is to make."""
    place = at(endpoint, path)
    return DataObject(id=str(uuid.uuid4()), location=place, given_path="", size=0, state=ObjectState.RESERVED)


def submitted(store: Store, new: NewJob | None = None, **words: Any) -> Job:
    """Given a job, submit it; return what became of it."""
    job, created = store.jobs.submit(new or a_job(), **words)
    assert created
    return job


def claimed(store: Store, worker: str = "w1", lease: float = 10.0, **words: Any) -> Claim:
    """Return the next claim, which there has to be."""
    claim = store.claims.next(worker, lease, **words)
    assert claim is not None
    return claim


def done(store: Store, claim: Claim, seqs: Sequence[int] = (0,), size: int = 10) -> None:
    """Given a claim and numbers of its items, let these be done."""
    for seq in seqs:
        target = claim.items[seq].target
        store.claims.item_done(claim, seq, landed=target, algorithm="sha256", digest="ab" * 32, size=size)


def states(store: Store, job: Job) -> list[ItemState]:
    """Return the states of the items of a job."""
    return [item.state for item in store.jobs.items(job.id)]


def kinds(store: Store, job: Job | None = None) -> list[str]:
    """Return what happened, of one job or of all."""
    return [event.kind for event in store.events.after(0, job=job.id if job else None)]


def now_of(store: Store, job: Job) -> Job:
    """Return a job as it is now."""
    found = store.jobs.get(job.id)
    assert found is not None
    return found


LIMITS: Mapping[str, int] = {"here": 2, "there": 1}

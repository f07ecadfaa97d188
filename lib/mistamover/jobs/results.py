"""What a job that has ended means for the catalogue, and what its client is told of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mistamover.jobs.model import DataObject, Item, ItemState, Job, JobState, ObjectState, Op


def objects(
    job: Job, items: Sequence[Item], state: JobState, get: Callable[[str], DataObject | None], now: float
) -> list[DataObject]:
    """Given a job and its items as they are in the end, the state that it ends in, what returns an object by its id,
    and the time, return the objects that have changed, as they are now.
    """
    found: list[DataObject] = []
    for item in items:
        if state is JobState.DONE and item.result_id:
            made = get(item.result_id)
            if made is not None and item.landed is not None:
                found.append(_confirmed(replace(made, state=ObjectState.ACTIVE, location=item.landed), item))
        if item.object_id and (changed := get(item.object_id)) is not None:
            after = _changed(job, changed, item, now)
            if after is not None:
                found.append(after)
    return found


def result(job: Job, items: Sequence[Item], changed: Sequence[DataObject]) -> Mapping[str, object]:
    """Given a job and its items in the end, and the objects that have changed, return what its client is told."""
    # What stands for several is no file itself.
    stand_ins = {item.parent for item in items if item.parent is not None}
    done = [item for item in items if item.state is ItemState.DONE and item.seq not in stand_ins]
    told: dict[str, object] = {"files": len(done), "bytes": sum(item.size or 0 for item in done)}
    if changed:
        told["objects"] = [each.id for each in changed]
    return told


def _changed(job: Job, object: DataObject, item: Item, now: float) -> DataObject | None:
    op = job.op
    if op is Op.DELETE:
        if item.state is ItemState.DONE:
            return replace(object, state=ObjectState.DELETED, modified=now)
        # Once it was begun, nobody knows how much of it is left.
        return replace(object, state=ObjectState.UNKNOWN, modified=now) if job.attempts else None
    if item.state is not ItemState.DONE or item.landed is None:
        return None
    moved = _confirmed(replace(object, location=item.landed, modified=now), item)
    if op in (Op.MOVE, Op.PUT):
        return moved
    if op is Op.ARCHIVE:
        return replace(moved, state=ObjectState.ARCHIVED, home=object.location)
    if op is Op.ACTIVATE:
        return replace(moved, state=ObjectState.ACTIVE, home=None)
    return None


def _confirmed(object: DataObject, item: Item) -> DataObject:
    if not item.digest:
        return object if item.size is None else replace(object, size=item.size)
    size = object.size if item.size is None else item.size
    return replace(object, algorithm=item.algorithm, digest=item.digest, size=size)

"""How the values of `model` stand in the rows of the store, in both directions. Nothing here talks to a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Row

from mistamover.jobs.cart_model import VOLUME
from mistamover.jobs.model import (
    Callback,
    DataObject,
    Item,
    ItemState,
    Job,
    JobState,
    Location,
    NewItem,
    NewJob,
    ObjectState,
    Op,
    Packaging,
    Progress,
    Source,
)
from mistamover.jobs.store.schema import place_key

#: An object in one of these states keeps others from its place.
HOLDING = (ObjectState.RESERVED, ObjectState.ACTIVE, ObjectState.ARCHIVED)


# -- jobs and items ---------------------------------------------------------------------------


def job_values(new: NewJob, *, id: str, lane: int, locks: Sequence[str], now: float) -> dict[str, Any]:
    """Given a new job and what the store knows of it, return its row."""
    return {
        "id": id,
        "lane": lane,
        "op": new.op.value,
        "state": JobState.QUEUED.value,
        "owner": new.owner,
        "label": new.label or None,
        "idempotency_key": new.key or None,
        "request_hash": new.request_hash,
        "secretive": bool(new.secrets),
        "origin": new.origin,
        "packaging": new.packaging.value,
        **_place("package", new.package),
        "overwrite": new.overwrite,
        "priority": new.priority,
        "rank": -new.priority,
        "deadline": new.deadline,
        "options": dict(new.options),
        "callback": None if new.callback is None else asdict(new.callback),
        "locks": list(locks),
        "reason": "",
        "result": {},
        "cancelling": False,
        "attempts": 0,
        "created": now,
        "item_count": len(new.items),
        "items_done": 0,
        "bytes": sum(item.size or 0 for item in new.items),
        "bytes_done": 0,
    }


def item_values(job: str, seq: int, item: NewItem, *, parent: int | None = None) -> dict[str, Any]:
    """Given an item, the job that it belongs to and its number there, return its row."""
    source = item.source
    return {
        "job": job,
        "seq": seq,
        "parent": parent,
        **_place("source", source.location),
        "source_url": source.url or None,
        "source_spool": source.spool or None,
        "source_key": source_key(source),
        **_place("target", item.target),
        "into": item.into,
        "hash_type": item.hash_type,
        "hash_value": item.hash_value,
        "object_id": item.object_id,
        "result_id": item.result_id,
        "state": ItemState.QUEUED.value,
        "size": item.size,
        "bytes_done": 0,
        "attempts": 0,
        "algorithm": "",
        "digest": "",
        "fault": "",
        "reason": "",
    }


def landed_values(landed: Location | None) -> dict[str, Any]:
    """Given where an item is, return the columns that say so."""
    return _place("landed", landed)


def source_key(source: Source) -> str:
    """Given a source, return what its transfers are measured by: an endpoint, the scheme of a URL, or nothing."""
    return source.location.endpoint if source.location else urlsplit(source.url).scheme


def reaches(new: NewJob) -> list[str]:
    """Given a job, return all that it has to reach, sorted: endpoints, and of other URLs `SCHEME://HOST`."""
    found = {new.package.endpoint} if new.package else set()
    for item in new.items:
        found |= {place.endpoint for place in (item.source.location, item.target) if place and place.endpoint != VOLUME}
        if item.source.url:
            found.add(host_key(item.source.url))
    return sorted(found)


def host_key(url: str) -> str:
    """Given a URL that belongs to no endpoint, return what stands for its host where an endpoint's name would."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


def job_of(row: Row[Any]) -> Job:
    """Given a row of `jobs`, return the job."""
    return Job(
        id=row.id,
        op=Op(row.op),
        state=JobState(row.state),
        owner=row.owner,
        label=row.label or "",
        origin=row.origin,
        packaging=Packaging(row.packaging),
        package=_location(row.package_endpoint, row.package_path),
        overwrite=row.overwrite,
        priority=row.priority,
        deadline=row.deadline,
        options=row.options,
        callback=None if row.callback is None else Callback(**row.callback),
        reason=row.reason,
        result=row.result,
        cancelling=row.cancelling,
        attempts=row.attempts,
        not_before=row.not_before,
        created=row.created,
        started=row.started,
        ended=row.ended,
        progress=Progress(items=row.item_count, items_done=row.items_done, bytes=row.bytes, bytes_done=row.bytes_done),
    )


def item_of(row: Row[Any]) -> Item:
    """Given a row of `items`, return the item."""
    return Item(
        job=row.job,
        seq=row.seq,
        source=Source(
            location=_location(row.source_endpoint, row.source_path),
            url=row.source_url or "",
            spool=row.source_spool or "",
        ),
        target=_location(row.target_endpoint, row.target_path),
        into=row.into,
        hash_type=row.hash_type,
        hash_value=row.hash_value,
        object_id=row.object_id,
        result_id=row.result_id,
        state=ItemState(row.state),
        size=row.size,
        bytes_done=row.bytes_done,
        attempts=row.attempts,
        not_before=row.not_before,
        started=row.started,
        ended=row.ended,
        algorithm=row.algorithm,
        digest=row.digest,
        landed=_location(row.landed_endpoint, row.landed_path),
        fault=row.fault,
        reason=row.reason,
        parent=row.parent,
    )


# -- objects ----------------------------------------------------------------------------------


def object_values(object: DataObject, *, maker: str | None = None) -> dict[str, Any]:
    """Given an object, and the job that makes it where one does, return its row."""
    place = place_key(object.location)
    return {
        "id": object.id,
        "endpoint": object.location.endpoint,
        "path": object.location.path,
        "filename": object.location.path.rpartition("/")[2],
        "place": place,
        "holds": place if object.state in HOLDING else None,
        "given_path": object.given_path,
        "size": object.size,
        "state": object.state.value,
        "algorithm": object.algorithm,
        "digest": object.digest,
        "type": object.type,
        "storage_technology": object.storage_technology,
        "description": object.description,
        "originator": object.originator,
        "group": object.group,
        "metadata": dict(object.metadata),
        "registered": object.registered,
        "modified": object.modified,
        "lock": object.lock or None,
        "maker": maker,
        **_place("home", object.home),
        "owner": object.owner,
    }


def object_of(row: Row[Any]) -> DataObject:
    """Given a row of `objects`, return the object."""
    return DataObject(
        id=row.id,
        location=Location(endpoint=row.endpoint, path=row.path),
        given_path=row.given_path,
        size=row.size,
        state=ObjectState(row.state),
        algorithm=row.algorithm,
        digest=row.digest,
        type=row.type,
        storage_technology=row.storage_technology,
        description=row.description,
        originator=row.originator,
        group=row.group,
        metadata=row.metadata,
        registered=row.registered,
        modified=row.modified,
        lock=row.lock or "",
        home=_location(row.home_endpoint, row.home_path),
        owner=row.owner,
    )


def _place(name: str, location: Location | None) -> dict[str, Any]:
    endpoint, path = (None, None) if location is None else (location.endpoint, location.path)
    return {f"{name}_endpoint": endpoint, f"{name}_path": path}


def _location(endpoint: str | None, path: str | None) -> Location | None:
    return None if endpoint is None or path is None else Location(endpoint=endpoint, path=path)

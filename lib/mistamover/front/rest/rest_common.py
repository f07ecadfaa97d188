"""What the modules of the REST API share: who asks, what comes with every request for a job, and how it is answered."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mistamover.front.auth import caller
from mistamover.front.context import Front
from mistamover.front.errors import Refused
from mistamover.front.rest import views
from mistamover.front.rest.bodies import AskBody, Body, CatalogueBody, PlaceBody
from mistamover.front.rest.shown import Shown
from mistamover.jobs.model import Callback, Job, Location, Scope
from mistamover.jobs.requests import Caller, Destination, ObjectFields
from mistamover.jobs.requests import Request as Asked

Value = TypeVar("Value")

#: Seconds that a client may wait with one request.
LONGEST_WAIT = 600

#: The largest number that a store, or a client that is no Python, can count to.
LARGEST = 2**63 - 1

#: Items that come with a job when nothing else is said.
FIRST_ITEMS = 100

_JOB_ID = re.compile(r"[0-9a-f]{32}")

#: What can be refused anywhere; for the OpenAPI document.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": views.ErrorView, "description": words}
    for status, words in {
        400: "The request cannot be read.",
        401: "A token is needed, or the one that was shown is not good.",
        403: "The token does not allow this.",
        404: "There is nothing of that name.",
        408: "The request did not come to its end.",
        409: "It is not in a state in which this can be done.",
        413: "The request is too large.",
        415: "The body is no JSON.",
        421: "The Host header names another host.",
        422: "What was asked for cannot be done; the message says why.",
        429: "Too many requests, or too many jobs.",
        500: "Something went wrong here.",
        503: "It cannot be done just now.",
    }.items()
}

#: Of a route that submits a job; likewise.
SUBMITTED: dict[int | str, dict[str, Any]] = {
    200: {"model": views.JobView, "description": "It has ended, or the idempotency key is known of it."},
    202: {"model": views.JobView, "description": "It has not ended within the time to wait."},
}


async def _reader(request: Request) -> Caller:
    return caller(request, Scope.READ)


async def _submitter(request: Request) -> Caller:
    return caller(request, Scope.SUBMIT)


async def _admin(request: Request) -> Caller:
    return caller(request, Scope.ADMIN)


Reader = Annotated[Caller, Depends(_reader)]
Submitter = Annotated[Caller, Depends(_submitter)]
Admin = Annotated[Caller, Depends(_admin)]

Wait = Annotated[
    float, Query(ge=0, le=LONGEST_WAIT, allow_inf_nan=False, description="Seconds to wait for the job's end.")
]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        max_length=255,
        description="The same key with the same request is the same job, however often it comes.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=1_000, description="How many, at most.")]
Cursor = Annotated[
    int | None, Query(ge=0, le=LARGEST, description="Where to go on: `next` of the page before, as it is.")
]


def shown_to(front: Front, who: Caller) -> Shown:
    """Given the front and who asks, return what makes his answers. Reads the store, now and then."""
    return Shown(front.known.endpoints(), front.known.instead(), who)


def asked(who: Caller, request: Request, body: AskBody, key: str, *, content: str = "") -> Asked:
    """Given who asks, the request, what it says of the job, and its idempotency key, return the desk's request.

    `content` stands for what else belongs to the request.
    """
    if key:
        key = f"key:{key}"
    elif body.label_is_key:
        key = f"label:{body.label}"
    callback = body.callback
    return Asked(
        who=who,
        label=body.label,
        key=key,
        request_hash=request_hash(request, body, content) if key else "",
        priority=body.priority,
        deadline=None if body.timeout is None else time.time() + body.timeout,
        callback=None
        if callback is None
        else Callback(url=callback.url, queue=callback.queue, extra=dict(callback.extra)),
    )


def request_hash(request: Request, body: Body, content: str = "") -> str:
    """Given a request, its checked body and what else belongs to it, return a hash that the same request has again."""
    what = f"{request.method} {request.url.path} {body.model_dump_json()} {content}"
    return hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()


def destination(place: PlaceBody) -> Destination:
    """Given a place of a request, return the desk's."""
    where = Location(endpoint=place.endpoint, path=place.path) if place.endpoint else None
    return Destination(url=place.url, location=where, into=place.directory)


def fields(body: CatalogueBody, path: str = "") -> ObjectFields:
    """Given what a request says of an object, and the path as written, return the desk's fields."""
    return ObjectFields(
        description=body.description,
        originator=body.originator,
        group=body.group,
        type=body.type,
        storage_technology=body.storage_technology,
        metadata=body.metadata,
        given_path=path.rpartition("/")[0],
    )


async def submitted(front: Front, who: Caller, wait: float, submit: Callable[[], tuple[Job, bool]]) -> Response:
    """Given the front, who asks, how long he waits and what submits a job, do that; return the answer.

    201 for a new job, 200 for one that has ended, or that the idempotency key is known of; 202 when the time is over.
    """
    if not wait:
        return await run_in_threadpool(_submitted_now, front, who, submit)
    job, created = await run_in_threadpool(submit)
    ended = await front.feed.ended(job.id, min(wait, front.settings.front.sync_timeout))
    status = 200 if ended is not None and ended.state.final else 202
    return await run_in_threadpool(_answer, front, who, ended or job, created, status)


def _submitted_now(front: Front, who: Caller, submit: Callable[[], tuple[Job, bool]]) -> Response:
    job, created = submit()
    return _answer(front, who, job, created, 201 if created else 200)


def _answer(front: Front, who: Caller, job: Job, created: bool, status: int) -> Response:
    headers = {"Location": f"/api/v1/jobs/{job.id}"}
    if not created:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(shown_to(front, who).job(job), status, headers)


def need_job(front: Front, job_id: str) -> Job:
    """Given an id as a client wrote it, return the job. Raise Refused (404)."""
    plain = job_id.replace("-", "").lower()
    job = front.store.jobs.get(plain) if _JOB_ID.fullmatch(plain) else None
    if job is None:
        raise no_job()
    return job


def no_job() -> Refused:
    """Return the refusal of an id that no job has."""
    return Refused(404, "unknown-job", "there is no job of that id; old ones are forgotten when they have ended")


def set_fields(body: Body) -> Mapping[str, Any]:
    """Given a body that changes something, return what it says, without what it does not mention or leaves null."""
    return {key: value for key, value in body.model_dump(exclude_unset=True).items() if value is not None}

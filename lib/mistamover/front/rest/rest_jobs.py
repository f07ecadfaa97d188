"""The REST API's jobs: asked for, looked at, waited for, ended, tried again, fetched."""

from __future__ import annotations

import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from mistamover.front.auth import may_change
from mistamover.front.content import Wanted, download
from mistamover.front.context import Front, front_of
from mistamover.front.errors import Refused
from mistamover.front.rest import event_stream, views
from mistamover.front.rest.bodies import JobBody, SourceBody
from mistamover.front.rest.rest_common import (
    ERRORS,
    FIRST_ITEMS,
    LARGEST,
    SUBMITTED,
    Cursor,
    Key,
    Limit,
    Reader,
    Submitter,
    Wait,
    asked,
    destination,
    fields,
    need_job,
    no_job,
    shown_to,
    submitted,
)
from mistamover.front.rest.rest_files import CONTENT_RESPONSES
from mistamover.jobs.groups import in_words
from mistamover.jobs.model import Job, JobState, Location, Op, Packaging
from mistamover.jobs.requests import Caller, SourceSpec

router = APIRouter(tags=["jobs"], responses=ERRORS)


First = Annotated[int, Query(ge=0, le=1_000, description="How many of its items are shown.")]


@router.post("/jobs", status_code=201, response_model=views.JobView, responses=SUBMITTED)
async def submit(request: Request, body: JobBody, who: Submitter, wait: Wait = 0, key: Key = "") -> Response:
    """Ask for a job."""
    front = front_of(request)

    def ask() -> tuple[Job, bool]:
        about = asked(who, request, body, key)
        if body.destination is None:
            place = Location(endpoint=body.sources[0].endpoint, path=body.sources[0].path)
            return front.desk.delete(about, place, recursive=body.options.get("recursive") is True)
        register = None if body.register_as is None else fields(body.register_as, body.destination.path)
        return front.desk.copy(
            about,
            [_spec(source) for source in body.sources],
            destination(body.destination),
            op=Op(body.op),
            packaging=body.packaging,
            overwrite=body.overwrite,
            options=body.options,
            register=register,
        )

    return await submitted(front, who, wait, ask)


@router.get("/jobs", response_model=views.JobPage)
def page(
    request: Request,
    who: Reader,
    state: JobState | None = None,
    op: Op | None = None,
    owner: Annotated[str | None, Query(max_length=255)] = None,
    label: Annotated[str | None, Query(max_length=255)] = None,
    since: Annotated[datetime.datetime | None, Query(description="Created then or later.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List jobs, the newest first."""
    front = front_of(request)
    found, following = front.store.jobs.page(
        owner=owner, state=state, op=op, label=label, since=_seconds(since), before=cursor, limit=limit
    )
    shown = shown_to(front, who)
    return JSONResponse({"jobs": [shown.job(job) for job in found], "next": following})


@router.get("/jobs/{job_id}", response_model=views.JobView)
async def show(request: Request, who: Reader, job_id: str, wait: Wait = 0, items: First = FIRST_ITEMS) -> Response:
    """Show a job with its progress and its first items; with `wait`, as soon as it has ended."""
    front = front_of(request)
    if wait:
        job = await run_in_threadpool(need_job, front, job_id)
        await front.feed.ended(job.id, min(wait, front.settings.front.sync_timeout))
    return await run_in_threadpool(_shown, front, who, job_id, items)


@router.get("/jobs/{job_id}/items", response_model=views.ItemPage)
def show_items(
    request: Request,
    who: Reader,
    job_id: str,
    offset: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    limit: Limit = 100,
) -> Response:
    """List the items of a job, in their order."""
    front = front_of(request)
    job = need_job(front, job_id)
    found = front.store.jobs.items(job.id, offset=offset, limit=limit + 1)
    shown = shown_to(front, who)
    following = offset + limit if len(found) > limit else None
    return JSONResponse({"items": [shown.item(item, job.owner) for item in found[:limit]], "next": following})


@router.delete(
    "/jobs/{job_id}",
    response_model=views.JobView,
    responses={
        202: {"model": views.JobView, "description": "It will end soon."},
        204: {"description": "It had ended, and is forgotten now.", "model": None},
    },
)
def delete(request: Request, who: Submitter, job_id: str) -> Response:
    """Cancel a job; forget one that has ended. For its owner, or an administrator."""
    front = front_of(request)
    job = need_job(front, job_id)
    may_change(who, job)
    if job.state.final:
        _no_cart(job)
        front.store.jobs.drop(job.id)
        return Response(status_code=204)
    cancelled = front.store.jobs.cancel(job.id)
    if cancelled is None:
        raise no_job()
    front.ring()
    return JSONResponse(shown_to(front, who).job(cancelled), 200 if cancelled.state.final else 202)


@router.post("/jobs/{job_id}/retry", response_model=views.JobView)
def retry(request: Request, who: Submitter, job_id: str) -> Response:
    """Queue a job again that failed or was cancelled; what is done already is not done again."""
    front = front_of(request)
    job = need_job(front, job_id)
    may_change(who, job)
    _no_cart(job)
    queued = front.store.jobs.retry(job.id)
    if queued is None:
        raise no_job()
    front.ring()
    return JSONResponse(shown_to(front, who).job(queued))


@router.get(
    "/jobs/{job_id}/events",
    response_model=views.EventPage,
    responses={
        200: {
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
            "description": "The events, or a stream.",
        }
    },
)
async def events(
    request: Request,
    who: Reader,
    job_id: str,
    after: Annotated[int, Query(ge=0, le=LARGEST, description="The last event that is known already.")] = 0,
    limit: Limit = 100,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
    last_event_id: Annotated[str, Header(alias="Last-Event-ID", include_in_schema=False)] = "",
) -> Response:
    """List what happened to a job; to a client that accepts `text/event-stream`, tell it as it happens."""
    front = front_of(request)
    job = await run_in_threadpool(need_job, front, job_id)
    if "text/event-stream" in accept:
        if last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19:
            after = max(after, int(last_event_id))
        shown = await run_in_threadpool(shown_to, front, who)
        return event_stream.response(front.feed.events(job.id, after), shown)
    return await run_in_threadpool(_events, front, who, job.id, after, limit)


@router.get(
    "/jobs/{job_id}/content",
    response_class=Response,
    responses=CONTENT_RESPONSES,
)
@router.head("/jobs/{job_id}/content", include_in_schema=False)
async def content(request: Request, who: Reader, job_id: str) -> Response:
    """Download what a job delivered: its package, or its one file; whole, or a range of it."""
    front = front_of(request)
    wanted = await run_in_threadpool(_wanted, front, job_id)
    return await download(front, Headers(scope=request.scope), wanted, head=request.method == "HEAD")


def _spec(source: SourceBody) -> SourceSpec:
    where = Location(endpoint=source.endpoint, path=source.path) if source.endpoint else None
    return SourceSpec(
        url=source.url,
        location=where,
        object_id=source.object,
        name=source.name,
        hash_type=source.hashtype,
        hash_value=source.hashsum,
    )


def _shown(front: Front, who: Caller, job_id: str, items: int) -> Response:
    job = need_job(front, job_id)
    found = front.store.jobs.items(job.id, limit=items) if items else None
    shown = shown_to(front, who).job(job, found)
    if job.state is JobState.QUEUED and (group := front.store.claims.group_waited_for(job.id)) is not None:
        shown["waits_for"] = in_words(group)
    return JSONResponse(shown)


def _events(front: Front, who: Caller, job_id: str, after: int, limit: int) -> Response:
    found = front.store.events.after(after, job=job_id, limit=limit)
    shown = shown_to(front, who)
    last = found[-1].number if found else after
    return JSONResponse({"events": [shown.event(event) for event in found], "last": last})


def _wanted(front: Front, job_id: str) -> Wanted:
    job = need_job(front, job_id)
    _no_cart(job)
    if job.state is not JobState.DONE:
        words = "it will have content once it is done" if not job.state.final else f"it is {job.state}"
        raise Refused(409, "job-state", f"this job delivered nothing yet: {words}")
    if job.packaging is not Packaging.NONE:
        # The first item that landed tells where the package is: all of them are in it.
        items = front.store.jobs.items(job.id, limit=1)
        where = items[0].landed if items else None
        return Wanted(location=where or _package(job), name=_last((where or _package(job)).path))
    items = [item for item in front.store.jobs.items(job.id, limit=3) if item.landed is not None]
    if len(items) != 1 or items[0].landed is None:
        raise Refused(409, "job-state", "only the package or the one file of a job can be downloaded")
    item = items[0]
    assert item.landed is not None
    return Wanted(location=item.landed, name=_last(item.landed.path), algorithm=item.algorithm, digest=item.digest)


def _no_cart(job: Job) -> None:
    """Given a job, return if it is none that has a cart: what it made belongs to that. Raise Refused (409)."""
    if job.op is Op.BUNDLE:
        raise Refused(409, "is-cart", f"this job belongs to a cart: see /api/v1/carts/{job.label}")


def _package(job: Job) -> Location:
    if job.package is None:
        raise Refused(409, "job-state", "this job has no package")
    return job.package


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _seconds(since: datetime.datetime | None) -> float | None:
    if since is None:
        return None
    return (since if since.tzinfo else since.replace(tzinfo=datetime.UTC)).timestamp()

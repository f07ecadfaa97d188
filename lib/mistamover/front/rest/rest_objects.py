"""The REST API's catalogue: objects registered, found and described, and the jobs that change where they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from mistamover.front.content import Wanted, download, looked_up
from mistamover.front.context import Front, front_of
from mistamover.front.errors import Refused
from mistamover.front.rest import views
from mistamover.front.rest.bodies import (
    NOTHING_SAID,
    ActivateBody,
    ArchiveBody,
    AskBody,
    CopyBody,
    ObjectBody,
    ObjectChange,
)
from mistamover.front.rest.rest_common import (
    ERRORS,
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
    set_fields,
    shown_to,
    submitted,
)
from mistamover.front.rest.rest_files import CONTENT_RESPONSES, UPLOAD, UPLOADED, Hashsum, Hashtype, put_content
from mistamover.jobs.model import DataObject, Job, Location, ObjectState, Scope
from mistamover.jobs.requests import Caller, Destination
from mistamover.jobs.requests import Request as Asked

router = APIRouter(tags=["objects"], responses=ERRORS)

#: What a request without a body asks for.
_TO_ANY_ARCHIVE = ArchiveBody.model_validate({})
_BACK = ActivateBody.model_validate({})

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@router.get("/objects", response_model=views.ObjectPage)
def page(
    request: Request,
    who: Reader,
    name: Annotated[str | None, Query(max_length=255, description="The last part of the path.")] = None,
    endpoint: Annotated[str | None, Query(max_length=255)] = None,
    path: Annotated[str | None, Query(max_length=4_096)] = None,
    state: ObjectState | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List objects; of those that match all that is given."""
    front = front_of(request)
    found, following = front.store.objects.find(
        filename=name, endpoint=endpoint, path=path, state=state, after=cursor, limit=limit
    )
    shown = shown_to(front, who)
    return JSONResponse({"objects": [shown.object(each) for each in found], "next": following})


@router.post("/objects", status_code=201, response_model=views.ObjectView)
async def register(request: Request, who: Submitter, body: ObjectBody) -> Response:
    """Make an object of data that is at its place already."""
    front = front_of(request)
    where = Location(endpoint=body.endpoint, path=body.path)
    size = body.size
    if size is None:
        resolved = await run_in_threadpool(front.desk.endpoints.resolve, where.endpoint, where.path)
        size = await looked_up(front, resolved)

    def ask() -> Response:
        about = Asked(who=who)
        made = front.desk.register(
            about,
            where,
            size=size,
            fields=fields(body, body.path),
            algorithm=body.hashtype,
            digest=body.hashsum,
        )
        headers = {"Location": f"/api/v1/objects/{made.id}"}
        return JSONResponse(shown_to(front, who).object(made), 201, headers)

    return await run_in_threadpool(ask)


@router.get("/objects/{object_id}", response_model=views.ObjectView)
def show(request: Request, who: Reader, object_id: str) -> Response:
    """Show an object."""
    front = front_of(request)
    return JSONResponse(shown_to(front, who).object(need_object(front, object_id)))


@router.patch("/objects/{object_id}", response_model=views.ObjectView)
def change(request: Request, who: Submitter, object_id: str, body: ObjectChange) -> Response:
    """Change what the catalogue says of an object. For its owner, or an administrator."""
    front = front_of(request)
    found = need_object(front, object_id)
    _may_change(who, found)
    changed = front.store.objects.update(found.id, **set_fields(body))
    if changed is None:
        raise _no_object()
    return JSONResponse(shown_to(front, who).object(changed))


@router.delete("/objects/{object_id}", status_code=201, response_model=views.JobView, responses=SUBMITTED)
async def delete(request: Request, who: Submitter, object_id: str, wait: Wait = 0, key: Key = "") -> Response:
    """Remove an object and its data; the catalogue remembers that there was one. For its owner, or an administrator."""
    front = front_of(request)

    def ask() -> tuple[Job, bool]:
        found = need_object(front, object_id)
        _may_change(who, found)
        return front.desk.delete_object(asked(who, request, NOTHING_SAID, key), found.id)

    return await submitted(front, who, wait, ask)


@router.post("/objects/{object_id}/copy", status_code=201, response_model=views.JobView, responses=SUBMITTED)
async def copy(
    request: Request, who: Submitter, object_id: str, body: CopyBody, wait: Wait = 0, key: Key = ""
) -> Response:
    """Make another object of the same data elsewhere; its id is in the job's result."""
    return await _job(
        request,
        who,
        object_id,
        body,
        wait,
        key,
        lambda front, about, found: front.desk.copy_object(
            about, found, destination(body.destination), overwrite=body.overwrite
        ),
    )


@router.post("/objects/{object_id}/move", status_code=201, response_model=views.JobView, responses=SUBMITTED)
async def move(
    request: Request, who: Submitter, object_id: str, body: CopyBody, wait: Wait = 0, key: Key = ""
) -> Response:
    """Take an object elsewhere; it keeps its id. For its owner, or an administrator."""
    return await _job(
        request,
        who,
        object_id,
        body,
        wait,
        key,
        lambda front, about, found: front.desk.move_object(
            about, found, destination(body.destination), overwrite=body.overwrite
        ),
        changes=True,
    )


@router.post("/objects/{object_id}/archive", status_code=201, response_model=views.JobView, responses=SUBMITTED)
async def archive(
    request: Request, who: Submitter, object_id: str, body: ArchiveBody = _TO_ANY_ARCHIVE, wait: Wait = 0, key: Key = ""
) -> Response:
    """Take an object to an archive. For its owner, or an administrator."""
    return await _job(
        request,
        who,
        object_id,
        body,
        wait,
        key,
        lambda front, about, found: front.desk.archive_object(about, found, endpoint=body.endpoint),
        changes=True,
    )


@router.post("/objects/{object_id}/activate", status_code=201, response_model=views.JobView, responses=SUBMITTED)
async def activate(
    request: Request, who: Submitter, object_id: str, body: ActivateBody = _BACK, wait: Wait = 0, key: Key = ""
) -> Response:
    """Take an object back from the archive to where it was. For its owner, or an administrator."""
    return await _job(
        request,
        who,
        object_id,
        body,
        wait,
        key,
        lambda front, about, found: front.desk.activate_object(about, found),
        changes=True,
    )


@router.get("/objects/{object_id}/content", response_class=Response, responses=CONTENT_RESPONSES)
@router.head("/objects/{object_id}/content", include_in_schema=False)
async def content(request: Request, who: Reader, object_id: str) -> Response:
    """Download the data of an object; whole, or a range of it."""
    front = front_of(request)
    found = await run_in_threadpool(need_object, front, object_id)
    if found.state is not ObjectState.ACTIVE:
        raise Refused(409, "object-state", f"this object is {found.state}: its data is not at hand")
    wanted = Wanted(
        location=found.location,
        name=found.location.path.rpartition("/")[2],
        algorithm=found.algorithm,
        digest=found.digest,
    )
    return await download(front, Headers(scope=request.scope), wanted, head=request.method == "HEAD")


@router.put(
    "/objects/{object_id}/content",
    status_code=201,
    response_model=views.JobView,
    responses=UPLOADED,
    openapi_extra=UPLOAD,
)
async def replace_content(
    request: Request,
    who: Submitter,
    object_id: str,
    wait: Wait = 0,
    hashtype: Hashtype = "",
    hashsum: Hashsum = "",
    key: Key = "",
) -> Response:
    """Give an object other data: the body of the request. For its owner, or an administrator."""
    front = front_of(request)

    def allowed() -> DataObject:
        found = need_object(front, object_id)
        _may_change(who, found)
        if found.state is not ObjectState.ACTIVE:
            raise Refused(409, "object-state", f"this object is {found.state}: its data cannot be replaced")
        front.desk.endpoints.need(found.location.endpoint, writing=True)
        return found

    found = await run_in_threadpool(allowed)
    return await put_content(
        request,
        who,
        Destination(location=found.location, into=False),
        wait=wait,
        key=key,
        hashsum=(hashtype, hashsum),
        overwrite=True,
        object_id=found.id,
    )


async def _job(
    request: Request,
    who: Caller,
    object_id: str,
    body: AskBody,
    wait: float,
    key: str,
    ask: Callable[[Front, Asked, str], tuple[Job, bool]],
    *,
    changes: bool = False,
) -> Response:
    front = front_of(request)

    def submit() -> tuple[Job, bool]:
        found = need_object(front, object_id)
        if changes:
            _may_change(who, found)
        return ask(front, asked(who, request, body, key), found.id)

    return await submitted(front, who, wait, submit)


def need_object(front: Front, object_id: str) -> DataObject:
    """Given an id as a client wrote it, return the object. Raise Refused (404)."""
    plain = object_id.lower()
    found = front.store.objects.get(plain) if _ID.fullmatch(plain) else None
    if found is None or found.state is ObjectState.RESERVED:
        raise _no_object()
    return found


def _no_object() -> Refused:
    return Refused(404, "unknown-object", "there is no object of that id")


def _may_change(who: Caller, found: DataObject) -> None:
    if not who.scope.includes(Scope.ADMIN) and who.name != found.owner:
        words = "this object belongs to another owner: only he or an administrator changes it"
        raise Refused(403, "forbidden", words)

"""The REST API's files: content that is put at an endpoint, and fetched from one, without the catalogue."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response

from mistamover.front.content import Wanted, download
from mistamover.front.context import front_of
from mistamover.front.rest import views
from mistamover.front.rest.bodies import NOTHING_SAID
from mistamover.front.rest.rest_common import ERRORS, SUBMITTED, Key, Reader, Submitter, Wait, asked, submitted
from mistamover.front.upload import spooled
from mistamover.jobs.model import Job, Location
from mistamover.jobs.requests import Caller, Destination, ObjectFields

router = APIRouter(tags=["files"], responses=ERRORS)

_BINARY: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}

#: Of a route that sends content; for the OpenAPI document.
CONTENT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: _BINARY,
    206: {**_BINARY, "description": "The range that was asked for."},
    304: {"description": "It is the content that the client has."},
    416: {"model": views.ErrorView, "description": "The content has no such bytes."},
    502: {"model": views.ErrorView, "description": "The endpoint does not give it."},
}

#: Of a route that takes content; likewise.
UPLOAD: dict[str, Any] = {"requestBody": {"required": True, **_BINARY}}

UPLOADED: dict[int | str, dict[str, Any]] = {
    **SUBMITTED,
    507: {"model": views.ErrorView, "description": "There is no room for it."},
}

Hashtype = Annotated[str, Query(max_length=32, description="Of the hash in `hashsum`.")]
Hashsum = Annotated[str, Query(max_length=255, description="What the content must have; it is not taken otherwise.")]
FilePath = Annotated[str, Query(min_length=1, max_length=4_096, description="Below the base of the endpoint.")]


@router.get("/endpoints/{name}/content", response_class=Response, responses=CONTENT_RESPONSES)
@router.head("/endpoints/{name}/content", include_in_schema=False)
async def content(request: Request, who: Reader, name: str, path: FilePath) -> Response:
    """Download a file of an endpoint; whole, or a range of it."""
    front = front_of(request)
    where = await run_in_threadpool(front.desk.endpoints.resolve, name, path)
    wanted = Wanted(location=where, name=where.path.rpartition("/")[2])
    return await download(front, Headers(scope=request.scope), wanted, head=request.method == "HEAD")


@router.put(
    "/endpoints/{name}/content",
    status_code=201,
    response_model=views.JobView,
    responses=UPLOADED,
    openapi_extra=UPLOAD,
)
async def put(
    request: Request,
    who: Submitter,
    name: str,
    path: FilePath,
    wait: Wait = 0,
    overwrite: bool = False,
    register: Annotated[bool, Query(description="Make it an object of the catalogue.")] = False,
    description: Annotated[str, Query(max_length=4_000)] = "",
    hashtype: Hashtype = "",
    hashsum: Hashsum = "",
    key: Key = "",
) -> Response:
    """Upload a file to an endpoint: the body of the request."""
    front = front_of(request)
    where = await run_in_threadpool(front.desk.endpoints.resolve, name, path, writing=True)
    given = path.rpartition("/")[0]
    return await put_content(
        request,
        who,
        # As it was written: a slash at its end means a directory, which the desk refuses.
        Destination(location=Location(endpoint=where.endpoint, path=path)),
        wait=wait,
        key=key,
        hashsum=(hashtype, hashsum),
        overwrite=overwrite,
        register=ObjectFields(description=description, given_path=given) if register else None,
    )


async def put_content(
    request: Request,
    who: Caller,
    to: Destination,
    *,
    wait: float,
    key: str,
    hashsum: tuple[str, str],
    overwrite: bool = False,
    register: ObjectFields | None = None,
    object_id: str = "",
) -> Response:
    """Given a request whose body is content, and where it goes, keep it and submit the job that takes it there."""
    front = front_of(request)
    kept = await spooled(front.settings, request.stream())

    def ask() -> tuple[Job, bool]:
        return front.desk.put(
            asked(who, request, NOTHING_SAID, key, content=f"{request.url.query} {kept.digest}"),
            kept.name,
            to,
            size=kept.size,
            digest=kept.digest,
            register=register,
            object_id=object_id,
            overwrite=overwrite,
            hash_type=hashsum[0],
            hash_value=hashsum[1],
        )

    return await submitted(front, who, wait, ask)

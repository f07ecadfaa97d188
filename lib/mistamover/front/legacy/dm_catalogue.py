"""The data manager's dialect: what is in the catalogue, and what a transfer would take."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute

from mistamover.front.auth import caller
from mistamover.front.content import Wanted, download
from mistamover.front.context import Front
from mistamover.front.legacy import dm_asks as asks
from mistamover.front.legacy import dm_records as records
from mistamover.front.legacy import dm_words as words
from mistamover.front.legacy.dm_replies import form_of
from mistamover.front.legacy.dm_routes import both
from mistamover.jobs.model import DataObject, ObjectState, Scope

#: The data of every object at a machine that is in test mode.
NOTHING = b"This machine is in test mode.\n"

#: Objects that are read at a time.
_BATCH = 500
#: Objects of one name at one machine that a search looks at.
_SEARCHED = 10_000

_LIVE = (ObjectState.ACTIVE, ObjectState.ARCHIVED)


def routes(front: Front) -> list[BaseRoute]:
    """Given the front, return the routes of the calls that only read."""

    async def health(request: Request) -> Response:
        return JSONResponse({"status": 200})

    async def everything(request: Request) -> Response:
        full = caller(request, Scope.READ).scope.includes(Scope.ADMIN)
        first = await run_in_threadpool(_page, front, None)  # what fails, fails before the answer has begun
        pieces = iterate_in_threadpool(_listed(front, first, full=full))
        return StreamingResponse(pieces, media_type="application/json")

    async def info(request: Request) -> Response:
        full = caller(request, Scope.READ).scope.includes(Scope.ADMIN)
        identity = request.path_params["id"]
        thing = await run_in_threadpool(asks.found, front, identity)
        if thing is None:
            raise words.Told(404, f"{identity} does not exist")
        return JSONResponse(await run_in_threadpool(_shown, front, thing, full=full))

    async def search(request: Request) -> Response:
        caller(request, Scope.READ)
        form = await form_of(front, request)
        machine, name = form.text("machine"), form.path("filename")
        if not machine or not name:
            raise words.Told(501, words.SEARCH_NEEDS)
        path = form.path("path") if "path" in form else None
        thing = await run_in_threadpool(_searched, front, machine, name, path)
        return JSONResponse(await run_in_threadpool(_shown, front, thing, full=False))

    async def predict(request: Request) -> Response:
        caller(request, Scope.READ)
        form = await form_of(front, request)
        if "uuid" in form:
            asks.need(form, "uuid", "dest_machine")
            identity = form.text("uuid")
            thing = await run_in_threadpool(asks.found, front, identity)
            if thing is None:
                raise words.Told(404, f"Data with uuid '{identity}' not found")
            source, size = thing.location.endpoint, float(thing.size)
        else:
            asks.need(form, "src_machine", "data_size", "dest_machine")
            source, size = form.text("src_machine"), _size(form.text("data_size"))
        rate = await run_in_threadpool(front.store.jobs.estimate, source, form.text("dest_machine"))
        if not rate:
            raise words.Told(400, words.NO_TRANSFERS)
        return JSONResponse({"prediction_time": size / rate}, 201)

    async def get(request: Request) -> Response:
        caller(request, Scope.READ)
        thing = await run_in_threadpool(asks.found, front, request.path_params["id"])
        if thing is None or thing.state is ObjectState.DELETED:
            raise words.Told(404, words.NO_DATA)
        if thing.state is ObjectState.ARCHIVED:
            raise words.Told(409, f"{thing.id} is archived: activate it first")
        endpoint = front.known.endpoints().get(thing.location.endpoint)
        if endpoint is not None and endpoint.dry_run:
            return Response(NOTHING, media_type="application/octet-stream")
        name = thing.location.path.rpartition("/")[2]
        wanted = Wanted(location=thing.location, name=name, algorithm=thing.algorithm, digest=thing.digest)
        return await download(front, request.headers, wanted, head=request.method == "HEAD")

    return [
        *both(front, "/DM/health", health, "GET"),
        *both(front, "/DM/info", everything, "GET"),
        *both(front, "/DM/info/{id}", info, "GET"),
        *both(front, "/DM/search", search, "GET"),
        *both(front, "/DM/get/{id}", get, "GET"),
        *both(front, "/DM/predict", predict, "POST", "PUT"),
    ]


def _shown(front: Front, thing: DataObject, *, full: bool) -> dict[str, object]:
    endpoint = front.known.endpoints().get(thing.location.endpoint)
    # What is at an endpoint that is gone is still known, only not where that was.
    return records.record(thing, base=endpoint.base if endpoint else "", full=full and endpoint is not None)


Page = tuple[list[DataObject], int | None]


def _page(front: Front, cursor: int | None) -> Page:
    return front.store.objects.find(after=cursor, limit=_BATCH)


def _listed(front: Front, page: Page, *, full: bool) -> Iterator[str]:
    """Yield the JSON array of all records: the catalogue may be larger than what anybody wants in memory."""
    before = "["
    while True:
        things, after = page
        for thing in things:
            yield before + json.dumps(_shown(front, thing, full=full))
            before = ","
        if after is None:
            yield "]" if before == "," else "[]"
            return
        page = _page(front, after)


def _searched(front: Front, machine: str, name: str, path: str | None) -> DataObject:
    """Given what to look for, return the one object that it is. Raise Told.

    An object that was deleted counts only where no other one is: whoever searches wants what is there.
    """
    endpoint = front.known.endpoints().get(machine)
    base = endpoint.base if endpoint else ""
    things, _ = front.store.objects.find(filename=name, endpoint=machine, limit=_SEARCHED)
    if path is not None:
        things = [thing for thing in things if records.is_in(thing, path, base)]
    things = [thing for thing in things if thing.state in _LIVE] or things
    if not things:
        raise words.Told(404, words.NOT_REGISTERED)
    if len(things) > 1:
        raise words.Told(400, words.SEVERAL_FOUND)
    return things[0]


def _size(written: str) -> float:
    try:
        size = float(written)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise words.Told(400, "data_size is a number of bytes")
    return size

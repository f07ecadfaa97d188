"""The REST API's rest: is all well, and how long will a transfer take."""

from __future__ import annotations

import logging
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from mistamover import __version__
from mistamover.errors import StoreError
from mistamover.front.context import Front, front_of
from mistamover.front.errors import Refused
from mistamover.front.rest import views
from mistamover.front.rest.rest_common import ERRORS, LARGEST, Reader
from mistamover.front.rest.rest_objects import need_object
from mistamover.jobs.groups import is_named
from mistamover.jobs.model import Scope
from mistamover.jobs.requests import Caller

logger = logging.getLogger(__name__)

router = APIRouter(tags=["service"], responses=ERRORS)


@router.get(
    "/health",
    response_model=views.HealthView,
    responses={503: {"model": views.HealthView, "description": "The store of jobs cannot be used."}},
)
def health(request: Request) -> Response:
    """Tell whether all is well. Needs no token; with one, it tells more."""
    front = front_of(request)
    who: Caller = request.state.caller
    shown: dict[str, object] = {}
    try:
        front.store.events.last()
        well = True
        if who.scope.includes(Scope.READ):
            shown["jobs"] = {state.value: number for state, number in front.store.jobs.counts().items()}
            shown |= _of_workers(front)
    except StoreError as error:
        logger.error("the store: %s", error, extra={"action": "front"})
        well = False
    if who.scope.includes(Scope.READ):
        shown |= {"version": __version__, "store": well}
    return JSONResponse({"status": "ok" if well else "failing", **shown}, 200 if well else 503)


def _of_workers(front: Front) -> dict[str, object]:
    """Given the front, return who works, and who waits for whom."""
    living, waiting = front.store.claims.living(), front.store.claims.waiting_by_group()
    # That of one state directory is nothing that anybody has named.
    names = sorted(name for name in {*waiting, *(group for each in living for group in each.groups)} if is_named(name))
    groups = [
        {
            "name": name,
            "threads": sum(each.threads for each in living if name in each.groups),
            "workers": sorted(each.name for each in living if name in each.groups),
            "waiting": waiting.get(name, 0),
        }
        for name in names
    ]
    return {"workers": {each.name: each.threads for each in living}, "groups": groups}


@router.get("/estimate", response_model=views.EstimateView)
def estimate(
    request: Request,
    who: Reader,
    dst: Annotated[str, Query(max_length=255, description="The endpoint that it would go to.")],
    src: Annotated[str, Query(max_length=8_192, description="The endpoint, or a URL, that it would come from.")] = "",
    size: Annotated[int | None, Query(alias="bytes", ge=0, le=LARGEST)] = None,
    object_id: Annotated[str, Query(alias="object", max_length=255, description="Instead of src and bytes.")] = "",
) -> Response:
    """Tell how long a transfer would take, from those that were done between the same two."""
    front = front_of(request)
    if bool(object_id) == bool(src) or (object_id and size is not None) or (src and size is None):
        raise Refused(422, "bad-request", "an estimate needs dst, and either object, or src and bytes")
    if object_id:
        found = need_object(front, object_id)
        src, size = found.location.endpoint, found.size
    elif ":" in src:
        src = _scheme(src)
    rate = front.store.jobs.estimate(src, dst)
    if rate is None or size is None:
        raise Refused(404, "no-estimate", "nothing was transferred between these two yet")
    return JSONResponse({"seconds": size / rate, "bytes_per_second": rate})


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        raise Refused(422, "bad-url", "src is no URL") from None

"""The REST API's carts: files of an archive, gathered for one download."""

from __future__ import annotations

import time
import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from mistamover.front.cart_content import need_ready, send
from mistamover.front.context import Front, front_of
from mistamover.front.rest import views
from mistamover.front.rest.bodies import CartBody
from mistamover.front.rest.rest_common import (
    ERRORS,
    Cursor,
    Key,
    Limit,
    Reader,
    Submitter,
    Wait,
    request_hash,
    shown_to,
)
from mistamover.front.rest.rest_files import CONTENT_RESPONSES
from mistamover.jobs.cart_model import CartFile, CartState, NewCart
from mistamover.jobs.requests import Caller
from mistamover.jobs.requests import Request as Asked

router = APIRouter(tags=["carts"], responses=ERRORS)

_LONGEST_UNUSED = 100 * 366 * 86_400

Unused = Annotated[
    float,
    Query(ge=0, le=_LONGEST_UNUSED, allow_inf_nan=False, description="Seconds for which nobody has used them."),
]
FileName = Annotated[
    str, Query(max_length=255, description="What the bundle is called, without directories; its members lie below it.")
]


@router.post(
    "/carts",
    status_code=201,
    response_model=views.CartView,
    responses={200: {"model": views.CartView, "description": "The idempotency key is known of it."}},
)
def create(request: Request, body: CartBody, who: Submitter, key: Key = "") -> Response:
    """Ask for a cart; one of the same uid that is there already is hidden by it."""
    front = front_of(request)
    asked = Asked(who=who, key=f"key:{key}" if key else "", request_hash=request_hash(request, body) if key else "")
    cart, created = front.carts.create(asked, _new(body))
    headers = {"Location": f"/api/v1/carts/{cart.uid}"}
    if not created:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(shown_to(front, who).cart(cart, time.time()), 201 if created else 200, headers)


@router.get("/carts", response_model=views.CartPage)
def page(
    request: Request,
    who: Reader,
    uid: Annotated[str | None, Query(max_length=255)] = None,
    state: CartState | None = None,
    owner: Annotated[str | None, Query(max_length=255)] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Response:
    """List carts, the newest first."""
    front = front_of(request)
    found, following = front.carts.page(uid=uid, owner=owner, state=state, before=cursor, limit=limit)
    shown, now = shown_to(front, who), time.time()
    return JSONResponse({"carts": [shown.cart(cart, now) for cart in found], "next": following})


@router.delete("/carts", response_model=views.PurgedView)
def purge(request: Request, who: Submitter, unused: Unused) -> Response:
    """Delete the carts that are ready or in error and that nobody has used for so long. Your own; an administrator's,
    everybody's.
    """
    front = front_of(request)
    return JSONResponse({"deleted": front.carts.purge(who, time.time() - unused)})


@router.get("/carts/{uid}", response_model=views.CartView)
async def show(request: Request, who: Reader, uid: str, wait: Wait = 0) -> Response:
    """Show the newest cart of a uid, your own before others; with `wait`, as soon as it is ready or in error."""
    front = front_of(request)
    if wait:
        cart = await run_in_threadpool(front.carts.need, who, uid)
        await front.feed.ended(cart.job.id, min(wait, front.settings.front.sync_timeout))
    return await run_in_threadpool(_shown, front, who, uid)


@router.delete("/carts/{uid}", status_code=204, responses={204: {"description": "It is no more.", "model": None}})
def delete(request: Request, who: Submitter, uid: str) -> Response:
    """Delete all carts of a uid, whatever they are at. Your own; an administrator, everybody's."""
    front = front_of(request)
    front.carts.delete(who, uid)
    # A worker that has it is told to end.
    front.ring()
    return Response(status_code=204)


@router.post("/carts/{uid}/retry", response_model=views.CartView)
def retry(request: Request, who: Submitter, uid: str) -> Response:
    """Let a cart that is in error go on; what has come already does not come again."""
    front = front_of(request)
    cart = front.carts.retry(who, uid)
    front.ring()
    return JSONResponse(shown_to(front, who).cart(cart, time.time()))


@router.get("/carts/{uid}/content", response_class=Response, responses=CONTENT_RESPONSES)
@router.head("/carts/{uid}/content", include_in_schema=False)
async def content(request: Request, who: Reader, uid: str, filename: FileName = "") -> Response:
    """Download the bundle of a cart that is ready; whole, or a range of it."""
    front = front_of(request)
    cart = await run_in_threadpool(front.carts.need, who, uid)
    need_ready(cart)
    return await send(front, Headers(scope=request.scope), cart, filename, head=request.method == "HEAD")


def _shown(front: Front, who: Caller, uid: str) -> Response:
    return JSONResponse(shown_to(front, who).cart(front.carts.need(who, uid), time.time()))


def _new(body: CartBody) -> NewCart:
    files = [
        CartFile(id=str(file.id), path=file.path, hash_type=file.hashtype or "", hash_value=file.hashsum or "")
        for file in body.fileids
    ]
    return NewCart(
        uid=body.uid or uuid.uuid4().hex,
        files=files,
        stored=body.bundle,
        format=body.format,
        layout=body.layout,
        manifest=body.manifest,
        archive=body.archive,
    )

"""The data cart's dialect: `/cart/UID`, and `/UID` where [front] carts_at_root says so."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from mistamover.errors import JobError, MistamoverError
from mistamover.front.auth import caller
from mistamover.front.cart_content import send
from mistamover.front.context import Front
from mistamover.front.errors import Refused, refused
from mistamover.front.legacy import cart_words as words
from mistamover.front.legacy.cart_bodies import new_cart
from mistamover.front.legacy.cart_words import Told
from mistamover.front.words import masked
from mistamover.jobs.cart_model import Cart, CartState, NewCart
from mistamover.jobs.model import Scope
from mistamover.jobs.requests import Caller
from mistamover.jobs.requests import Request as Asked

#: All that Starlette is to give us: what is not allowed is for us to say.
_VERBS = ["GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"]

#: What hides a slash, or a zero byte, from whoever looks at the URL.
_HIDDEN = re.compile(rb"%(2f|5c|00)", re.IGNORECASE)

Handler = Callable[[Front, Request], Awaitable[Response]]


def routes(front: Front) -> list[BaseRoute]:
    """Given the front, return the routes; those at the root take all that is left, and so come last."""
    found: list[BaseRoute] = []
    for top in ("/cart", *([""] if front.settings.front.carts_at_root else [])):
        for path, by_verb in (
            *(((top, _TOP),) if top else ()),
            (f"{top}/", _TOP),
            (f"{top}/{{uid}}", _CART),
            (f"{top}/{{uid}}/{{rest:path}}", _NOWHERE),
        ):
            found.append(Route(path, _answering(front, by_verb), methods=_VERBS))
    return found


# -- what is at a cart ----------------------------------------------------------------------------


async def _create(front: Front, request: Request) -> Response:
    who = caller(request, Scope.SUBMIT)
    if "content-length" not in request.headers and "transfer-encoding" not in request.headers:
        raise Told(411, words.NO_LENGTH)
    try:
        body = await request.body()
    except ClientDisconnect as error:
        raise Told(400, "the body was cut off") from error
    await run_in_threadpool(_created, front, who, _uid(request), body)
    return JSONResponse({"message": words.BEGUN}, 201)


def _created(front: Front, who: Caller, uid: str, body: bytes) -> None:
    new: NewCart = new_cart(uid, body)
    front.carts.create(Asked(who=who, origin="cart"), new)


async def _status(front: Front, request: Request) -> Response:
    who = caller(request, Scope.READ)
    cart = await run_in_threadpool(front.carts.newest, who, _uid(request))
    if cart is None:
        raise Told(404, words.no_cart(_uid(request)))
    message = await _public(front, who, cart.message)
    status = 500 if cart.state is CartState.ERROR else 204
    return _told_in_headers(status, words.state_word(cart, front.settings.front.cart_dialect), message)


async def _download(front: Front, request: Request) -> Response:
    who = caller(request, Scope.READ)
    cart = await run_in_threadpool(front.carts.newest, who, _uid(request))
    if cart is None:
        raise Told(404, words.GONE)
    if cart.state is not CartState.READY:
        return Response(words.NOT_READY, 202, {"X-Content-Type-Options": "nosniff"}, "text/plain")
    return await _bundle(front, request, cart)


async def _bundle(front: Front, request: Request, cart: Cart) -> Response:
    try:
        return await send(front, request.headers, cart, request.query_params.get("filename", ""))
    except Refused as error:
        if error.code == "unknown-cart":
            raise Told(404, words.GONE) from error
        if error.code == "bundle-broken":
            raise Told(404, words.NOT_FOUND) from error
        raise


async def _delete(front: Front, request: Request) -> Response:
    who = caller(request, Scope.SUBMIT)
    try:
        whole = await run_in_threadpool(front.carts.delete, who, _uid(request))
    except JobError as error:
        if error.code == "unknown-cart":
            raise Told(404, words.NOT_FOUND) from error
        raise
    # A worker that has it is told to end.
    front.ring()
    return JSONResponse({"message": words.DELETED if whole else words.NOT_REMOVED})


# -- what is above ----------------------------------------------------------------------------------


async def _running(front: Front, request: Request) -> Response:
    return JSONResponse({"message": words.RUNNING})


async def _no_uid(front: Front, request: Request) -> Response:
    # The older service fell over here, and a test of it is content with nothing else.
    fell = front.settings.front.cart_dialect == "cartd" and request.method in ("HEAD", "DELETE")
    if request.method == "HEAD" and not fell:
        return await _running(front, request)
    caller(request, Scope.SUBMIT)
    raise Told(500 if fell else 404, words.NO_UID)


async def _nothing(front: Front, request: Request) -> Response:
    raise Told(404, words.NOT_FOUND)


_CART: Mapping[str, Handler] = {"POST": _create, "HEAD": _status, "GET": _download, "DELETE": _delete}
_TOP: Mapping[str, Handler] = {"GET": _running, "HEAD": _no_uid, "POST": _no_uid, "DELETE": _no_uid}
_NOWHERE: Mapping[str, Handler] = dict.fromkeys(_VERBS, _nothing)


# -- how it is answered -----------------------------------------------------------------------------


def _answering(front: Front, by_verb: Mapping[str, Handler]) -> Callable[[Request], Awaitable[Response]]:
    """Given what handles which verb, return what answers in this dialect's words when that refuses."""

    async def answered(request: Request) -> Response:
        def failed(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
            if request.method == "HEAD":
                return _told_in_headers(status, CartState.ERROR.value, message, headers)
            return JSONResponse(words.error_body(status, message), status, dict(headers or {}))

        try:
            if _HIDDEN.search(request.scope.get("raw_path", b"")):
                return failed(400, "a slash or a zero byte is written with %")
            handler = by_verb.get(request.method)
            if handler is None:
                return failed(405, words.NOT_ALLOWED, {"Allow": ", ".join(by_verb)})
            return await handler(front, request)
        except Told as error:
            return failed(error.status, str(error))
        except Refused as error:
            return failed(error.status_code, error.detail, error.headers)
        except JobError as error:
            known = refused(error)
            message = await _public(front, request.state.caller, str(error))
            return failed(words.status_of(error.code), message, known.headers)
        except MistamoverError as error:
            told = refused(error)
            return failed(told.status_code, told.detail, told.headers)

    return answered


def _uid(request: Request) -> str:
    return str(request.path_params["uid"])


def _told_in_headers(status: int, state: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer to HEAD: without the two headers no client can do anything with it, whatever the status is."""
    answer = Response(status_code=status, headers={"Content-Type": "application/json", **(headers or {})})
    # As they are documented: who looks for them with grep minds capitals, which Starlette would make small.
    for name, value in ((words.STATUS, state), (words.MESSAGE, message)):
        answer.raw_headers.append((name.encode(), words.header_value(value).encode("latin-1")))
    return answer


async def _public(front: Front, who: Caller, text: str) -> str:
    """Given a text, return it without the directories of this host, which only an administrator sees."""
    if not text or who.scope.includes(Scope.ADMIN):
        return text
    return masked(text, await run_in_threadpool(front.known.instead))

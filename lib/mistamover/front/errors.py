"""What is refused, and how that is said: one exception for all dialects, and its JSON for the REST API.

Never shows a traceback; what nobody expected is logged, and the client gets a number to ask for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mistamover.errors import JobError, MistamoverError, StoreError
from mistamover.front.words import line

logger = logging.getLogger(__name__)

#: Seconds after which it is worth asking again, where nothing better is known.
_SOON = "5"

#: HTTP statuses of what the desk and the store refuse, by the error's code; any other one is `_OTHER`.
STATUS: Mapping[str, int] = {
    "forbidden": 403,
    "read-only": 403,
    "unknown-endpoint": 404,
    "unknown-object": 404,
    "unknown-job": 404,
    "unknown-cart": 404,
    "bundle-broken": 404,
    "endpoint-disabled": 409,
    "not-here": 409,
    "from-ini": 409,
    "no-archive": 409,
    "object-state": 409,
    "object-locked": 409,
    "place-taken": 409,
    "retry-refused": 409,
    "too-large": 413,
    "too-many-jobs": 429,
    "disabled": 503,
    "store": 503,
}
_OTHER = 422

_WORDS = {400: "bad-request", 401: "unauthorized", 403: "forbidden", 404: "not-found", 405: "method-not-allowed"}


class Refused(HTTPException):
    """A request that is answered with an error; `code` is a word for programs, `detail` a sentence for people."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, line(message), headers)
        self.code = code


def refused(error: MistamoverError) -> Refused:
    """Given an error of the desk or the store, return what the client is told."""
    if isinstance(error, StoreError):
        # Its words may name the database: they are for the log.
        logger.error("the store: %s", error, extra={"action": "front"})
        return Refused(503, "store", "the store of jobs cannot be used just now; try again", {"Retry-After": _SOON})
    code = error.code if isinstance(error, JobError) else "refused"
    status = STATUS.get(code, _OTHER)
    return Refused(status, code, str(error), {"Retry-After": _SOON} if status in (429, 503) else None)


def unexpected(error: BaseException) -> Refused:
    """Given an error that nobody expected, log it; return what the client is told."""
    number = os.urandom(4).hex()
    logger.error("error %s: %r", number, error, exc_info=error, extra={"action": "front"})
    return Refused(500, "internal", f"something went wrong here; the log tells more about error {number}")


def body(code: str, message: str) -> dict[str, dict[str, str]]:
    """Given a word and a sentence, return the one shape that errors have."""
    return {"error": {"code": code, "message": line(message)}}


def response(error: HTTPException) -> JSONResponse:
    """Given what is refused, return the answer."""
    code = error.code if isinstance(error, Refused) else _WORDS.get(error.status_code, "refused")
    return JSONResponse(body(code, str(error.detail)), error.status_code, dict(error.headers or {}))


async def on_refusal(request: Request, error: Exception) -> Response:
    """Handle an HTTPException of any route."""
    assert isinstance(error, HTTPException)
    return response(error)


async def on_ours(request: Request, error: Exception) -> Response:
    """Handle an error of the desk or the store that a route let through."""
    assert isinstance(error, MistamoverError)
    return response(refused(error))


async def on_unexpected(request: Request, error: Exception) -> Response:
    """Handle what nobody expected in an application that is mounted, which would answer in a way of its own."""
    request.state.told = True
    return response(unexpected(error))


class Guard:
    """Stands before everything else: what nobody expected is logged, and answered without a word of what it was."""

    def __init__(self, app: ASGIApp) -> None:
        """Given the application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope.get("state", {}).get("told"):
                return
            if begun or scope["type"] != "http":
                # Half an answer must not look like a whole one: the server logs this, and cuts the connection.
                raise
            await response(unexpected(error))(scope, receive, send)

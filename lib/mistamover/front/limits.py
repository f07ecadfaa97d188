"""How much one client may ask: bytes of a request, time to send it, requests in a second.

Middleware for every dialect; nothing here knows what a request means.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mistamover.config.serving import FrontSettings
from mistamover.front.auth import ANONYMOUS, peer_of
from mistamover.front.errors import Refused, response
from mistamover.jobs.submission import Caller

#: Seconds that the next piece of a request's body may take.
_NEXT_PIECE = 60.0

#: Clients whose rate is remembered.
_MOST_CLIENTS = 10_000

IsContent = Callable[[str, str], bool]
"""Given method and path of a request, tells whether its body is a file's content, which may be large."""


class BodyLimit:
    """Answers 413 to a body that is too long, before it is read, or as soon as it is; 408 when it does not come."""

    def __init__(self, app: ASGIApp, *, settings: FrontSettings, is_content: IsContent) -> None:
        """Given the application, the settings, and what may be long."""
        self._app = app
        self._settings = settings
        self._is_content = is_content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        content = self._is_content(scope["method"], scope["path"])
        most = self._settings.max_content if content else self._settings.max_request
        if most and _announced(scope) > most:
            await response(_too_large(most))(scope, receive, send)
            return
        await self._app(scope, _Counted(receive, most), send)


class _Counted:
    """The body of a request, counted."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._got = 0
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            # Nothing more comes but the news that the client has gone, which may take for ever.
            return await self._receive()
        try:
            async with asyncio.timeout(_NEXT_PIECE):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, "too-slow", f"nothing of the request came for {_NEXT_PIECE:.0f} seconds") from None
        if message["type"] == "http.request":
            self._got += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
            if self._most and self._got > self._most:
                raise _too_large(self._most)
        return message


class RateLimit:
    """Answers 429 to a client that asks more often than it may; the same token is the same client."""

    def __init__(self, app: ASGIApp, *, settings: FrontSettings, clock: Callable[[], float] = time.monotonic) -> None:
        """Given the application, the settings and a clock."""
        self._app = app
        self._rate = settings.requests_per_second
        self._behind_proxy = settings.behind_proxy
        self._buckets = Buckets(self._rate)
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http" and self._rate > 0:
            pause = self._buckets.take(self._client(scope), self._clock())
            if pause:
                seconds = str(math.ceil(pause))
                words = f"more than {self._rate:g} requests in a second: try again in {seconds} s"
                error = Refused(429, "too-many-requests", words, {"Retry-After": seconds})
                await response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _client(self, scope: Scope) -> str:
        who: Caller | None = scope.get("state", {}).get("caller")
        if who is not None and who.name != ANONYMOUS:
            return f"token {who.name}"
        if self._behind_proxy:
            # The last one was written by our own proxy; those before it by anybody.
            forwarded = Headers(scope=scope).get("x-forwarded-for", "")
            return forwarded.rpartition(",")[2].strip()[:64] or peer_of(scope)
        return peer_of(scope)


class Buckets:
    """A token bucket for each client; pure but for what it remembers."""

    def __init__(self, rate: float) -> None:
        """Given how many a second there may be; twice that may come at once."""
        self._rate = rate
        self._most = max(1.0, 2 * rate)
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, client: str, now: float) -> float:
        """Given a client and the time, return 0 if he may go on, otherwise the seconds until he may."""
        left, since = self._left.pop(client, (self._most, now))
        left = min(self._most, left + (now - since) * self._rate)
        if len(self._left) >= _MOST_CLIENTS:
            # The one who was silent for longest has a full bucket again, or nearly.
            del self._left[next(iter(self._left))]
        may = left >= 1
        self._left[client] = (left - 1 if may else left, now)
        return 0.0 if may else (1 - left) / self._rate


def _announced(scope: Scope) -> int:
    written = Headers(scope=scope).get("content-length", "")
    return int(written) if written.isascii() and written.isdigit() and len(written) < 20 else 0


def _too_large(most: int) -> Refused:
    return Refused(413, "too-large", f"the body of this request may have {most} bytes", {"Connection": "close"})

"""Who asks, and what he may do: a bearer token, HTTP basic with the token's name, or nobody known.

`Identify` finds it out for every request of every dialect before anything of its body is read; a route then says
`caller(request, Scope.SUBMIT)`.  Imports no FastAPI: the dialects are plain Starlette.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import time
from collections.abc import Mapping

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from mistamover.config.serving import FrontSettings
from mistamover.errors import StoreError
from mistamover.front.errors import Refused, refused, response
from mistamover.jobs.model import Job, Scope, Token
from mistamover.jobs.store.store import Store
from mistamover.jobs.submission import Caller

ANONYMOUS = "anonymous"

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="mistamover", Basic realm="mistamover", charset="UTF-8"'}

#: Paths that say nothing of anybody's data, and can be read by all who reach us: is it alive, how is it used.
OPEN = frozenset(
    (
        "/api/v1/health", "/api/v1/openapi.json", "/api/v1/docs", "/DM/health", "/DM/health/", "/MSM/health",
        "/MSM/health/", "/", "/cart", "/cart/",
    )
)  # fmt: skip
_OPEN_BELOW = "/api/v1/docs/"

#: Headers that tell of a proxy: a request that has one did not begin at this host, whatever its peer is.
_PROXIED = frozenset(("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"))
_FORWARDED = "x-forwarded"

#: Seconds that a token which was good counts as good without asking the store, and how many are remembered.
_REMEMBERED_FOR = 1.0
_REMEMBERED = 1_024

#: Characters of a header that can hold a token.
_LONGEST = 1_024


class Identify:
    """Puts a Caller into each request; answers 401 to wrong credentials, and to none where some are needed."""

    def __init__(self, app: ASGIApp, *, settings: FrontSettings, store: Store) -> None:
        """Given the application, the settings and the store."""
        self._app = app
        self._settings = settings
        self._store = store
        self._good: dict[bytes, tuple[float, Token]] = {}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            who = await self._who(scope)
            if who.scope is Scope.NONE and not _open(scope["path"]):
                raise unauthorized("say who you are: with a token (Authorization: Bearer mm_...)")
        except Refused as error:
            await response(error)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = who
        await self._app(scope, receive, send)

    async def _who(self, scope: AsgiScope) -> Caller:
        headers = Headers(scope=scope)
        written = headers.get("authorization")
        if written is None:
            return Caller(name=ANONYMOUS, scope=anonymous_scope(self._settings, peer_of(scope), headers))
        name, secret = credentials(written)
        token = await self._verified(secret)
        if token is None or (name is not None and name != token.name):
            raise unauthorized("this token is not known, was revoked, or has expired")
        return Caller(name=token.name, scope=token.scope)

    async def _verified(self, secret: str) -> Token | None:
        digest = hashlib.sha256(secret.encode("utf-8", "replace")).digest()
        now = time.monotonic()
        until, known = self._good.get(digest, (0.0, None))
        if known is not None and now < until:
            return known
        try:
            token = await run_in_threadpool(self._store.tokens.verify, secret)
        except StoreError as error:
            raise refused(error) from error
        if len(self._good) >= _REMEMBERED:
            self._good.clear()
        self._good.pop(digest, None)
        if token is not None:
            self._good[digest] = (now + _REMEMBERED_FOR, token)
        return token


def caller(request: Request, needed: Scope) -> Caller:
    """Given a request and the scope that its route needs, return who asks. Raise Refused (401, 403)."""
    who: Caller = request.state.caller
    if who.scope.includes(needed):
        return who
    if who.name == ANONYMOUS:
        raise unauthorized(f"this needs a token with the scope {needed}")
    raise Refused(403, "forbidden", f"the token {who.name} has the scope {who.scope}; this needs {needed}")


def may_change(who: Caller, job: Job) -> None:
    """Given who asks and a job that he wants to change, return if it is his, or he is an administrator.

    Raise Refused (403).
    """
    if not (who.scope.includes(Scope.ADMIN) or (who.scope.includes(Scope.SUBMIT) and who.name == job.owner)):
        raise Refused(403, "forbidden", "this job belongs to another owner: only he or an administrator changes it")


def unauthorized(message: str) -> Refused:
    """Given what is missing, return the refusal that asks for credentials."""
    return Refused(401, "unauthorized", message, _CHALLENGE)


def credentials(header: str) -> tuple[str | None, str]:
    """Given an Authorization header, return the name (None for a bearer) and the secret. Raise Refused (401)."""
    scheme, _, rest = header.partition(" ")
    rest = rest.strip()
    if len(rest) <= _LONGEST:
        if scheme.lower() == "bearer" and rest:
            return None, rest
        if scheme.lower() == "basic":
            try:
                user, colon, secret = base64.b64decode(rest, validate=True).decode().partition(":")
            except (binascii.Error, ValueError):
                colon = ""
            if colon:
                return user, secret
    raise unauthorized("the header Authorization is `Bearer TOKEN`, or `Basic` with the token's name and the token")


def anonymous_scope(settings: FrontSettings, peer: str, headers: Mapping[str, str]) -> Scope:
    """Given the settings, the peer's address and the request's headers, return what a client without a token may do.

    That is something only for a client on this host itself: one that came through a proxy did not begin here.
    """
    if settings.behind_proxy or not is_loopback(peer) or any(map(_tells_of_a_proxy, headers)):
        return Scope.NONE
    return Scope(settings.anonymous)


def peer_of(scope: AsgiScope) -> str:
    """Given a connection, return the address of its other end; empty if that is not known."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def is_loopback(address: str) -> bool:
    """Given an address, tell whether it is one of this host alone."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def _tells_of_a_proxy(name: str) -> bool:
    return name.lower() in _PROXIED or name.lower().startswith(_FORWARDED)


def _open(path: str) -> bool:
    return path in OPEN or path.startswith(_OPEN_BELOW)

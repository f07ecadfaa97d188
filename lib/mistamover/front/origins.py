"""Browsers: no page of another site may use this one, though it runs at an address that every browser here can reach.

Two checks. On loopback the name in `Host` has to be one of this host, or a site could point its own name at us and be
the same origin (DNS rebinding). And what changes something is refused when a page of another site sends it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mistamover.config.serving import FrontSettings
from mistamover.front.auth import is_loopback
from mistamover.front.errors import Refused, response

_LOCAL = frozenset(("localhost", "127.0.0.1", "::1"))
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class Origins:
    """Refuses requests that a page of another site has a browser send."""

    def __init__(self, app: ASGIApp, *, settings: FrontSettings) -> None:
        """Given the application and the settings."""
        self._app = app
        self._names = _LOCAL | {settings.host.lower()}
        # Behind a proxy the name is the proxy's, and nobody is served without a token.
        self._only_ours = not settings.behind_proxy and (settings.host == "localhost" or is_loopback(settings.host))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            error = self._why_not(scope["method"], Headers(scope=scope))
            if error is not None:
                await response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _why_not(self, method: str, headers: Headers) -> Refused | None:
        host = headers.get("host", "")
        # Without such a header comes HTTP/1.0, as old programs speak it, and never a browser.
        if self._only_ours and "host" in headers and host_name(host) not in self._names:
            return Refused(421, "wrong-host", "this host is not called that: use localhost, or the configured host")
        if method not in _SAFE and crosses(headers.get("sec-fetch-site"), headers.get("origin"), host):
            return Refused(403, "cross-site", "this was sent by a page of another site")
        return None


def host_name(host: str) -> str:
    """Given a Host header, return the name in it, without a port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def crosses(fetch_site: str | None, origin: str | None, host: str) -> bool:
    """Given what a browser says of a request, tell whether a page of another site sent it; programs say nothing.

    What it says of the site counts: behind a proxy that writes another Host the origin would be wrong.
    """
    if fetch_site is not None:
        return fetch_site not in ("same-origin", "none")
    return origin is not None and origin.partition("://")[2].lower() != host.lower()

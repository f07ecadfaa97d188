"""Posting to a URL that a client named: no redirects, and no way into networks that the client cannot reach itself.

What is allowed to be connected to is `outside`'s business.
"""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from urllib.parse import SplitResult, urlsplit

from mistamover import __version__
from mistamover.alerts.webhook import signature
from mistamover.config.serving import JobSettings
from mistamover.errors import AlertError, JobRefused
from mistamover.files.names import display
from mistamover.jobs.outside import Server, connection

_GONE = 410


def post(url: str, identity: str, body: bytes, now: float, settings: JobSettings) -> None:
    """Given a URL, a message with its id, the time, and the settings, post it.

    Raise AlertError if it is not taken, SecretError if it cannot be signed, JobRefused if it never will be.
    """
    parts = _checked(url)
    where = parts.netloc.rpartition("@")[2]
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"MiStaMover/{__version__}",
        "X-MiStaMover-Id": identity,
        "X-MiStaMover-Timestamp": f"{now:.3f}",
        **signature(settings.engine.callback_secret_file, body),
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    server = Server(scheme=parts.scheme, host=parts.hostname or "", port=parts.port)
    context = ssl.create_default_context(cafile=settings.engine.callback_ca_file) if server.scheme == "https" else None
    try:
        with closing(connection(server, private=settings.front.allow_private_addresses, context=context)) as line:
            line.request("POST", target, body, headers)
            answer = line.getresponse()
            status, words = answer.status, display(answer.reason.encode("utf-8", "surrogateescape")[:100])
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AlertError(f"{where}: {said or type(error).__name__}") from error
    if status == _GONE:
        raise JobRefused("gone", f"{where} answers {status}: nobody wants it there any more")
    if not 200 <= status < 300:
        raise AlertError(f"{where} answers {status} {words}")


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        raise JobRefused("bad-url", "the callback is not a URL that can be posted to")
    return parts

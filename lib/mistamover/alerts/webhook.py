"""Posting messages to a program's URL: JSON, signed, no redirects, everything with a time limit."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mistamover import __version__
from mistamover.alerts.poster import Event
from mistamover.config.settings import NotifySettings
from mistamover.errors import AlertError, SecretError
from mistamover.files.names import display
from mistamover.files.private import read_private

#: Seconds that the receiver gets for each answer.
TIMEOUT = 20.0


class Webhook:
    """The program at one URL."""

    def __init__(self, settings: NotifySettings, *, timeout: float = TIMEOUT) -> None:
        """Given where to post, and the seconds for each answer, have posted nothing yet."""
        self._settings = settings
        self._timeout = timeout

    @property
    def where(self) -> str:
        """Where the events go, for people."""
        return self._settings.url

    def post(self, events: Sequence[Event], now: float) -> None:
        """Given some events and the time, post them as one message.

        Raise AlertError if it is not taken with a status from 200 to 299, SecretError if it cannot be signed.
        """
        _post(self._settings, events, now, self._timeout)

    def rest(self) -> None:
        """Each message has a connection of its own: nothing is kept."""


def _post(settings: NotifySettings, events: Sequence[Event], now: float, timeout: float) -> None:
    import http.client

    identity = hashlib.blake2b("\n".join(str(event["id"]) for event in events).encode(), digest_size=12).hexdigest()
    body = json.dumps({"id": identity, "sent": round(now, 3), "events": list(events)}).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"MiStaMover/{__version__}",
        "X-MiStaMover-Id": identity,
        "X-MiStaMover-Timestamp": f"{now:.3f}",
        **signature(settings.secret_file, body),
    }
    parts = urlsplit(settings.url)
    where = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    connection = _connection(settings, timeout)
    try:
        connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body, headers)
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise AlertError(f"{where}: {words or type(error).__name__}") from error
    finally:
        connection.close()
    if 300 <= answer.status < 400:
        raise AlertError(f"{where} answers {answer.status}: redirects are not followed, mend [notify] url")
    if not 200 <= answer.status < 300:
        raise AlertError(f"{where} answers {answer.status} {display(answer.reason.encode()[:100])}")


def signature(secret_file: Path | None, body: bytes) -> dict[str, str]:
    """Given where the secret is, and a message, return the header that proves whose it is. Raise SecretError."""
    if secret_file is None:
        return {}
    lines = read_private(secret_file)
    if not lines or not lines[0]:
        raise SecretError(f"{secret_file} is empty: its first line must be the secret")
    return {"X-MiStaMover-Signature": "sha256=" + hmac.new(lines[0].encode(), body, hashlib.sha256).hexdigest()}


def _connection(settings: NotifySettings, timeout: float) -> Any:
    import http.client
    import ssl

    parts = urlsplit(settings.url)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=settings.ca_file)
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)

"""The client of the REST API that the command `job` uses: the standard library, one request at a time."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import ipaddress
import json
import os
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mistamover.cli.common import printable
from mistamover.errors import MistamoverError, UsageError

URL_VARIABLE = "MISTAMOVER_URL"
TOKEN_VARIABLE = "MISTAMOVER_TOKEN_FILE"  # noqa: S105 (the name of a variable)

_API = "/api/v1"

#: Seconds for an answer, beyond those that the front was asked to wait, and for connecting again.
_PATIENCE = 60.0
_PAUSES = (0.5, 1.0, 2.0)


class ServiceError(MistamoverError):
    """The front did not do what it was asked for, or does not answer."""


class ServiceAway(ServiceError):
    """Nobody answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A front, and who asks it."""

    url: str
    token: str = ""
    ca_file: Path | None = None

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
    ) -> dict[str, Any]:
        """Given a method, a path below the API and what goes with it, return the answer. Raise ServiceError.

        A request that may be sent twice is sent again when nobody answers: each but a POST without a key.
        """
        words = f"?{urlencode(query)}" if query else ""
        content = None if body is None else json.dumps(body).encode()
        sent = {"Accept": "application/json", **(headers or {})}
        if content is not None:
            sent["Content-Type"] = "application/json"
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        safe = method != "POST" or "Idempotency-Key" in sent
        for pause in (*_PAUSES, None) if safe else (None,):
            try:
                return self._once(method, f"{_API}{path}{words}", content, sent, wait + _PATIENCE)
            except ServiceAway:
                if pause is None:
                    raise
                time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def opened(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, *, accepted: Collection[int] = ()
    ) -> Iterator[http.client.HTTPResponse]:
        """Given a method and a path below the API, give the answer, whose content is still to be read.

        Raise ServiceError where it is an error, unless its status is accepted, and ServiceAway where nobody answers.
        """
        sent = dict(headers or {})
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        with contextlib.closing(self._connection(_PATIENCE)) as connection:
            answer = self._answer(connection, method, f"{_API}{path}", None, sent)
            if answer.status >= 400 and answer.status not in accepted:
                if method == "HEAD":
                    # Its answer has no words; that to the same question does.
                    self._once("GET", f"{_API}{path}", None, sent, _PATIENCE)
                    raise ServiceAway(f"{self.url} answers one thing, and then another")
                self._understood(answer.status, answer.read(1 << 16))
            yield answer

    def _once(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> dict[str, Any]:
        with contextlib.closing(self._connection(timeout)) as connection:
            answer = self._answer(connection, method, path, content, headers)
            with self._away():
                text = answer.read()
        return self._understood(answer.status, text)

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        with self._away():
            connection.request(method, urlsplit(self.url).path.rstrip("/") + path, content, dict(headers))
            return connection.getresponse()

    @contextlib.contextmanager
    def _away(self) -> Iterator[None]:
        """Turn what goes wrong with a connection into our errors."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise ServiceError(f"{self.url} cannot be trusted: {error.verify_message}; see --ca-file") from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            words = f"{self.url} does not answer ({why}): does the front run, and is this its URL?"
            raise ServiceAway(words) from error

    def _understood(self, status: int, text: bytes) -> dict[str, Any]:
        try:
            value = json.loads(text) if text else {}
        except ValueError:
            value = None
        if not isinstance(value, dict) or (status >= 400 and not isinstance(value.get("error"), dict)):
            raise ServiceError(f"{self.url} answers with status {status}, and is no front of ours")
        if status < 400:
            return value
        message = printable(str(value["error"].get("message", "")))
        hint = f"; name a file with a token by --token-file, or in {TOKEN_VARIABLE}" if status == 401 else ""
        raise ServiceError(f"{message}{hint}")

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=timeout)
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise UsageError(f"{self.ca_file} holds no certificates that can be used: {error}") from error
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout, context=context)


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """Given a verb's parser, add the options that say whom to ask, and how to print."""
    parser.add_argument("-c", "--config", metavar="GLOBAL_INI", type=Path, help="take the URL from this configuration")
    parser.add_argument("--url", help=f"of the front (default: ${URL_VARIABLE}, else [front] of the configuration)")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        type=Path,
        help=f"a private file with a token on its first line (default: ${TOKEN_VARIABLE}, else none is shown)",
    )
    parser.add_argument("--ca-file", metavar="FILE", type=Path, help="certificates to trust instead of the system's")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def client_of(arguments: argparse.Namespace) -> Client:
    """Given the parsed command line, return whom it means. Raise UsageError, ConfigError, SecretError."""
    url = arguments.url or os.environ.get(URL_VARIABLE) or _configured(arguments)
    parts = _parts(url)
    file = arguments.token_file or os.environ.get(TOKEN_VARIABLE)
    token = _token(Path(file)) if file else ""
    if token and parts.scheme == "http" and not _is_here(parts.hostname or ""):
        raise UsageError(f"{printable(url)} is not encrypted: the token would be sent in the clear; use https://")
    return Client(url=url.rstrip("/"), token=token, ca_file=arguments.ca_file)


def job_path(identifier: str) -> str:
    """Given a job's id as written, return the path of it."""
    return f"/jobs/{quote(identifier, safe='')}"


def _parts(url: str) -> Any:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(f"{printable(url)} is no URL of a front, such as https://data.example.org:6543")
    return parts


def _configured(arguments: argparse.Namespace) -> str:
    from mistamover.cli.job_settings import load_job_settings

    jobs = load_job_settings(arguments).jobs
    assert jobs is not None
    front = jobs.front
    # One that listens everywhere is here as well.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(front.host, front.host)  # noqa: S104 (nothing is bound to it)
    shown = f"[{host}]" if ":" in host else host
    return f"http{'s' if front.certificate else ''}://{shown}:{front.port}"


def _token(path: Path) -> str:
    from mistamover.files.private import read_private

    lines = read_private(path)
    if not lines or not lines[0].strip():
        raise UsageError(f"{path} holds no token on its first line")
    token = lines[0].strip()
    if not token.isascii() or not token.isprintable():
        raise UsageError(f"the first line of {path} is no token: it has other characters than ASCII")
    return token


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

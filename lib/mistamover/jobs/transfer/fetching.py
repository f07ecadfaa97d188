"""Content from the world outside, by http and https: redirects are judged like URLs, and a login stays with its server.

A download that breaks off goes on where it was, as long as the server says that it is still the same; what comes must
be as long as was said.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urljoin, urlsplit

from mistamover import __version__
from mistamover.config import endpoint_urls
from mistamover.errors import JobRefused
from mistamover.jobs import paths
from mistamover.jobs.outside import Server, connection
from mistamover.jobs.sources import host_allowed
from mistamover.jobs.store.rows import host_key
from mistamover.jobs.transfer.faults import Trouble, one_line
from mistamover.jobs.transfer.origins import Stamp
from mistamover.model import FaultClass

_CHUNK = 256 << 10

#: Bytes of an answer that only says what has become of a request.
_SMALL = 64 << 10

#: Redirects that are followed for one file, and times that one download may go on after it broke off.
_REDIRECTS = 10
_RESUMPTIONS = 5

#: Answers that may be another one the next time.
_PASSING = frozenset((408, 425, 429))

_SAFE_IN_URL = "%/:?#[]@!$&'()*+,;=~-._|"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may be fetched."""

    schemes: tuple[str, ...]
    hosts: tuple[str, ...] = ()
    """Patterns; empty: all."""
    private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What is sent along to the server of the URL, and to no other one."""

    user: str = ""
    password: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def fields(self) -> dict[str, str]:
        """Return the headers."""
        fields = dict(self.headers)
        if self.user or self.password:
            text = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            fields.setdefault("Authorization", f"Basic {text}")
        return fields


class Answered(Trouble):
    """A server has answered, and refuses."""

    def __init__(self, status: int, reason: str, url: str) -> None:
        """Given its status, its words, and the URL, be raised."""
        self.status = status
        words = f"{_host(url)}: the server answers {status} {one_line(reason)[:80]}".rstrip()
        passing = status >= 500 or status in _PASSING
        super().__init__(FaultClass.SOURCE, words, final=not passing)


class WebOrigin:
    """A file that a web server gives; see `origins.Origin`."""

    handle: int | None = None
    mode: int | None = None
    stamp: Stamp | None = None

    def __init__(self, url: str, rules: Rules, login: Login, context: ssl.SSLContext | None = None) -> None:
        """Given a URL, what may be fetched and the login, ask for it. Raise Trouble."""
        self._url, self._rules, self._login, self._context = url, rules, login, context
        self._connection, self._answer, self._final = self._ask(0)
        try:
            if self._answer.status not in (200, 203):
                raise Answered(self._answer.status, self._answer.reason, url)
            self.size: int | None = _length(self._answer)
            self.mtime_ns = _modified(self._answer)
            self.name = _name(self._answer, self._final)
        except BaseException:
            self.close()
            raise

    def pieces(self) -> Iterator[bytes]:
        """See `Origin.pieces`. Raise Trouble."""
        position = 0
        resumptions = 0
        while True:
            try:
                piece = self._answer.read1(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                trouble = _trouble(error, self._url)
            else:
                if piece:
                    position += len(piece)
                    yield piece
                    continue
                if self.size is None or position >= self.size:
                    return
                words = f"{_host(self._url)}: the download ended after {position} of {self.size} bytes"
                trouble = Trouble(FaultClass.LINK, words, endpoint=host_key(self._url))
            resumptions += 1
            if resumptions > _RESUMPTIONS or not self._go_on_from(position):
                raise trouble

    def check(self) -> None:
        """See `Origin.check`: what was promised has come, and more cannot be known."""

    def close(self) -> None:
        """End the connection, and the answer, which has it alone where the server says that it ends with that."""
        self._answer.close()
        self._connection.close()

    # -- inside -------------------------------------------------------------------------------

    def _go_on_from(self, position: int) -> bool:
        """Ask for the rest; tell whether that is what comes now."""
        mark = self._mark()
        if not mark or self.size is None:
            return False
        self.close()
        # In what follows it is asked for the same file only; otherwise the server sends the whole, which is no rest.
        self._connection, self._answer, _ = self._ask(position, mark)
        said = f"bytes {position}-{self.size - 1}/{self.size}"
        return self._answer.status == 206 and self._answer.getheader("Content-Range", "").strip() == said

    def _mark(self) -> str:
        """Return by what the server would know that the file is the same; empty if it cannot go on."""
        if self._answer.getheader("Accept-Ranges", "").lower() == "none":
            return ""
        tag = self._answer.getheader("ETag", "")
        if tag and not tag.startswith("W/"):
            return tag
        return self._answer.getheader("Last-Modified", "")

    def _ask(self, position: int, mark: str = "") -> tuple[http.client.HTTPConnection, http.client.HTTPResponse, str]:
        """Ask for the file from a position on, and follow redirects; return what answers in the end, and its URL."""
        url = self._url
        first = server_of(url)
        for _ in range(_REDIRECTS + 1):
            server = server_of(url)
            self._judge(url, server)
            fields = {"User-Agent": f"MiStaMover/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
            if position:
                fields |= {"Range": f"bytes={position}-", "If-Range": mark}
            if server.origin == first.origin:
                fields |= self._login.fields()
            made, answer = _asked(url, server, fields, private=self._rules.private, context=self._context)
            if answer.status not in (301, 302, 303, 307, 308):
                return made, answer, url
            made.close()
            place = answer.getheader("Location")
            if not place:
                raise Answered(answer.status, "a redirect to nowhere", url)
            url = endpoint_urls.without_login(urljoin(url, place))
        raise Trouble(FaultClass.REFUSED, f"{_host(self._url)}: more than {_REDIRECTS} redirects", final=True)

    def _judge(self, url: str, server: Server) -> None:
        if server.scheme not in self._rules.schemes:
            raise Trouble(
                FaultClass.REFUSED, f"a redirect leads to {server.scheme}://, which is not allowed", final=True
            )
        if not host_allowed(server.host, self._rules.hosts):
            raise Trouble(FaultClass.REFUSED, f"a redirect leads to {server.host}, which is not allowed", final=True)


def server_of(url: str) -> Server:
    """Given a URL, return the server of it. Raise Trouble if it is not one of http or https."""
    try:
        parts = endpoint_urls.split(url)
    except ValueError as error:
        raise Trouble(FaultClass.REFUSED, f"a URL cannot be taken: {error}", final=True) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Trouble(FaultClass.REFUSED, f"{parts.scheme}:// cannot be fetched", final=True)
    return Server(scheme=parts.scheme, host=parts.hostname, port=parts.port)


def post(
    url: str,
    body: bytes,
    fields: Mapping[str, str],
    rules: Rules,
    *,
    longest: int,
    go_on: Callable[[], None],
    context: ssl.SSLContext | None = None,
) -> bytes:
    """Given a URL, a body and headers, post it and return the answer, of at most so many bytes. Raise Trouble."""
    server = server_of(url)
    if server.scheme not in rules.schemes or not host_allowed(server.host, rules.hosts):
        raise Trouble(FaultClass.REFUSED, f"{server.scheme}://{server.host} is not allowed", final=True)
    headers = {"User-Agent": f"MiStaMover/{__version__}", **fields}
    made, answer = _asked(url, server, headers, private=rules.private, context=context, method="POST", body=body)
    with contextlib.closing(made):
        if answer.status != 200:
            raise Answered(answer.status, answer.reason, url)
        found = b""
        try:
            while piece := answer.read1(_CHUNK):
                found += piece
                go_on()
                if len(found) > longest:
                    raise Trouble(FaultClass.SOURCE, f"{_host(url)}: the answer has more than {longest} bytes")
        except (OSError, http.client.HTTPException) as error:
            raise _trouble(error, url) from error
    return found


def ask(
    method: str,
    url: str,
    server: Server,
    fields: Mapping[str, str],
    *,
    context: ssl.SSLContext | None = None,
    on: http.client.HTTPConnection | None = None,
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Given a method that sends nothing, a URL of an endpoint's server, headers, and a connection that stands, ask.

    Return the connection, and the answer, of which as much was read as is small.  Raise Trouble; on a connection that
    was given OSError and HTTPException instead, and it is closed.
    """
    headers = {"User-Agent": f"MiStaMover/{__version__}", "Accept": "*/*", **fields}
    body = b"" if method == "POST" else None
    if on is None:
        made, answer = _asked(url, server, headers, private=True, context=context, method=method, body=body)
    else:
        made = on
        try:
            made.request(method, _target(url), body, headers)
            answer = made.getresponse()
        except BaseException:
            made.close()
            raise
    try:
        answer.read(_SMALL)
        if answer.length == 0 and not answer.isclosed():
            answer.close()
    except (OSError, http.client.HTTPException) as error:
        made.close()
        raise _trouble(error, url) from error
    return made, answer


def _asked(
    url: str,
    server: Server,
    fields: Mapping[str, str],
    *,
    private: bool,
    context: ssl.SSLContext | None,
    method: str = "GET",
    body: bytes | None = None,
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    made: http.client.HTTPConnection | None = None
    try:
        made = connection(server, private=private, context=context)
        made.request(method, _target(url), body, dict(fields))
        return made, made.getresponse()
    except JobRefused as error:
        raise Trouble(FaultClass.REFUSED, str(error), final=True) from None
    except ssl.SSLCertVerificationError as error:
        words = f"{_host(url)}: its certificate is not to be trusted: {error.verify_message}"
        raise Trouble(FaultClass.REFUSED, words, final=True) from error
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        if made is not None:
            made.close()
        raise _trouble(error, url) from error


def _target(url: str) -> str:
    parts = urlsplit(quote(url, safe=_SAFE_IN_URL))
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _trouble(error: Exception, url: str) -> Trouble:
    words = str(error) or type(error).__name__
    if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
        # There is no such host: mostly a mistake, and nothing that others should wait for.
        return Trouble(FaultClass.SOURCE, f"{_host(url)}: {words}")
    return Trouble(FaultClass.LINK, f"{_host(url)}: {words}", endpoint=host_key(url))


def _host(url: str) -> str:
    return urlsplit(url).hostname or "the server"


def _length(answer: http.client.HTTPResponse) -> int | None:
    written = answer.getheader("Content-Length", "")
    chunked = "chunked" in answer.getheader("Transfer-Encoding", "").lower()
    return int(written) if written.isascii() and written.isdigit() and not chunked else None


def _modified(answer: http.client.HTTPResponse) -> int:
    try:
        moment = email.utils.parsedate_to_datetime(answer.getheader("Last-Modified", ""))
        return max(0, int(moment.timestamp())) * 10**9
    except (ValueError, TypeError, OverflowError):
        return 0


def _name(answer: http.client.HTTPResponse, url: str) -> str:
    """Return what the file is called: by its server, or by the end of its URL; empty if by neither."""
    written = answer.getheader("Content-Disposition", "")
    extended = re.search(r"filename\*\s*=\s*(utf-8|iso-8859-1)'[^']*'([^;\s]+)", written, re.IGNORECASE)
    plain = re.search(r'filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))', written, re.IGNORECASE)
    text = ""
    if extended is not None:
        text = unquote(extended[2], encoding=extended[1], errors="replace")
    elif plain is not None:
        text = re.sub(r"\\(.)", r"\1", plain[1]) if plain[1] is not None else plain[2]
        with contextlib.suppress(UnicodeError):
            # What is not ASCII was read as Latin-1, and mostly means UTF-8.
            text = text.encode("latin-1").decode()
    return paths.file_name(text) or paths.file_name(unquote(urlsplit(url).path.rpartition("/")[2], errors="replace"))

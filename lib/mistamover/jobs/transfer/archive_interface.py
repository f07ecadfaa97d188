"""A Pacifica Archive Interface: files that may have to come from tape, had by their ids over HTTP.

POST asks it to have a file on disk, HEAD tells whether it has, GET gives the content.  What its headers leave out is
taken in the way that lets a client go on.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import math
import ssl
import threading
from collections.abc import Iterator, Mapping

from mistamover.config import endpoint_urls
from mistamover.config.serving import EndpointSettings
from mistamover.jobs.transfer.faults import Trouble
from mistamover.jobs.transfer.fetching import Answered, Login, Rules, WebOrigin, ask, server_of
from mistamover.jobs.transfer.origins import Stamp
from mistamover.jobs.transfer.staging import Seen
from mistamover.model import FaultClass

#: The longest size that is believed.
_LARGEST = 2**63 - 1

#: Answers to POST that only mean that it stages nothing: whether it has the file is for HEAD to say.
_NOT_STAGED = frozenset((404, 405, 501))


class ArchiveInterface:
    """One archive; used by several threads. Every method raises Trouble."""

    def __init__(self, endpoint: EndpointSettings, login: Login, context: ssl.SSLContext | None = None) -> None:
        """Given its endpoint, the login, and by which authorities it is trusted, connect to nothing yet."""
        self._endpoint = endpoint
        self._login = login
        self._context = context
        scheme = endpoint.scheme.removeprefix("pacifica+")
        # Who wrote the endpoint down knows that it is in a private network.
        self._rules = Rules(schemes=(scheme, "https"), hosts=(endpoint.host,), private=True)
        self._server = server_of(_web(endpoint.url))
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """End the connections that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def greet(self) -> None:
        """Ask whether it is there."""
        status, reason, _ = self._ask("GET", self._endpoint.url)
        if not 200 <= status < 300:
            raise Answered(status, reason, _web(self._endpoint.url))

    def stage(self, url: str) -> None:
        """Given the URL of a file, ask for it to be had on disk."""
        status, reason, _ = self._ask("POST", url)
        if not 200 <= status < 300 and status not in _NOT_STAGED:
            raise Answered(status, reason, _web(url))

    def look(self, url: str) -> Seen:
        """Given the URL of a file, return what is known of it."""
        status, reason, fields = self._ask("HEAD", url)
        if not 200 <= status < 300:
            raise Answered(status, reason, _web(url))
        return seen_of(fields)

    def opened(self, url: str, seen: Seen) -> ArchiveOrigin:
        """Given the URL of a file that is on disk, and what is known of it, open it."""
        with self._blaming():
            origin = WebOrigin(_web(url), self._rules, self._login, self._context)
        return ArchiveOrigin(origin, seen)

    # -- inside -------------------------------------------------------------------------------

    def _ask(self, method: str, url: str) -> tuple[int, str, Mapping[str, str]]:
        """Ask, on a connection that stands if there is one: it may have been ended meanwhile, which is no fault."""
        with self._lock:
            known = self._idle.pop() if self._idle else None
        with self._blaming():
            if known is not None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    return self._asked(method, url, known)
            return self._asked(method, url, None)

    def _asked(
        self, method: str, url: str, known: http.client.HTTPConnection | None
    ) -> tuple[int, str, Mapping[str, str]]:
        connection, answer = ask(method, _web(url), self._server, self._login.fields(), context=self._context, on=known)
        if answer.isclosed() and not answer.will_close:
            with self._lock:
                self._idle.append(connection)
        else:
            connection.close()
        return answer.status, answer.reason, dict(answer.headers.items())

    @contextlib.contextmanager
    def _blaming(self) -> Iterator[None]:
        """Say of an archive that cannot be reached that it is this one: its jobs wait for it."""
        try:
            yield
        except Trouble as error:
            if error.fault is FaultClass.LINK:
                raise Trouble(FaultClass.LINK, str(error), endpoint=self._endpoint.name) from error
            raise


class ArchiveOrigin:
    """A file that an archive gives; see `origins.Origin`."""

    handle: int | None = None
    mode: int | None = None
    stamp: Stamp | None = None

    def __init__(self, origin: WebOrigin, seen: Seen) -> None:
        """Given the file as it comes by HTTP, and what the archive has told of it, which counts."""
        self._origin = origin
        self.size = origin.size if seen.size is None else seen.size
        self.mtime_ns = seen.mtime * 10**9 or origin.mtime_ns
        self.name = ""
        if origin.size is not None and origin.size != self.size:
            self.close()
            raise _other_size(self.size, origin.size)

    def pieces(self) -> Iterator[bytes]:
        """See `Origin.pieces`. Raise Trouble, also where it is shorter or longer than was told."""
        position = 0
        for piece in self._origin.pieces():
            position += len(piece)
            if self.size is not None and position > self.size:
                raise _other_size(self.size, position)
            yield piece
        if self.size is not None and position != self.size:
            raise _other_size(self.size, position)

    def check(self) -> None:
        """See `Origin.check`."""

    def close(self) -> None:
        """End the connection."""
        self._origin.close()


def seen_of(fields: Mapping[str, str]) -> Seen:
    """Given the headers of an answer to HEAD, return what they tell. Pure.

    Without a word of where the file is it is on disk, without its size nobody knows that.
    """
    told = {name.lower(): value.strip() for name, value in fields.items()}
    size = told.get("x-content-length", "")
    return Seen(
        on_disk=told.get("x-pacifica-file-storage-media", "").lower() in ("", "disk"),
        size=int(size) if size.isascii() and size.isdigit() and len(size) < 20 and int(size) <= _LARGEST else None,
        mtime=_moment(told.get("last-modified", "")) or _moment(told.get("x-pacifica-ctime", "")),
    )


def _moment(text: str) -> int:
    """Given Unix seconds, with or without a fraction, or a date of HTTP, return whole seconds; 0 if it is neither."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            return 0
    # What no file system can hold is no time of a file.
    return int(seconds) if math.isfinite(seconds) and 0 <= seconds < 2**33 else 0


def _web(url: str) -> str:
    """Given a URL of an archive interface, return what it is by HTTP."""
    scheme = url.partition("://")[0].lower()
    return url[len("pacifica+") :] if scheme in endpoint_urls.PACIFICA else url


def _other_size(told: int | None, found: int) -> Trouble:
    return Trouble(FaultClass.SOURCE, f"the archive has told of {told} bytes, and gives {found}")

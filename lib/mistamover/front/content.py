"""Content on its way to a client: whole or a range of it, from any endpoint, no faster than the client takes it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from typing import TypeVar
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from mistamover.errors import TargetError, TransportError
from mistamover.front.context import Front
from mistamover.front.errors import Refused
from mistamover.jobs.model import Location
from mistamover.jobs.transfer.places import Place

Value = TypeVar("Value")

#: Seconds that a client may take for one piece before its download is given up.
_SLOWEST_PIECE = 120.0

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be downloaded."""

    location: Location
    name: str
    """For the client's disk."""
    algorithm: str = ""
    digest: str = ""
    """Empty where it is not known."""


class Reading:
    """Bytes that are read for a client; its calls block, and come from any thread, one at a time."""

    def __init__(
        self,
        begin: Callable[[int], Iterator[bytes]],
        *,
        size: int | None,
        mtime: float,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        """Given what reads from a byte on, the size of it all (None: not known), its time, and what ends it."""
        self._begin = begin
        self._close = close
        self._lock = threading.Lock()
        self._pieces: Iterator[bytes] = iter(())
        self.size = size
        self.mtime = mtime

    def begin(self, offset: int) -> None:
        """Given where to begin, do so."""
        with self._lock:
            self._pieces = self._begin(offset)

    def piece(self) -> bytes:
        """Return the next bytes; none at the end."""
        with self._lock:
            return next(self._pieces, b"")

    def close(self) -> None:
        """Give back what it was read by."""
        with self._lock:
            close = getattr(self._pieces, "close", None)
            try:
                if close is not None:
                    close()
            finally:
                self._close()


async def download(front: Front, headers: Headers, wanted: Wanted, *, head: bool = False) -> Response:
    """Given the front, a request's headers and what it wants, return the answer: 200, 206 or 304.

    Raise Refused (404, 416, 502), and what the job room refuses.
    """

    def opened() -> Reading:
        return _at_endpoint(front.places.of(wanted.location.endpoint), wanted.location.path)

    reading = await far(front, opened)
    size = reading.size or 0
    tag = f"{wanted.algorithm}-{wanted.digest}" if wanted.digest else f"{size:x}-{int(reading.mtime * 1e6):x}"
    return await served(front, headers, reading, tag=tag, disposition=disposition(wanted.name), head=head)


async def served(
    front: Front,
    headers: Headers,
    reading: Reading,
    *,
    tag: str,
    disposition: str,
    head: bool = False,
    settled: bool = False,
) -> Response:
    """Given a request's headers, what is read for it, and what its answer says of that, return it: 200, 206 or 304.

    The reading is closed, whatever becomes of the answer.  What has no size has no ranges.  `settled`: nothing else can
    have the same time.  Raise Refused (416).
    """
    try:
        said = _headers(tag, disposition, reading)
        if _matches(headers.get("if-none-match", ""), said["ETag"]):
            return Response(status_code=304, headers={"ETag": said["ETag"]})
        begin, end, size, found = 0, reading.size, reading.size, None
        same = (None, said["ETag"], said["Last-Modified"]) if settled else (None, said["ETag"])
        if size is not None and headers.get("if-range") in same:
            found = byte_range(headers.get("range", ""), size)
        if found is not None:
            begin, end = found
            if begin >= end:
                raise Refused(416, "bad-range", f"the content has {size} bytes", {"Content-Range": f"bytes */{size}"})
            said["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        length = None if end is None else end - begin
        if length is not None:
            said["Content-Length"] = str(length)
        status = 200 if found is None else 206
        if head:
            return Response(status_code=status, headers=said)
        await far(front, lambda: reading.begin(begin))
        sent, reading = reading, None  # type: ignore[assignment]
        return _Download(front, sent, length, status, said)
    finally:
        if reading is not None:
            front.far.submit(reading.close)


def _at_endpoint(place: Place, path: str) -> Reading:
    stack = contextlib.ExitStack()
    try:
        visit = stack.enter_context(place.lend())
        file, there = visit.file(path)
    except BaseException:
        stack.close()
        raise
    return Reading(lambda offset: visit.read(file, offset), size=there.size, mtime=there.mtime, close=stack.close)


async def looked_up(front: Front, where: Location) -> int:
    """Given a place, return the size of the file there. Raise Refused (404, 502), and what the job room refuses."""

    def look() -> int:
        with front.places.of(where.endpoint).lend() as visit:
            return visit.file(where.path)[1].size

    return await far(front, look)


async def far(front: Front, call: Callable[[], Value]) -> Value:
    """Given what talks to an endpoint, do it in a thread that lasts; turn its errors into the client's."""
    try:
        return await asyncio.get_running_loop().run_in_executor(front.far, call)
    except TargetError as error:
        raise Refused(404, "no-content", f"there is nothing to be had at this place: {error}") from error
    except TransportError as error:
        raise Refused(502, "endpoint", f"the content cannot be read: {error}", {"Retry-After": "30"}) from error
    except OSError as error:
        raise Refused(502, "endpoint", f"the content cannot be read: {error.strerror}") from error


class _Download(StreamingResponse):
    """The answer, piece by piece; the next one is read while one is sent."""

    def __init__(
        self, front: Front, reading: Reading, length: int | None, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(self._pieces(), status, headers, media_type="application/octet-stream")
        self._front = front
        self._reading = reading
        self._length = length

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and end the reading, even if nothing of it was wanted."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Not waited for: this is also where a client that has gone ends.
            self._front.far.submit(self._reading.close)

    async def _pieces(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        left = self._length
        following = loop.run_in_executor(self._front.far, self._reading.piece)
        try:
            while True:
                piece = await following
                if not piece:
                    break
                if left is not None:
                    piece, left = piece[:left], left - min(left, len(piece))
                    if not left:
                        yield piece
                        return
                following = loop.run_in_executor(self._front.far, self._reading.piece)
                yield piece
            if left:
                # The server sees that bytes are missing, and cuts the connection: nobody takes this for the whole.
                raise OSError("the file became shorter while it was read")
        finally:
            following.add_done_callback(_ignored)

    async def stream_response(self, send: Send) -> None:
        """Send all, and give up when the client does not take it."""

        async def timed(message: Message) -> None:
            async with asyncio.timeout(_SLOWEST_PIECE):
                await send(message)

        await super().stream_response(timed)


def _ignored(piece: asyncio.Future[bytes]) -> None:
    """Have nobody complain of a piece that nobody wants any more, and that could not be read."""
    if not piece.cancelled():
        piece.exception()


def byte_range(header: str, size: int) -> tuple[int, int] | None:
    """Given a Range header and the size, return where to begin and where to end; an empty range cannot be had.

    None: all of it, which is also the answer to several ranges, and to what is no range.
    """
    found = _RANGE.fullmatch(header.replace(" ", ""))
    if found is None or (not found[1] and not found[2]):
        return None
    if not found[1]:
        return max(0, size - int(found[2])), size
    begin, end = int(found[1]), int(found[2]) + 1 if found[2] else size
    return None if end <= begin and found[2] else (begin, min(end, size))


def disposition(name: str) -> str:
    """Given a file's name, return the header that has a browser save it under that name, whatever is in it."""
    plain = "".join(each if each.isascii() and each.isprintable() and each not in '"\\/%' else "_" for each in name)
    whole = quote(name.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain[:200] or 'content'}\"; filename*=UTF-8''{whole}"


def _headers(tag: str, disposition: str, reading: Reading) -> dict[str, str]:
    ranges = {} if reading.size is None else {"Accept-Ranges": "bytes"}
    return {
        "ETag": f'"{tag}"',
        **ranges,
        "Last-Modified": formatdate(max(0.0, reading.mtime), usegmt=True),
        "Content-Disposition": disposition,
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, no-cache",
    }


def _matches(header: str, tag: str) -> bool:
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in header.split(",")) if header else False

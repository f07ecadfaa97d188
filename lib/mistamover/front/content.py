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
from starlette.types import Message, Send

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


class _Reading:
    """A file that is read at an endpoint; its calls block, and come from any thread, one at a time."""

    def __init__(self, place: Place, path: str) -> None:
        self._stack = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._pieces: Iterator[bytes] = iter(())
        try:
            self._visit = self._stack.enter_context(place.lend())
            self._file, there = self._visit.file(path)
        except BaseException:
            self._stack.close()
            raise
        self.size = there.size
        self.mtime = there.mtime

    def begin(self, offset: int) -> None:
        """Given where to begin, do so."""
        with self._lock:
            self._pieces = self._visit.read(self._file, offset)

    def piece(self) -> bytes:
        """Return the next bytes; none at the end."""
        with self._lock:
            return next(self._pieces, b"")

    def close(self) -> None:
        """Give the connection back."""
        with self._lock:
            close = getattr(self._pieces, "close", None)
            try:
                if close is not None:
                    close()
            finally:
                self._stack.close()


async def download(front: Front, headers: Headers, wanted: Wanted, *, head: bool = False) -> Response:
    """Given the front, a request's headers and what it wants, return the answer: 200, 206 or 304.

    Raise Refused (404, 416, 502), and what the job room refuses.
    """

    def opened() -> _Reading:
        return _Reading(front.places.of(wanted.location.endpoint), wanted.location.path)

    reading = await _far(front, opened)
    try:
        said = _headers(wanted, reading)
        if _matches(headers.get("if-none-match", ""), said["ETag"]):
            return Response(status_code=304, headers={"ETag": said["ETag"]})
        begin, end = 0, reading.size
        condition = headers.get("if-range")
        found = byte_range(headers.get("range", ""), reading.size) if condition in (None, said["ETag"]) else None
        if found is not None:
            begin, end = found
            if begin >= end:
                beyond = {"Content-Range": f"bytes */{reading.size}"}
                raise Refused(416, "bad-range", f"the content has {reading.size} bytes", beyond)
            said["Content-Range"] = f"bytes {begin}-{end - 1}/{reading.size}"
        said["Content-Length"] = str(end - begin)
        status = 200 if found is None else 206
        if head:
            return Response(status_code=status, headers=said)
        await _far(front, lambda: reading.begin(begin))
        sent, reading = reading, None  # type: ignore[assignment]
        return _Download(front, sent, end - begin, status, said)
    finally:
        if reading is not None:
            front.far.submit(reading.close)


async def looked_up(front: Front, where: Location) -> int:
    """Given a place, return the size of the file there. Raise Refused (404, 502), and what the job room refuses."""

    def look() -> int:
        with front.places.of(where.endpoint).lend() as visit:
            return visit.file(where.path)[1].size

    return await _far(front, look)


async def _far(front: Front, call: Callable[[], Value]) -> Value:
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
    """The answer, piece by piece."""

    def __init__(self, front: Front, reading: _Reading, length: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(self._pieces(), status, headers, media_type="application/octet-stream")
        self._front = front
        self._reading = reading
        self._length = length

    async def _pieces(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        left = self._length
        try:
            while left:
                piece = await loop.run_in_executor(self._front.far, self._reading.piece)
                if not piece:
                    # The server sees that bytes are missing, and cuts the connection: nobody takes this for the whole.
                    raise OSError("the file became shorter while it was read")
                yield piece[:left]
                left -= min(left, len(piece))
        finally:
            # Not waited for: this is also where a client that has gone ends.
            self._front.far.submit(self._reading.close)

    async def stream_response(self, send: Send) -> None:
        """Send all, and give up when the client does not take it."""

        async def timed(message: Message) -> None:
            async with asyncio.timeout(_SLOWEST_PIECE):
                await send(message)

        await super().stream_response(timed)


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


def _headers(wanted: Wanted, reading: _Reading) -> dict[str, str]:
    tag = f"{wanted.algorithm}-{wanted.digest}" if wanted.digest else f"{reading.size:x}-{int(reading.mtime * 1e6):x}"
    return {
        "ETag": f'"{tag}"',
        "Accept-Ranges": "bytes",
        "Last-Modified": formatdate(max(0.0, reading.mtime), usegmt=True),
        "Content-Disposition": disposition(wanted.name),
        "Content-Type": "application/octet-stream",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cache-Control": "private, no-cache",
    }


def _matches(header: str, tag: str) -> bool:
    return any(each.strip().removeprefix("W/") in (tag, "*") for each in header.split(",")) if header else False

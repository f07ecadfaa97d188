"""The fields of a request, whatever verb and content type it came with, read within bounds.

One field may be content of any size: it goes into a private file while it comes in, hashed on the way.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from mistamover.front.errors import Refused
from mistamover.front.legacy.form_readers import BadBody, TooLarge, Urlencoded, reader
from mistamover.front.upload import Spooled
from mistamover.jobs import spool

#: Fields of one request.
_MOST_FIELDS = 200

#: Bytes that are gathered before they are handed to a thread that writes them.
_GATHERED = 1 << 20

#: What hashes content while it comes in.
ALGORITHM = "sha256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The fields of a request."""

    values: Mapping[str, bytes]
    content: Spooled | None = None

    def __contains__(self, name: str) -> bool:
        """Given a name, tell whether there is such a field."""
        return name in self.values

    def text(self, name: str, default: str = "") -> str:
        """Given a field's name, return its value as text; what is no UTF-8, and zero bytes, come out as marks."""
        if name not in self.values:
            return default
        return self.values[name].decode("utf-8", "replace").replace("\0", "\ufffd")

    def path(self, name: str) -> str:
        """Given a field's name, return its value as a path, byte by byte; empty if there is none."""
        return os.fsdecode(self.values.get(name, b""))

    def json(self, name: str) -> object:
        """Given a field's name, return the JSON in it; None if it is missing or empty. Raise BadBody."""
        text = self.values.get(name, b"")
        if not text.strip():
            return None
        try:
            value: object = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadBody(f"{name} is no JSON") from error
        return value


async def read(
    request: Request, *, limit: int, content: str = "", directory: Path | None = None, content_limit: int = 0
) -> Form:
    """Given a request and the bytes that its fields may have together, return them: from the body, else from the query.

    The field that `content` names goes to the spool in `directory`; it may have `content_limit` bytes (0: any number).
    Raise BadBody, TooLarge, or Refused (no room); then nothing is left in the spool.
    """
    collected = _Collected(limit, content, directory, content_limit)
    try:
        _feed_query(collected, request.scope["query_string"])
        body = reader(request.headers.get("content-type", ""), collected, limit=limit, raw=content)
        try:
            async for chunk in request.stream():
                if chunk:
                    body.feed(chunk)
                if collected.waiting > _GATHERED:
                    await run_in_threadpool(collected.write)
            body.close()
        except ClientDisconnect as error:
            raise BadBody("the body was cut off") from error
        return await run_in_threadpool(collected.form)
    except OSError as error:
        collected.forget()
        room = error.errno not in (errno.ENOSPC, errno.EDQUOT)
        words = (
            f"the content cannot be kept here: {error.strerror}" if room else "there is no room for this content now"
        )
        raise Refused(500 if room else 507, "spool" if room else "no-space", words) from error
    except BaseException:
        collected.forget()
        raise


def _feed_query(collected: _Collected, query: bytes) -> None:
    """Given the query of a request's URL, keep its fields; those of the body replace them."""
    fields = Urlencoded(collected)
    fields.feed(query)
    fields.close()
    collected.query_ends()


@dataclass(slots=True)
class _Open:
    """The spool's file while content goes there."""

    name: str
    descriptor: int
    size: int = 0
    hash: hashlib._Hash = field(default_factory=lambda: hashlib.new(ALGORITHM))


class _Collected:
    """A sink that keeps small fields, and spools the one that may be large."""

    def __init__(self, limit: int, content: str, directory: Path | None, content_limit: int) -> None:
        self.waiting = 0
        self._limit = limit
        self._content = content if directory is not None else ""
        self._directory = directory
        self._content_limit = content_limit
        self._values: dict[str, bytes] = {}
        self._of_query: frozenset[str] = frozenset()
        self._name = ""
        self._value = bytearray()
        self._kept = 0
        self._pieces: list[bytes] = []
        self._file: _Open | None = None

    def begin(self, name: str) -> None:
        if len(self._values) >= _MOST_FIELDS:
            raise BadBody(f"a request with more than {_MOST_FIELDS} fields is not taken")
        self._name = name
        self._value = bytearray()
        if self._content and name == self._content:
            if self._file is not None:
                raise BadBody(f"there is more than one {name}")
            assert self._directory is not None
            self._file = _Open(*spool.new(self._directory))

    def piece(self, data: bytes) -> None:
        if self._file is not None and self._name == self._content:
            self._file.size += len(data)
            if 0 < self._content_limit < self._file.size:
                raise TooLarge(f"content of more than {self._content_limit} bytes is not taken")
            self._pieces.append(data)
            self.waiting += len(data)
            return
        self._kept += len(data)
        if self._kept > self._limit:
            raise TooLarge(f"a request of more than {self._limit} bytes is not taken")
        self._value += data

    def end(self) -> None:
        if self._name != self._content or self._file is None:
            # Of a field that comes twice the first one counts, as the older services had it.
            if self._name not in self._values or self._name in self._of_query:
                self._values[self._name] = bytes(self._value)
                self._of_query -= {self._name}
            self._value = bytearray()
        self._name = ""

    def query_ends(self) -> None:
        """What was read up to now is from the URL: what is in the body replaces it."""
        self._of_query = frozenset(self._values)

    def write(self) -> None:
        """Put what waits onto the disk. Raise OSError."""
        pieces, self._pieces, self.waiting = self._pieces, [], 0
        if self._file is None:
            return
        for piece in pieces:
            self._file.hash.update(piece)
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(self._file.descriptor, rest) :]

    def form(self) -> Form:
        """Return it all, the content flushed. Raise OSError."""
        self.write()
        if self._file is None:
            return Form(values=self._values)
        os.fsync(self._file.descriptor)
        os.close(self._file.descriptor)
        self._file.descriptor = -1
        content = Spooled(name=self._file.name, size=self._file.size, digest=self._file.hash.hexdigest())
        return Form(values=self._values, content=content)

    def forget(self) -> None:
        """The request comes to nothing: leave no file behind."""
        if self._file is not None and self._directory is not None:
            if self._file.descriptor >= 0:
                os.close(self._file.descriptor)
            spool.remove(self._directory, self._file.name)

"""Bodies of requests taken apart while they come in: form-encoded, multipart, JSON; pure.

A value may be larger than memory, so it is handed on in pieces, as bytes: nothing in it is ever taken for text here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import unquote_to_bytes

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

#: Bytes of a field's name.
_LONGEST_NAME = 1_000


class BadBody(Exception):
    """A body that is not what its content type says; never leaves the front."""


class TooLarge(Exception):
    """A body, or the content in it, is larger than allowed; never leaves the front."""


class Sink(Protocol):
    """Where the fields go."""

    def begin(self, name: str) -> None:
        """Given the name of a field, whose value comes next."""

    def piece(self, data: bytes) -> None:
        """Given the next piece of the value."""

    def end(self) -> None:
        """The value is complete."""


class Reader(Protocol):
    """A body, read."""

    def feed(self, chunk: bytes) -> None:
        """Given the next bytes of the body. Raise BadBody."""

    def close(self) -> None:
        """The body is complete. Raise BadBody if it is not."""


def reader(content_type: str, sink: Sink, *, limit: int, raw: str = "") -> Reader:
    """Given a content type, where the fields go, and how long JSON may be, return what reads such a body.

    `raw` is the field whose value a body of any other type is; without one such a body is taken for form-encoded, which
    is what clients send that say nothing.  Raise BadBody.
    """
    kind, options = parse_options_header(content_type)
    if kind == b"multipart/form-data":
        return Multipart(sink, options.get(b"boundary", b""))
    if kind == b"application/json":
        return Json(sink, limit)
    if raw and kind not in (b"", b"application/x-www-form-urlencoded"):
        return Raw(sink, raw)
    return Urlencoded(sink)


class Urlencoded:
    """`name=value&name=value`, with percent signs."""

    def __init__(self, sink: Sink) -> None:
        """Given where the fields go, have read nothing yet."""
        self._sink = sink
        self._name: bytes | None = b""
        """What is known of the name that is being read; None inside a value."""
        self._held = b""
        """A percent sign that the end of a chunk has cut off its digits."""

    def feed(self, chunk: bytes) -> None:
        """Given the next bytes of the body. Raise BadBody."""
        first, *others = (self._held + chunk).split(b"&")
        self._held = b""
        self._part(first, last=not others)
        for number, part in enumerate(others, start=1):
            self._ended()
            self._part(part, last=number == len(others))

    def close(self) -> None:
        """The body is complete."""
        rest, self._held = self._held, b""
        if rest and self._name is None:
            self._sink.piece(_plain(rest))
        self._ended()

    def _part(self, part: bytes, *, last: bool) -> None:
        if self._name is not None:
            name, equals, value = part.partition(b"=")
            self._name += name
            if len(self._name) > _LONGEST_NAME:
                raise BadBody(f"a field's name has more than {_LONGEST_NAME} bytes")
            if not equals:
                return
            self._sink.begin(_plain(self._name).decode("utf-8", "replace"))
            self._name, part = None, value
        if last and b"%" in part[-2:]:
            cut = part.rindex(b"%")
            part, self._held = part[:cut], part[cut:]
        if part:
            self._sink.piece(_plain(part))

    def _ended(self) -> None:
        if self._name:  # a name without a value
            self._sink.begin(_plain(self._name).decode("utf-8", "replace"))
        if self._name != b"":
            self._sink.end()
        self._name = b""


class Multipart:
    """`multipart/form-data`."""

    def __init__(self, sink: Sink, boundary: bytes) -> None:
        """Given where the fields go, and the boundary between them. Raise BadBody if that is none."""
        if not boundary:
            raise BadBody("a multipart body needs its boundary in the content type")
        self._sink = sink
        self._header = b""
        self._value = b""
        self._name: str | None = None
        self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._named,
                    "on_part_data": self._data,
                    "on_part_end": sink.end,
                    "on_end": self._ended,
                },
            )
        except FormParserError as error:
            raise BadBody("this boundary of a multipart body cannot be taken") from error

    def feed(self, chunk: bytes) -> None:
        """Given the next bytes of the body. Raise BadBody."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadBody("this is no multipart body") from error

    def close(self) -> None:
        """The body is complete. Raise BadBody if its last boundary is missing."""
        if not self._complete:
            raise BadBody("the multipart body ends before its last boundary")

    def _begin(self) -> None:
        self._name = None

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._header = self._value = b""

    def _named(self) -> None:
        if not self._name or len(self._name) > _LONGEST_NAME:
            raise BadBody("a part of the multipart body has no name")
        self._sink.begin(self._name)

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._sink.piece(data[start:end])

    def _ended(self) -> None:
        self._complete = True


class Json:
    """A JSON object; it is held whole."""

    def __init__(self, sink: Sink, limit: int) -> None:
        """Given where the fields go, and how many bytes it may have, have read nothing yet."""
        self._sink = sink
        self._limit = limit
        self._body = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Given the next bytes of the body. Raise TooLarge."""
        self._body += chunk
        if len(self._body) > self._limit:
            raise TooLarge(f"a request of more than {self._limit} bytes is not taken")

    def close(self) -> None:
        """The body is complete. Raise BadBody if it is no object."""
        if not self._body.strip():
            return
        try:
            value = json.loads(self._body)
        except (ValueError, RecursionError) as error:
            raise BadBody("this is no JSON") from error
        if not isinstance(value, Mapping):
            raise BadBody("the JSON must be one object, of fields and their values")
        for name, one in value.items():
            if one is not None:
                self._sink.begin(str(name))
                self._sink.piece(_json_text(one).encode("utf-8", "replace"))
                self._sink.end()


class Raw:
    """A body that is the value of one field."""

    def __init__(self, sink: Sink, name: str) -> None:
        """Given where the field goes, and its name."""
        self._sink = sink
        sink.begin(name)

    def feed(self, chunk: bytes) -> None:
        """Given the next bytes of the body."""
        self._sink.piece(chunk)

    def close(self) -> None:
        """The body is complete."""
        self._sink.end()


def _json_text(value: object) -> str:
    """Given a value, return what a form would hold for it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    return json.dumps(value)


def _plain(encoded: bytes) -> bytes:
    return unquote_to_bytes(encoded.replace(b"+", b" "))

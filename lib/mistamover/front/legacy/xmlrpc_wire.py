"""XML-RPC on the wire: a request read, an answer written; pure.

Reading is bounded in every direction: no document type (so no entities), no compression, few levels, few values.  What
is written is always well-formed XML 1.0, whatever is in the texts.  It never imports the store.
"""

from __future__ import annotations

import re
import xmlrpc.client
from dataclasses import dataclass
from typing import Any
from xml.parsers.expat import ExpatError

from defusedxml.common import DefusedXmlException
from defusedxml.xmlrpc import DefusedExpatParser

CONTENT_TYPE = "text/xml; charset=UTF-8"

#: Codes of faults, as the introspection proposal numbers them.
NOT_WELL_FORMED = -32700
UNKNOWN_METHOD = -32601
INVALID_PARAMETERS = -32602
INTERNAL_ERROR = -32603
REFUSED = -32500

#: Structs and arrays inside each other; the deepest message in use has four.
_DEEPEST = 20
#: Elements of a request: ten thousand sources, and what is around each.
_MOST_ELEMENTS = 100_000

#: What a reader made for tolerance raises on all the messages that it does not tolerate.
_UNREADABLE = (
    ExpatError,
    DefusedXmlException,
    xmlrpc.client.Error,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
)

#: All that XML 1.0 cannot hold, and lone surrogates, which UTF-8 cannot.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Unreadable(Exception):
    """A request that is no XML-RPC message that we take; never leaves the front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request, read."""

    method: str
    parameters: tuple[object, ...]


def read(body: bytes) -> Call:
    """Given the body of a request, return the call in it. Raise Unreadable, with words, if there is none."""
    reader = _Reader()
    parser = DefusedExpatParser(reader, forbid_dtd=True)
    try:
        parser.feed(body)
        parser.close()
        parameters = reader.close()
    except DefusedXmlException as error:
        raise Unreadable("a document type or an entity is not taken") from error
    except Unreadable:
        raise
    except _UNREADABLE as error:
        raise Unreadable(
            f"this is not an XML-RPC request: {scrubbed(str(error))[:200] or type(error).__name__}"
        ) from error
    method = reader.getmethodname()
    if not method:
        raise Unreadable("this is not an XML-RPC request: it names no method")
    return Call(method=method, parameters=parameters)


def answer(value: object) -> bytes:
    """Given the result of a method, return the body of the response."""
    result: Any = _clean(value)
    text = xmlrpc.client.dumps((result,), methodresponse=True, encoding="UTF-8", allow_none=False)
    return text.encode()


def fault(code: int, words: str) -> bytes:
    """Given what is wrong, return the body of a response that says so."""
    return xmlrpc.client.dumps(xmlrpc.client.Fault(code, scrubbed(words)), encoding="UTF-8").encode()


def scrubbed(text: str) -> str:
    """Given a text, return it without what XML 1.0 cannot hold: a question mark stands for each such character."""
    return _ILLEGAL.sub("?", text)


def _clean(value: object) -> object:
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, dict):
        return {scrubbed(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value


class _Reader(xmlrpc.client.Unmarshaller):
    """The standard library's reader, with bounds."""

    def __init__(self) -> None:
        super().__init__(use_builtin_types=True)
        self._elements = 0
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str]) -> None:
        self._elements += 1
        self._depth += 1
        if self._elements > _MOST_ELEMENTS:
            raise Unreadable(f"a request with more than {_MOST_ELEMENTS} elements is not taken")
        if self._depth > 4 * _DEEPEST:  # <value><array><data>, or <value><struct><member>
            raise Unreadable(f"values nested more than {_DEEPEST} deep are not taken")
        super().start(tag, attrs)

    def end(self, tag: str) -> None:
        self._depth -= 1
        super().end(tag)

"""XML-RPC read and written: whatever comes is a call or refused, whatever goes is well-formed."""

from __future__ import annotations

import xmlrpc.client
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.front.legacy import xmlrpc_wire as wire

BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<methodCall><methodName>&b;</methodName><params/></methodCall>"""
EXTERNAL = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<methodCall><methodName>&a;</methodName><params/></methodCall>"""
DOCTYPE = b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><methodCall><methodName>a</methodName></methodCall>'

json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31 - 1) | st.text("ab<&>\x85é☃", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(parameters=st.lists(json_like, max_size=3))
def test_a_call_is_read_as_it_was_written(parameters: list[object]) -> None:
    body = xmlrpc.client.dumps(tuple(parameters), "move", allow_none=True).encode()  # type: ignore[arg-type]
    assert wire.read(body) == wire.Call(method="move", parameters=tuple(parameters))


@given(body=st.binary(max_size=300) | st.text("<>/methodCallNparsvuetig &;!", max_size=200).map(str.encode))
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(wire.Unreadable):
        wire.read(body)


@pytest.mark.parametrize("body", [BOMB, EXTERNAL, DOCTYPE], ids=["bomb", "external", "doctype"])
def test_a_document_type_is_refused(body: bytes) -> None:
    with pytest.raises(wire.Unreadable, match="document type or an entity"):
        wire.read(body)


@pytest.mark.parametrize(
    "value",
    [
        "<int>x</int>",
        "<int>" + "9" * 6_000 + "</int>",
        "<boolean>2</boolean>",
        "<double>x</double>",
        "<bigdecimal>x</bigdecimal>",
        "<base64>x</base64>",
        "<dateTime.iso8601>x</dateTime.iso8601>",
        "<struct><value><int>1</int></value></struct>",
        "<struct><value><array><data/></array></value><value><int>1</int></value></struct>",
        "<strange>1</strange>",
        "<array><data>" * 100 + "</data></array>" * 100,
        "<value>" * 200 + "</value>" * 200,
    ],
    ids=lambda value: value[:30],
)
def test_values_that_are_none_are_refused(value: str) -> None:
    body = f"<methodCall><methodName>a</methodName><params><param><value>{value}</value></param></params></methodCall>"
    with pytest.raises(wire.Unreadable):
        wire.read(body.encode())


def test_a_request_of_very_many_values_is_refused() -> None:
    body = "<methodCall><methodName>a</methodName><params>" + "<param><value/></param>" * 60_000
    with pytest.raises(wire.Unreadable, match="elements"):
        wire.read(body.encode())


@given(text=st.text(st.characters(), max_size=30))
def test_whatever_is_said_is_well_formed(text: str) -> None:
    for body in (wire.answer({"reason": text, text: [text]}), wire.fault(1, text)):
        ElementTree.fromstring(body)


def test_a_control_character_in_a_reason_does_not_break_the_answer() -> None:
    ((struct,), _) = xmlrpc.client.loads(wire.answer({"reason": "\x01scp: no such file\x00\ud800"}))
    assert struct == {"reason": "?scp: no such file??"}

"""The XML-RPC dialect on the wire, row by row: what is refused and in which words, and what moves."""

from __future__ import annotations

import contextlib
import http.client
import socket
import uuid
import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pytest

import legacy_sites as fronts
from legacy_sites import RunningFront, until
from mistamover.front.legacy.xmlrpc_words import NO_SWIFT

TOO_MANY_ALA = "Too many ALA jobs. Mixed sources can only contain a maximum of one ALA job."
ALA = "ala://ala?lsid=urn:lsid:biodiversity.org.au:afd.taxon:31a9b8b8"
SCP = "scp://localhost/data/x"
SCP_OK = "scp://mover@hpc9.example.org/scratch/in/x"
HTTP = "http://example.invalid/x.txt"


def missing(what: str) -> str:
    return f"Missing or incorrect parameter '{what}'"


def invalid(what: str) -> str:
    return f"Invalid parameter '{what}'"


@pytest.fixture
def front(old_front: RunningFront) -> RunningFront:
    """What is refused here, is refused before there is a job."""
    return old_front


#: Source, destination and, where it is given, zip; and the reason.
URL_ROWS: list[tuple[str, tuple[Any, ...], str]] = [
    ("source nil", (None, SCP), missing("source and destination must not be None")),
    ("destination nil", (HTTP, None), missing("source and destination must not be None")),
    ("both nil", (None, None), missing("source and destination must not be None")),
    ("source a number", (12, SCP), invalid("source must be of type str or list")),
    ("source a boolean", (True, SCP), invalid("source must be of type str or list")),
    ("empty array", ([], SCP), invalid("no sources selected")),
    ("element a number", ([HTTP, 5], SCP), "Unknown source type '5'"),
    ("element an array", ([["http://h/p"]], SCP), "Unknown source type '['http://h/p']'"),
    ("element nil", ([None], SCP), "Unknown source type 'None'"),
    ("no scheme", ("", SCP), "Unknown source URL scheme ''"),
    ("the example of 2013", ("DATA_TYPE", 12), "Unknown source URL scheme ''"),
    ("file", ("file:///etc/passwd", SCP), "Unknown source URL scheme 'file'"),
    ("ftp", ("ftp://h/p", SCP), "Unknown source URL scheme 'ftp'"),
    ("scp without host", ("scp:///p", SCP), "Host not specified in 'source'"),
    ("scp without path", ("scp://h", SCP), "Path not specified in 'source'"),
    ("ala without query", ("ala://ala", SCP), missing("source ALA LSID")),
    ("ala without lsid", ("ala://ala?x=1", SCP), missing("source ALA LSID")),
    ("ala with an empty lsid", ("ala://ala?lsid=", SCP), missing("source ALA LSID")),
    ("swift without container", ("swift+https://nectar", SCP), "Invalid swift path in 'source'"),
    ("swift without object", ("swift+http://nectar/container", SCP), "Invalid swift path in 'source'"),
    ("two ala", ([ALA, ALA], SCP), TOO_MANY_ALA),
    ("destination a number", (HTTP, 5), missing("destination must be of type str")),
    ("destination an array", (HTTP, [SCP]), missing("destination must be of type str")),
    ("destination http", (HTTP, HTTP), "Unknown destination URL scheme 'http'"),
    ("destination file", (HTTP, "file:///tmp/x"), "Unknown destination URL scheme 'file'"),
    ("destination ala", (HTTP, ALA), "Unknown destination URL scheme 'ala'"),
    ("destination empty", (HTTP, ""), "Unknown destination URL scheme ''"),
    ("destination without host", (HTTP, "scp:///p"), "Host not specified in 'destination'"),
    ("destination without path", (HTTP, "scp://h"), "Path not specified in 'destination'"),
    ("swift destination", (HTTP, "swift+https://n/container"), "Invalid swift path in 'destination'"),
    ("zip a text", (HTTP, SCP, "true"), invalid("zip must be of type bool")),
    ("zip a number", (HTTP, SCP, 1), invalid("zip must be of type bool")),
    ("source before destination", ("ftp://h/p", 5), "Unknown source URL scheme 'ftp'"),
    ("destination before zip", (HTTP, 5, 1), missing("destination must be of type str")),
    ("very long", ("x" * 100_000 + "://h/p", SCP), f"Unknown source URL scheme '{'x' * 972}…"),
    ("no swift", (HTTP, "swift+https://nectar/c/o"), f"Unknown destination 'nectar': {NO_SWIFT}"),
    ("no swift source", ("swift://nectar/c/o", SCP_OK), f"Unknown source 'nectar': {NO_SWIFT}"),
    ("unknown host of a source", ("scp://nowhere/p", SCP), "Unknown source 'nowhere'"),
    ("unknown host of a destination", (HTTP, "scp://nowhere/p"), "Unknown destination 'nowhere'"),
]

TO: dict[str, object] = {"host": "plone", "path": "here"}
URL: dict[str, object] = {"type": "url", "url": HTTP}
LSID: dict[str, object] = {"type": "ala", "lsid": "urn:lsid:x"}

STRUCT_ROWS: list[tuple[str, tuple[Any, ...], str]] = [
    ("source no struct", (5, TO), missing("source must be of type dict")),
    ("source without type", ({"url": HTTP}, {"path": "x"}), missing("source must specify a type")),
    ("ala without lsid", ({"type": "ala"}, TO), missing("lsid must be provided with ala source")),
    ("url without url", ({"type": "url"}, TO), missing("url must be provided with url source")),
    (
        "scp without path",
        ({"type": "scp", "host": "plone"}, TO),
        missing("host and path must be provided with scp source"),
    ),
    ("scp without host", ({"type": "scp", "path": "x"}, TO), missing("host and path must be provided with scp source")),
    ("mixed without sources", ({"type": "mixed"}, TO), missing("sources must be provided with mixed source")),
    ("mixed with no list", ({"type": "mixed", "sources": "x"}, TO), missing("sources must be of list type")),
    (
        "mixed nested",
        ({"type": "mixed", "sources": [{"type": "mixed"}]}, TO),
        invalid("mixed sources may not be nested"),
    ),
    ("mixed without type", ({"type": "mixed", "sources": [{}]}, TO), missing("source must specify a type")),
    ("mixed with two ala", ({"type": "mixed", "sources": [LSID, LSID]}, TO), TOO_MANY_ALA),
    ("unknown type", ({"type": "ftp"}, TO), "Unknown source type 'ftp'"),
    ("destination no struct", (URL, SCP), missing("destination must be of type dict")),
    ("destination without host", (URL, {"path": "x"}), missing("destination must specify a host and path")),
    ("destination without path", (URL, {"host": "plone"}), missing("destination must specify a host and path")),
    ("zip in the destination", (URL, {**TO, "zip": "yes"}), invalid("zip must be of type bool")),
    ("zip as the third", (URL, TO, "yes"), invalid("zip must be of type bool")),
    ("unknown source", ({"type": "scp", "host": "nobody", "path": "x"}, TO), "Unknown source 'nobody'"),
    ("unknown destination", (URL, {"host": "nobody", "path": "x"}), "Unknown destination 'nobody'"),
]

SWAPPED_ROWS: list[tuple[str, tuple[Any, ...], str]] = [
    ("no id", (TO, {"type": "url"}), "Missing or incorrect parameters"),
    ("no path", ({"host": "plone"}, {"type": "url", "id": HTTP}), "Missing or incorrect parameters"),
    ("a number as id", (TO, {"type": "url", "id": 12}), "Invalid parameters"),
    ("unknown type", (TO, {"type": "ftp", "id": HTTP}), "Unknown source type ftp"),
    ("unknown host", ({"host": "nobody", "path": "x"}, {"type": "url", "id": HTTP}), "Unknown destination"),
]


def _ids(rows: list[tuple[str, tuple[Any, ...], str]]) -> list[str]:
    return [row[0] for row in rows]


def _rejected(front: RunningFront, parameters: tuple[Any, ...], reason: str) -> None:
    with front.proxy() as proxy:
        assert proxy.move(*parameters) == {"status": "REJECTED", "reason": reason}


@pytest.mark.parametrize(("parameters", "reason"), [row[1:] for row in URL_ROWS], ids=_ids(URL_ROWS))
def test_a_move_of_urls_is_rejected(front: RunningFront, parameters: tuple[Any, ...], reason: str) -> None:
    _rejected(front, parameters, reason)


@pytest.mark.parametrize(("parameters", "reason"), [row[1:] for row in STRUCT_ROWS], ids=_ids(STRUCT_ROWS))
def test_a_move_of_structs_is_rejected(front: RunningFront, parameters: tuple[Any, ...], reason: str) -> None:
    _rejected(front, parameters, reason)


@pytest.mark.parametrize(("parameters", "reason"), [row[1:] for row in SWAPPED_ROWS], ids=_ids(SWAPPED_ROWS))
def test_a_move_with_its_destination_first_is_rejected(
    front: RunningFront, parameters: tuple[Any, ...], reason: str
) -> None:
    _rejected(front, parameters, reason)


@pytest.mark.parametrize("method", ["check_move_status", "checkMoveStatus", "check", "checkALAJobStatus", "cancel"])
@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ((), missing("id")),
        ((None,), missing("id")),
        ((12,), invalid("id must be a string")),
        ((["x"],), invalid("id must be a string")),
        (("no such job",), "Job does not exist"),
        (("0" * 32,), "Job does not exist"),
        (("\u2603\x7f' OR 1=1",), "Job does not exist"),
    ],
    ids=["none", "nil", "number", "array", "unknown", "unknown but well-formed", "hostile"],
)
def test_a_check_is_rejected(front: RunningFront, method: str, parameters: tuple[Any, ...], reason: str) -> None:
    with front.proxy() as proxy:
        assert getattr(proxy, method)(*parameters) == {"status": "REJECTED", "reason": reason}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ((), "Missing or incorrect parameters"),
        ((None,), "Missing or incorrect parameters"),
        (("",), "Missing or incorrect parameters"),
        ((5,), "Missing or incorrect parameters"),
        (("urn:lsid:x",), "Unknown destination: set ala_destination = ENDPOINT/PATH in [front]"),
    ],
    ids=["none", "nil", "empty", "number", "not configured"],
)
def test_a_pull_from_the_ala_is_rejected(front: RunningFront, parameters: tuple[Any, ...], reason: str) -> None:
    with front.proxy() as proxy:
        assert proxy.pullOccurrenceFromALA(*parameters) == {"status": "REJECTED", "reason": reason}


# ---- what is new: a job, its id, its end ----


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x.txt"


@pytest.mark.parametrize("path", ["/data_mover", "/data_mover/", "/RPC2", "/RPC2/"])
def test_a_new_job_is_pending_and_can_be_cancelled(front: RunningFront, silent: str, path: str) -> None:
    with front.proxy(path) as proxy:
        struct: Any = proxy.move({"type": "url", "url": silent}, TO)
        assert set(struct) == {"status", "id"}
        # A worker may have begun with it already.
        assert struct["status"] in ("PENDING", "IN_PROGRESS")
        identity = struct["id"]
        assert len(identity) == 32
        assert int(identity, 16) >= 0
        going: Any = proxy.check_move_status(identity)
        assert going.keys() == {"status", "id"} and going["status"] in ("PENDING", "IN_PROGRESS")
        # Some print it as the other dialects do.
        for written in (str(uuid.UUID(identity)), identity.upper()):
            shown: Any = proxy.check(written)
            assert shown["id"] == identity
        proxy.cancel(identity)
        until(lambda: proxy.check_move_status(identity)["status"] == "FAILED")
        ended: Any = proxy.check_move_status(identity)
        assert ended["reason"].startswith(f"Move has failed for job with id {identity}. Reason: cancelled")
        assert proxy.check(identity) == ended


def test_a_job_that_came_in_urls_and_a_zip(front: RunningFront) -> None:
    with front.proxy() as proxy:
        for parameters in (
            ([HTTP, "https://example.invalid/y"], SCP_OK, True),
            (HTTP, SCP_OK, False),
            (HTTP, SCP_OK, None),
        ):
            struct: Any = proxy.move(*parameters)
            assert struct["status"] == "PENDING", struct
            proxy.cancel(struct["id"])


def test_swift_is_an_endpoint_of_that_name(front: RunningFront) -> None:
    with front.proxy() as proxy:
        for url in ("swift://plone/container/object", "swift+https://plone/container/object"):
            struct: Any = proxy.move(HTTP, url)
            (item,) = front.store.jobs.items(struct["id"])
            assert item.target is not None
            assert (item.target.endpoint, item.target.path) == ("plone", "container/object")
            proxy.cancel(struct["id"])
        hidden: Any = proxy.move(HTTP, "swift://plone/container/a%2Fb")
        assert (hidden["status"], "with %" in hidden["reason"]) == ("REJECTED", True)
        refused: Any = proxy.move("swift+https://nectar/container/object", SCP_OK)
        assert refused["reason"] == f"Unknown source 'nectar': {NO_SWIFT}"


# ---- the protocol ----


def test_the_methods_describe_themselves(front: RunningFront) -> None:
    with front.proxy("/RPC2") as proxy:
        names: Any = proxy.system.listMethods()
        assert {"move", "check_move_status", "cancel", "checkMoveStatus", "check"} <= set(names)
        for name in names:
            assert name in str(proxy.system.methodHelp(name)) or name in ("check", "checkMoveStatus")
            signatures: Any = proxy.system.methodSignature(name)
            assert all(isinstance(kind, str) for signature in signatures for kind in signature)


def test_several_calls_in_one(front: RunningFront) -> None:
    with front.proxy() as proxy:
        calls = xmlrpc.client.MultiCall(proxy)
        calls.check("0" * 32)
        calls.nothing()
        calls.move("", "")
        first, second, third = list(calls().results)
    assert first == [{"status": "REJECTED", "reason": "Job does not exist"}]
    assert second["faultCode"] == -32601
    assert third == [{"status": "REJECTED", "reason": "Unknown source URL scheme ''"}]


def _fault(front: RunningFront, body: bytes, content_type: str = "text/xml") -> xmlrpc.client.Fault:
    answer = front.ask("POST", "/data_mover", body, headers={"Content-Type": content_type})
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/xml; charset=UTF-8"
    with pytest.raises(xmlrpc.client.Fault) as caught:
        xmlrpc.client.loads(answer.body)
    return caught.value


BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<methodCall><methodName>&b;</methodName></methodCall>"""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"not xml", -32700),
        (b'{"method": "move"}', -32700),
        (BOMB, -32700),
        (xmlrpc.client.dumps((), "nothing").encode(), -32601),
        (xmlrpc.client.dumps((), "_validate_destination").encode(), -32601),
        (xmlrpc.client.dumps((), "__init__").encode(), -32601),
        (xmlrpc.client.dumps((), "system.listMethods.__class__").encode(), -32601),
        (xmlrpc.client.dumps((), "move").encode(), -32602),
        (xmlrpc.client.dumps(("x",), "move").encode(), -32602),
        (xmlrpc.client.dumps(("x", "y", True, 1), "move").encode(), -32602),
        (xmlrpc.client.dumps(("x", "y"), "check").encode(), -32602),
    ],
    ids=["empty", "no xml", "json", "bomb", "unknown", "private", "dunder", "attribute", "none", "one", "four", "two"],
)
def test_a_mistake_in_the_protocol_is_a_fault(front: RunningFront, body: bytes, code: int) -> None:
    assert _fault(front, body).faultCode == code


def test_any_content_type_is_taken(front: RunningFront) -> None:
    body = xmlrpc.client.dumps((None,), "check", allow_none=True).encode()
    for content_type in ("text/xml", "application/xml", "application/json", "x/y", ""):
        answer = front.ask("POST", "/data_mover", body, headers={"Content-Type": content_type})
        assert b"Missing or incorrect parameter 'id'" in answer.body


def test_a_body_that_is_too_long_is_not_read(front: RunningFront) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=fronts.DEADLINE)
    with contextlib.closing(connection):
        connection.putrequest("POST", "/data_mover")
        connection.putheader("Content-Length", str((8 << 20) + 1))
        connection.endheaders()  # and nothing of the body
        assert connection.getresponse().status == 413


def test_a_page_is_not_an_rpc(front: RunningFront) -> None:
    assert front.ask("GET", "/data_mover").status == 405

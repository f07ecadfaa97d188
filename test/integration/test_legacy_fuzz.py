"""Anything at all is sent to the older dialects: no error of ours, and an answer in time."""

from __future__ import annotations

import json
import time
import xmlrpc.client
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import legacy_sites as fronts
from legacy_sites import RunningFront

#: Statuses above 499 that are told on purpose: what is not supported, and what a job failed of.
TOLD = (501,)

#: Seconds that the longest answer may take: a synchronous call waits for so long, and a busy machine is slow.
LONGEST = 15.0

bounded = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFront]:
    directory = tmp_path_factory.mktemp("fuzz")
    place = fronts.site(directory / "site")
    with fronts.running(directory / "front", place.endpoints, anonymous="admin", sync_timeout=1) as running:
        answer = running.ask("PUT", "/DM/register", FIELDS)
        assert answer.status == 201
        KNOWN["id"] = answer.text
        yield running


FIELDS = {
    "filename": "known", "path": "a", "machine": "localhost", "size": "1", "description": "", "originator": "",
    "group": "",
}  # fmt: skip
KNOWN: dict[str, str] = {}

WORDS = (
    "", "localhost", "tape", "known", "http", "http://example.invalid/x", "scp://h/p", "{}", '{"user": 1}', "-1", "1",
    "../x", "/etc/passwd", "a/b", "\0", "%00", "true", "\ud800", "ala://ala?lsid=x", "swift://a/b/c", "http://[",
    "0" * 5000,
)  # fmt: skip
IDS = ("KNOWN", "x", "00000000-0000-0000-0000-000000000000", "%00", "%ff", "..", "a%2fb", "localhost", "tape")
KEYS = ("type", "url", "host", "path", "zip", "sources", "lsid", "id", "methodName", "params")
PARAMETERS = ("http://h/p", "scp://h/p", "scp://localhost/x", "localhost", "url", "scp", "ala", "mixed", "x", "")

texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=20))
names = st.sampled_from(
    [*FIELDS, "dest", "url", "protocol", "options", "callback", "incidentId", "payload", "uuid", "dest_machine",
     "src_machine", "data_size", "storage_technology", "type", "machine_name", "host_name", "num_nodes",
     "base_work_dir", "connection_type", "scheduler", "cores_per_node", "gather_metrics", ""]
)  # fmt: skip
some = st.dictionaries(names, texts, max_size=10)
fields = st.one_of(some, some.map(lambda more: {**FIELDS, "url": "http://h/", "protocol": "http", **more}))
ids = st.sampled_from(IDS)
paths = st.sampled_from(
    ["/DM/info", "/DM/info/{}", "/DM/search", "/DM/register", "/DM/put", "/DM/get/{}", "/DM/getexternal", "/DM/predict",
     "/DM/copy/{}", "/DM/move/{}", "/DM/remove/{}", "/DM/delete/{}", "/DM/archive/{}", "/DM/activate/{}",
     "/DM/async/copy/{}", "/DM/async/move/{}", "/DM/async/getexternal", "/DM/async/status/{}", "/DM", "/DM/{}",
     "/MSM/add", "/MSM/machine/{}", "/MSM/enable/{}", "/MSM/disable_testmode/{}", "/MSM/machinestatuses",
     "/MSM/matchmachine", "/MSM/health"]
)  # fmt: skip
methods = st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"])
encodings = st.sampled_from(["form", "json", "query", "multipart", "raw"])


@bounded
@given(
    method=methods,
    path=paths,
    identity=ids,
    slash=st.booleans(),
    fields=fields,
    encoding=encodings,
    junk=st.binary(max_size=40),
)
def test_any_request_of_the_data_manager(
    front: RunningFront,
    method: str,
    path: str,
    identity: str,
    slash: bool,
    fields: dict[str, str],
    encoding: str,
    junk: bytes,
) -> None:
    where = path.format(KNOWN["id"] if identity == "KNOWN" else identity) + ("/" if slash else "")
    plain = {name: value.encode("utf-8", "surrogatepass") for name, value in fields.items()}
    headers, body = {}, b""
    if encoding == "query":
        where += "?" + urlencode(plain)
    elif encoding == "json":
        headers, body = {"Content-Type": "application/json"}, json.dumps(fields).encode()
    elif encoding == "multipart":
        headers, body = {"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n" + junk
    elif encoding == "raw":
        headers, body = {"Content-Type": "application/octet-stream"}, junk
    else:
        headers, body = {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(plain).encode() + junk
    began = time.monotonic()
    answer = front.ask(method, where, body, headers=headers)
    assert time.monotonic() - began < LONGEST
    assert answer.status < 500 or answer.status in TOLD, answer
    assert b"Traceback" not in answer.body


plain_texts = st.text(st.characters(min_codepoint=32, max_codepoint=0xD7FF), max_size=8)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=5),
    st.sampled_from(PARAMETERS),
    plain_texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
calls = st.sampled_from(
    ["move", "check_move_status", "checkMoveStatus", "check", "pullOccurrenceFromALA", "checkALAJobStatus", "cancel",
     "system.listMethods", "system.methodHelp", "system.methodSignature", "system.multicall", "nothing"]
)  # fmt: skip


@bounded
@given(
    method=calls, parameters=st.lists(values, max_size=4), change=st.tuples(st.integers(0, 400), st.binary(max_size=3))
)
def test_any_xmlrpc(front: RunningFront, method: str, parameters: list[object], change: tuple[int, bytes]) -> None:
    whole = xmlrpc.client.dumps(tuple(parameters), method, allow_none=True).encode()  # type: ignore[arg-type]
    where, put = change
    broken = whole[:where] + put + whole[where + len(put) :]
    for body in (whole, broken):
        answer = front.ask("POST", "/RPC2", body)
        assert answer.status == 200
        try:
            ((result,), _) = xmlrpc.client.loads(answer.body)
        except xmlrpc.client.Fault as fault:
            assert fault.faultCode in (-32700, -32601, -32602), fault
        else:
            if method in ("move", "check", "cancel") and body is whole:
                assert result["status"] in ("PENDING", "IN_PROGRESS", "COMPLETED", "FAILED", "REJECTED")


@bounded
@given(path=st.text(max_size=20).map(lambda text: quote(text.encode("utf-8", "surrogatepass"))))
def test_any_path(front: RunningFront, path: str) -> None:
    for top in ("/DM/", "/MSM/", "/data_mover/", "/DM/info/", "/DM/async/"):
        assert front.ask("GET", top + path).status < 500

"""Who may do what over the wire, and what is refused before it is looked at."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
import fronts
from fronts import Front
from mistamover.jobs.model import Scope


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """A front that nobody uses without a token."""
    data = tmp_path_factory.mktemp("data")
    (data / "a").write_bytes(b"x")
    settings = fronts.settings(tmp_path_factory.mktemp("jobs"), data, anonymous="none", max_request=2_000)
    with fronts.running(settings) as front:
        yield front


@pytest.fixture(scope="module")
def clients(closed: Front) -> dict[Scope, Front]:
    """Clients with a token of each scope."""
    return {scope: closed.as_(scope) for scope in (Scope.READ, Scope.SUBMIT, Scope.ADMIN)}


JOB = {"sources": [{"endpoint": "here", "path": "a"}], "destination": {"endpoint": "here", "path": "b"}}
ENDPOINT = {"url": "file:///srv"}

#: A call of each kind, and the scope that it needs.
CALLS = [
    ("GET", "/jobs", None, Scope.READ),
    ("GET", "/jobs/x", None, Scope.READ),
    ("GET", "/jobs/x/events", None, Scope.READ),
    ("GET", "/jobs/x/content", None, Scope.READ),
    ("GET", "/objects", None, Scope.READ),
    ("GET", "/endpoints", None, Scope.READ),
    ("GET", "/endpoints/here/content?path=a", None, Scope.READ),
    ("GET", "/estimate?dst=here&src=here&bytes=1", None, Scope.READ),
    ("POST", "/jobs", JOB, Scope.SUBMIT),
    ("DELETE", "/jobs/x", None, Scope.SUBMIT),
    ("POST", "/jobs/x/retry", None, Scope.SUBMIT),
    ("POST", "/objects", {"endpoint": "here", "path": "a"}, Scope.SUBMIT),
    ("PATCH", "/objects/x", {}, Scope.SUBMIT),
    ("DELETE", "/objects/x", None, Scope.SUBMIT),
    ("POST", "/objects/x/copy", {"destination": {"endpoint": "here"}}, Scope.SUBMIT),
    ("POST", "/objects/x/archive", {}, Scope.SUBMIT),
    ("PUT", "/objects/x/content", {}, Scope.SUBMIT),
    ("PUT", "/endpoints/here/content?path=b", {}, Scope.SUBMIT),
    ("PUT", "/endpoints/new", ENDPOINT, Scope.ADMIN),
    ("PATCH", "/endpoints/new", {}, Scope.ADMIN),
    ("DELETE", "/endpoints/new", None, Scope.ADMIN),
    ("POST", "/endpoints/here/check", None, Scope.ADMIN),
]


@pytest.mark.parametrize(("method", "path", "body", "needed"), CALLS, ids=lambda value: str(value)[:30])
def test_a_call_needs_its_scope(
    closed: Front, clients: dict[Scope, Front], method: str, path: str, body: object, needed: Scope
) -> None:
    nobody = closed.api(method, path, body)
    assert (nobody.status, nobody.code) == (401, "unauthorized")
    assert nobody.headers["www-authenticate"].startswith("Bearer")
    for scope, client in clients.items():
        answer = client.api(method, path, body)
        if scope.includes(needed):
            assert answer.status not in (401, 403), answer.content
        else:
            assert (answer.status, answer.code) == (403, "forbidden")


def test_every_route_of_the_document_refuses_a_stranger(closed: Front) -> None:
    document = closed.api("GET", "/openapi.json").json
    calls = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    assert len(calls) > 25
    open_to_all = [call for call in calls if closed.api(*_filled(call)).status != 401]
    assert open_to_all == [("GET", "/health")]


def _filled(call: tuple[str, str]) -> tuple[str, str]:
    method, path = call
    return method, path.replace("{", "").replace("}", "")


def test_health_tells_a_stranger_nothing_but_whether_all_is_well(closed: Front, clients: dict[Scope, Front]) -> None:
    assert closed.api("GET", "/health").json == {"status": "ok"}
    assert "jobs" in clients[Scope.READ].api("GET", "/health").json


@pytest.mark.parametrize(
    "header",
    ["Bearer mm_wrong", "Bearer ", "Basic !!!", "Basic " + "A" * 3_000, "Digest x", "mm_x", "Bearer \xff\xfe"],
)
def test_wrong_credentials_are_refused_even_where_none_are_needed(closed: Front, header: str) -> None:
    assert closed.api("GET", "/health", headers={"Authorization": header}).status == 401


def test_basic_takes_the_name_of_the_token_as_the_user(closed: Front) -> None:
    secret = closed.store.tokens.create("person", Scope.READ)
    assert closed.api("GET", "/jobs", headers=fronts.basic("person", secret)).status == 200
    assert closed.api("GET", "/jobs", headers=fronts.basic("other", secret)).status == 401
    assert closed.api("GET", "/jobs", headers=fronts.basic("person", "mm_other")).status == 401


def test_a_revoked_token_is_no_good_soon(closed: Front) -> None:
    from support import wait_until

    client = closed.as_(Scope.READ, "leaver")
    assert client.api("GET", "/jobs").status == 200
    closed.store.tokens.revoke("leaver")
    wait_until(lambda: client.api("GET", "/jobs").status == 401, 10, "it is refused")


def test_jobs_of_others_are_seen_and_left_alone(closed: Front, clients: dict[Scope, Front]) -> None:
    job = clients[Scope.SUBMIT].api("POST", "/jobs", JOB).json
    other = closed.as_(Scope.SUBMIT, "another")
    assert other.api("GET", f"/jobs/{job['id']}").json["owner"] == "the-submit"
    for method, path in (("DELETE", f"/jobs/{job['id']}"), ("POST", f"/jobs/{job['id']}/retry")):
        assert other.api(method, path).code == "forbidden"
    assert clients[Scope.ADMIN].api("DELETE", f"/jobs/{job['id']}").json["state"] == "cancelled"


def test_what_opens_a_url_is_shown_to_its_owner_only(clients: dict[Scope, Front]) -> None:
    body = {
        "sources": [{"url": "https://data.example.org/x?signature=opens"}],
        "destination": {"endpoint": "here", "path": "x"},
        "options": {"user": "me", "password": "hush-hush"},
    }
    job = clients[Scope.SUBMIT].api("POST", "/jobs", body)
    assert job.status == 201, job.content
    path = f"/jobs/{job.json['id']}"
    for scope, seen in ((Scope.SUBMIT, True), (Scope.ADMIN, True), (Scope.READ, False)):
        for answer in (clients[scope].api("GET", path), clients[scope].api("GET", f"{path}/items")):
            assert (b"signature=opens" in answer.content) is seen
            assert b"https://data.example.org/x" in answer.content
            assert b"hush" not in answer.content


def test_keys_of_two_owners_are_two_keys(closed: Front) -> None:
    headers = {"Idempotency-Key": "mine"}
    made = {closed.as_(Scope.SUBMIT, name).api("POST", "/jobs", JOB, headers=headers).json["id"] for name in ("u", "v")}
    assert len(made) == 2


def test_only_administrators_are_told_where_things_are(clients: dict[Scope, Front], closed: Front) -> None:
    base = closed.settings.endpoints[0].base
    job = clients[Scope.SUBMIT].api("POST", "/jobs", JOB).json
    for path in (f"/jobs/{job['id']}", "/endpoints", "/endpoints/here"):
        assert base not in clients[Scope.SUBMIT].api("GET", path).content.decode()
        assert base in clients[Scope.ADMIN].api("GET", path).content.decode()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost@evil.example"]
)
def test_another_name_for_this_host_is_refused(closed: Front, host: str) -> None:
    answer = closed.api("GET", "/health", headers={"Host": host})
    assert answer.status in (400, 421)


@pytest.mark.parametrize(
    ("host", "status"), [(b"", 200), (b"Host: localhost\r\n", 200), (b"Host: evil.example\r\n", 421)]
)
def test_programs_that_speak_http_1_0_name_no_host(closed: Front, host: bytes, status: int) -> None:
    with socket.create_connection(("127.0.0.1", closed.port), timeout=10) as sock:
        sock.sendall(b"GET /api/v1/health HTTP/1.0\r\n" + host + b"\r\n")
        with sock.makefile("rb") as answer:
            assert int(answer.readline().split()[1]) == status


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}]
)
def test_pages_of_other_sites_change_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    with fronts.running(fronts.settings(tmp_path / "jobs", tmp_path)) as front:
        answer = front.api("POST", "/jobs", JOB, headers=headers)
        assert (answer.status, answer.code) == (403, "cross-site")
        simple = {**headers, "Content-Type": "text/plain"}
        assert front.api("POST", "/jobs", JOB, headers=simple).status == 403
        assert front.api("POST", "/jobs", JOB, headers={"Content-Type": "text/plain"}).status == 415
        assert front.api("GET", "/jobs").json["jobs"] == []
        answers = [front.api("OPTIONS", "/jobs", headers=headers), front.api("GET", "/jobs", headers=headers)]
        assert not any("access-control-allow-origin" in answer.headers for answer in answers)
        assert front.api("POST", "/jobs", JOB, headers={"Origin": "http://localhost"}).status == 201


def test_what_came_through_a_proxy_is_not_from_here(tmp_path: Path) -> None:
    with fronts.running(fronts.settings(tmp_path / "jobs", tmp_path)) as front:
        assert front.api("GET", "/jobs").status == 200
        assert front.api("GET", "/jobs", headers={"X-Forwarded-For": "127.0.0.1"}).status == 401


def test_a_request_that_is_too_long_is_refused_before_it_is_sent(closed: Front, clients: dict[Scope, Front]) -> None:
    connection = http.client.HTTPConnection(closed.host, closed.port, timeout=10)
    connection.putrequest("POST", "/api/v1/jobs", skip_host=True)
    connection.putheader("Host", "localhost")
    connection.putheader("Authorization", f"Bearer {clients[Scope.SUBMIT].token}")
    connection.putheader("Content-Length", "9999999")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()

    def pieces() -> Iterator[bytes]:
        yield from [b" " * 1_000] * 3

    headers = {"Content-Type": "application/json"}
    answer = clients[Scope.SUBMIT].api("POST", "/jobs", content=pieces(), headers=headers)
    assert (answer.status, answer.code) == (413, "too-large")


def test_a_stranger_is_refused_before_he_has_sent_anything(closed: Front) -> None:
    with socket.create_connection((closed.host, closed.port), timeout=10) as wire:
        wire.sendall(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        assert wire.recv(1_000).startswith(b"HTTP/1.1 401")


def test_who_asks_too_often_is_told_when_to_come_again(tmp_path: Path) -> None:
    settings = fronts.settings(tmp_path / "jobs", tmp_path, requests_per_second=1.0)
    with fronts.running(settings) as front:
        answers = [front.api("GET", "/health") for _ in range(20)]
        refused = [answer for answer in answers if answer.status == 429]
        assert refused
        assert int(refused[0].headers["retry-after"]) >= 1
        assert refused[0].code == "too-many-requests"
        assert front.as_(Scope.READ).api("GET", "/jobs").status == 200


def test_a_full_queue_is_429(tmp_path: Path) -> None:
    settings = fronts.settings(tmp_path / "jobs", tmp_path, max_unfinished=2)
    with fronts.running(settings) as front:
        assert [front.copy(target=f"t{number}").status for number in range(3)] == [201, 201, 429]


def test_a_store_that_cannot_be_used_is_503_and_no_traceback(tmp_path: Path) -> None:
    engines.need_file()
    with fronts.running(fronts.settings(tmp_path / "jobs", tmp_path)) as front:
        front.store.close()
        for file in front.settings.directory.glob("store.sqlite*"):
            file.unlink()
        (front.settings.directory / "store.sqlite").write_bytes(b"this is no database" * 100)
        answers = [front.api("GET", "/jobs"), front.copy(), front.api("GET", "/jobs", headers={"X-Real-IP": ""})]
        assert [answer.status for answer in answers] == [503, 503, 401]
        for answer in answers:
            assert "Traceback" not in answer.content.decode()
            assert str(tmp_path) not in answer.content.decode()
        health = front.api("GET", "/health")
        assert (health.status, health.json["status"], health.json["store"]) == (503, "failing", False)


def test_what_nobody_expected_is_a_number_for_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a secret of the inside")

    with fronts.running(fronts.settings(tmp_path / "jobs", tmp_path)) as front:
        monkeypatch.setattr(front.store.jobs, "page", broken)
        answer = front.api("GET", "/jobs")
        assert (answer.status, answer.code) == (500, "internal")
        assert "secret" not in answer.content.decode()
        number = answer.json["error"]["message"].split()[-1]
        assert number in caplog.text
        assert "a secret of the inside" in caplog.text


def test_dialects_can_be_switched_off(tmp_path: Path) -> None:
    with fronts.running(fronts.settings(tmp_path / "jobs", tmp_path, dialects=())) as front:
        assert front.api("GET", "/jobs").status == 404
        assert front.api("GET", "/openapi.json").status == 404

"""The REST API over real HTTP, with a store and no worker: what is submitted is ended by hand where that matters."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import fronts
from fronts import Front
from mistamover.jobs.model import JobState, Scope
from mistamover.model import StreamState
from mistamover.report import snapshot
from mistamover.report.snapshot import Snapshot


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the endpoint `here`."""
    directory = tmp_path_factory.mktemp("data")
    (directory / "in").mkdir()
    (directory / "in/a").write_bytes(b"0123456789")
    return directory


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Front]:
    """A front that anybody here may submit to; every test uses names of its own."""
    with fronts.running(fronts.settings(tmp_path_factory.mktemp("jobs"), data)) as running:
        yield running


@pytest.fixture(scope="module")
def admin(front: Front) -> Front:
    """The front, as an administrator sees it."""
    return front.as_(Scope.ADMIN, "chief")


# -- jobs -------------------------------------------------------------------------------------


def test_a_submitted_job_can_be_found_by_its_address(front: Front) -> None:
    made = front.copy(label="found")
    assert made.status == 201
    shown = front.ask("GET", made.headers["location"])
    assert shown.status == 200
    assert shown.json["id"] == made.json["id"]
    assert shown.json["state"] == "queued"
    assert shown.json["items"][0]["source"] == {"place": {"endpoint": "here", "path": "in/a"}}
    assert shown.json["items"][0]["target"] == {"endpoint": "here", "path": "out/a"}
    dashed = f"{made.json['id'][:8]}-{made.json['id'][8:]}"
    assert front.api("GET", f"/jobs/{dashed}").json["id"] == made.json["id"]


def test_the_same_key_is_the_same_job_and_another_request_is_refused(front: Front) -> None:
    def ask(target: str) -> fronts.Answer:
        job = {"sources": [{"endpoint": "here", "path": "a"}], "destination": {"endpoint": "here", "path": target}}
        return front.api("POST", "/jobs", job, headers={"Idempotency-Key": "key-1"})

    first, second, other = ask("b"), ask("b"), ask("c")
    assert (first.status, second.status) == (201, 200)
    assert first.json["id"] == second.json["id"]
    assert second.headers["idempotency-replayed"] == "true"
    assert (other.status, other.code) == (422, "key-reused")


def test_one_key_from_many_clients_at_once_is_one_job(front: Front) -> None:
    def ask(_: int) -> fronts.Answer:
        job = {"sources": [{"endpoint": "here", "path": "a"}], "destination": {"endpoint": "here", "path": "b"}}
        return front.api("POST", "/jobs", job, headers={"Idempotency-Key": "key-many"})

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(24)))
    assert sorted(answer.status for answer in answers) == [200] * 23 + [201]
    assert len({answer.json["id"] for answer in answers}) == 1


def test_a_label_is_a_key_where_that_is_said(front: Front) -> None:
    first = front.copy(label="night", label_is_key=True)
    again = front.copy(label="night", label_is_key=True)
    another = front.copy(label="night")
    assert first.json["id"] == again.json["id"] != another.json["id"]


def test_pages_hold_every_job_once_and_the_newest_first(front: Front) -> None:
    made = [front.copy(label="pages").json["id"] for _ in range(7)]
    found, cursor = [], ""
    while True:
        page = front.api("GET", f"/jobs?label=pages&limit=3{cursor}").json
        found += [job["id"] for job in page["jobs"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == made[::-1]


def test_jobs_are_filtered(front: Front) -> None:
    made = front.copy(label="filtered").json
    front.api("DELETE", f"/jobs/{made['id']}")
    kept = front.copy(label="filtered").json

    def found(query: str) -> list[str]:
        return [job["id"] for job in front.api("GET", f"/jobs?label=filtered&{query}").json["jobs"]]

    assert found("state=cancelled") == [made["id"]]
    assert found("state=queued") == [kept["id"]]
    assert found("op=move") == []
    assert found(f"since={kept['created']}") == [kept["id"]]
    assert found("owner=nobody") == []


def test_items_come_in_pages(front: Front) -> None:
    sources = [{"endpoint": "here", "path": f"f{number}"} for number in range(5)]
    job = front.api("POST", "/jobs", {"sources": sources, "destination": {"endpoint": "here", "path": "out/"}}).json
    assert job["progress"]["items"] == 5
    page = front.api("GET", f"/jobs/{job['id']}/items?offset=1&limit=3").json
    assert [item["seq"] for item in page["items"]] == [1, 2, 3]
    assert page["next"] == 4
    assert front.api("GET", f"/jobs/{job['id']}/items?offset={page['next']}").json["next"] is None
    assert len(front.api("GET", f"/jobs/{job['id']}?items=2").json["items"]) == 2
    assert "items" not in front.api("GET", f"/jobs/{job['id']}?items=0").json


def test_a_job_is_cancelled_tried_again_and_forgotten(front: Front) -> None:
    job = f"/jobs/{front.copy().json['id']}"
    assert front.api("POST", f"{job}/retry").code == "retry-refused"
    cancelled = front.api("DELETE", job)
    assert (cancelled.status, cancelled.json["state"]) == (200, "cancelled")
    assert front.api("POST", f"{job}/retry").json["state"] == "queued"
    assert front.api("DELETE", job).status == 200
    assert front.api("DELETE", job).status == 204
    assert front.api("GET", job).code == "unknown-job"


def test_cancelling_what_runs_is_asked_of_its_worker(front: Front) -> None:
    job_id = front.copy().json["id"]
    claim = front.store.claims.claim(job_id, "hand", 60)
    assert claim is not None
    asked = front.api("DELETE", f"/jobs/{job_id}")
    assert (asked.status, asked.json["cancelling"], asked.json["state"]) == (202, True, "running")
    front.store.claims.finish(claim, JobState.CANCELLED)
    assert front.api("GET", f"/jobs/{job_id}").json["state"] == "cancelled"


def test_who_waits_hears_of_the_end_when_it_comes(front: Front) -> None:
    job_id = front.copy().json["id"]
    answers: list[tuple[float, fronts.Answer]] = []

    def wait() -> None:
        answer = front.api("GET", f"/jobs/{job_id}?wait=60", timeout=90)
        answers.append((time.monotonic(), answer))

    waiting = [threading.Thread(target=wait) for _ in range(5)]
    for thread in waiting:
        thread.start()
    fronts.end(front, job_id)
    ended = time.monotonic()
    for thread in waiting:
        thread.join(60)
    assert [answer.json["state"] for _, answer in answers] == ["done"] * 5
    # Far below the time they would have waited: they were woken.
    assert max(when for when, _ in answers) - ended < 30


def test_submitting_and_waiting_gives_202_when_the_time_is_over_and_200_at_the_end(front: Front) -> None:
    job = {"sources": [{"endpoint": "here", "path": "a"}], "destination": {"endpoint": "here", "path": "b"}}
    late = front.api("POST", "/jobs?wait=0.2", job)
    assert (late.status, late.json["state"]) == (202, "queued")
    headers = {"Idempotency-Key": "waits"}
    first = front.api("POST", "/jobs", job, headers=headers)
    fronts.end(front, first.json["id"])
    again = front.api("POST", "/jobs?wait=30", job, headers=headers)
    assert (again.status, again.json["state"]) == (200, "done")


def test_events_are_listed_and_streamed_up_to_the_end(front: Front) -> None:
    job_id = front.copy().json["id"]
    threading.Timer(0.3, fronts.end, (front, job_id)).start()
    stream = front.api("GET", f"/jobs/{job_id}/events", headers={"Accept": "text/event-stream"})
    assert stream.headers["content-type"].startswith("text/event-stream")
    text = stream.content.decode()
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert kinds[0] == "submitted"
    assert "started" in kinds
    assert kinds[-2:] == ["done", "end"]
    listed = front.api("GET", f"/jobs/{job_id}/events").json
    assert [event["kind"] for event in listed["events"]] == kinds[:-1]
    numbers = [event["number"] for event in listed["events"]]
    rest = front.api(
        "GET",
        f"/jobs/{job_id}/events",
        headers={"Accept": "text/event-stream", "Last-Event-ID": str(numbers[0])},
    )
    assert f"id: {numbers[0]}\n" not in rest.content.decode()
    assert f"id: {numbers[-1]}\n" in rest.content.decode()
    assert front.api("GET", f"/jobs/{job_id}/events?after={listed['last']}").json == {
        "events": [],
        "last": listed["last"],
    }


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"sorces": []}, 422, "did you mean sources?"),
        ({"sources": [], "destination": {"endpoint": "here"}}, 422, "sources"),
        ({"sources": [{"endpoint": "here", "path": "a"}]}, 422, "a job has a destination"),
        ({"sources": [{}], "destination": {"endpoint": "here"}}, 422, "a source is exactly one of"),
        ({"sources": [{"url": "http://x/", "object": "y"}], "destination": {"endpoint": "here"}}, 422, "exactly one"),
        ({"sources": [{"endpoint": "here", "path": "../a"}], "destination": {"endpoint": "here"}}, 422, ".."),
        ({"sources": [{"endpoint": "here", "path": "a\0b"}], "destination": {"endpoint": "here"}}, 422, "zero byte"),
        ({"sources": [{"endpoint": "hre", "path": "a"}], "destination": {"endpoint": "here"}}, 404, "mean here?"),
        ({"op": "coppy", "sources": [{"endpoint": "here"}]}, 422, "'copy'"),
        ({"op": "delete", "sources": [{"endpoint": "fixed", "path": "a"}]}, 403, "read_only"),
        ([], 422, "the body"),
        (
            {"sources": [{"url": "file:///etc/passwd"}], "destination": {"endpoint": "here", "path": "x"}},
            404,
            "not allowed",
        ),
        (
            {"sources": [{"endpoint": "here", "path": "a"}], "destination": {"endpoint": "here"}, "priority": 10**400},
            422,
            "priority",
        ),
    ],
)
def test_what_is_wrong_with_a_job_is_said(front: Front, body: Any, status: int, words: str) -> None:
    answer = front.api("POST", "/jobs", body)
    assert answer.status == status, answer.content
    assert words in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe{}", "application/json", 400),
        (b'{"sources": [{"endpoint": "here", "path": "\\ud800"}]}', "application/json", 422),
        (b"[" * 100_000, "application/json", 400),
        (b"1" * 5_000, "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"", "application/json", 422),
    ],
)
def test_what_is_no_request_is_refused(front: Front, content: bytes, kind: str, status: int) -> None:
    answer = front.api("POST", "/jobs", content=content, headers={"Content-Type": kind})
    assert answer.status == status, answer.content
    assert answer.json["error"]["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/x", "/jobs/%00", "/jobs/..%2f..", "/jobs/" + "f" * 32, "/objects/1", "/objects/%ff", "/nothing",
        "/endpoints/nobody", "/endpoints/%00", "/jobs/" + "9" * 5_000,
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(front: Front, path: str) -> None:
    answer = front.api("GET", path)
    assert answer.status == 404
    assert answer.json["error"]["message"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1e9", f"cursor={'9' * 50}", "state=qeued", "since=yesterday", "stat=queued", "limit=1&limt=2"],
)
def test_a_bad_query_is_422(front: Front, query: str) -> None:
    assert front.api("GET", f"/jobs?{query}").status == 422


# -- the catalogue ----------------------------------------------------------------------------


def test_an_object_is_registered_found_and_described(front: Front) -> None:
    made = front.api(
        "POST",
        "/objects",
        {"endpoint": "here", "path": "in/a", "description": "ten digits", "metadata": {"run": [1, {"x": None}]}},
    )
    assert made.status == 201
    assert made.json["size"] == 10
    address = made.headers["location"]
    assert front.ask("GET", address).json == made.json
    assert front.api("POST", "/objects", {"endpoint": "here", "path": "in/a"}).code == "place-taken"
    found = front.api("GET", "/objects?endpoint=here&path=in/a&name=a&state=ACTIVE").json
    assert [each["id"] for each in found["objects"]] == [made.json["id"]]
    changed = front.ask("PATCH", address, {"description": "digits", "metadata": {}})
    assert (changed.json["description"], changed.json["metadata"]) == ("digits", {})
    assert changed.json["modified"] is not None
    assert front.ask("PATCH", address, {"descripton": "x"}).status == 422


def test_an_object_of_nothing_is_refused(front: Front) -> None:
    answer = front.api("POST", "/objects", {"endpoint": "here", "path": "in/nothing"})
    assert (answer.status, answer.code) == (404, "no-content")


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("copy", {"destination": {"endpoint": "here", "path": "out/copy"}}),
        ("move", {"destination": {"endpoint": "here", "path": "out/moved"}}),
        ("archive", {}),
    ],
)
def test_an_object_is_the_subject_of_jobs(front: Front, data: Path, call: str, body: object) -> None:
    (data / f"in/{call}").write_bytes(b"x")
    made = front.api("POST", "/objects", {"endpoint": "here", "path": f"in/{call}"}).json
    job = front.api("POST", f"/objects/{made['id']}/{call}", body)
    assert job.status == 201, job.content
    assert job.json["op"] == call
    if call != "copy":
        again = front.api("POST", f"/objects/{made['id']}/{call}", body)
        assert (again.status, again.code) == (409, "object-locked")
    assert front.api("POST", f"/objects/{made['id']}/activate", {}).code in ("object-state", "object-locked")


def test_numbers_that_are_none_are_refused(front: Front) -> None:
    body = b'{"endpoint": "here", "path": "in/nan", "size": 1, "metadata": {"x": NaN}}'
    answer = front.api("POST", "/objects", content=body, headers={"Content-Type": "application/json"})
    assert answer.status in (400, 422)


# -- endpoints and the rest -------------------------------------------------------------------


def test_endpoints_are_added_changed_and_removed_and_their_secrets_never_shown(front: Front, admin: Front) -> None:
    body = {"url": "sftp://me@far.example.org/data", "password": "s3cret-words", "options": {"nodes": "12"}}
    made = admin.api("PUT", "/endpoints/far", body)
    assert made.status == 200, made.content
    assert made.json["has_password"] is True
    changed = admin.api("PATCH", "/endpoints/far", {"enabled": False})
    assert (changed.json["enabled"], changed.json["has_password"]) == (False, True)
    for each in (front, admin):
        for path in ("/endpoints", "/endpoints/far"):
            assert b"s3cret" not in each.api("GET", path).content
    assert admin.api("DELETE", "/endpoints/far").status == 204
    assert admin.api("GET", "/endpoints/far").status == 404


def test_what_is_written_in_the_configuration_is_changed_only_there(admin: Front) -> None:
    for method, body in (("PUT", {"url": "file:///tmp"}), ("PATCH", {"enabled": False}), ("DELETE", None)):
        answer = admin.api(method, "/endpoints/here", body)
        assert (answer.status, answer.code) == (409, "from-ini")


@pytest.mark.parametrize("body", [None, {}], ids=["no body", "an empty one"])
def test_an_object_is_archived_and_activated_without_a_word(front: Front, data: Path, body: object) -> None:
    name = f"cold-{body is None}"
    (data / "in" / name).write_bytes(b"cold")
    thing = front.api("POST", "/objects", {"endpoint": "here", "path": f"in/{name}"}).json["id"]
    assert front.api("POST", f"/objects/{thing}/activate", body).code == "object-state"
    job = front.api("POST", f"/objects/{thing}/archive", body)
    assert (job.status, job.json["op"]) == (201, "archive")


def test_streams_are_shown_as_they_last_told_of_themselves(tmp_path: Path, data: Path) -> None:
    with fronts.running(fronts.settings(tmp_path / "jobs", data)) as front:
        assert front.api("GET", "/streams").json == {"streams": []}
        for name, state in (
            ("radar", StreamState.SENDING),
            ("model", StreamState.WAITING),
            ("old", StreamState.STOPPED),
        ):
            directory = tmp_path / "streams" / name
            directory.mkdir(parents=True)
            snapshot.write(directory, Snapshot(name=name, state=state, since=1.7e9, seen=5, delivered=3, waiting=2))
        (tmp_path / "streams" / "new").mkdir()
        handle = snapshot.lock(tmp_path / "streams" / "radar" / snapshot.LOCK_FILE)
        assert handle is not None
        with os.fdopen(handle):
            states = {each["name"]: each["state"] for each in front.api("GET", "/streams").json["streams"]}
            assert states == {"radar": "SENDING", "model": "DOWN", "old": "STOPPED"}
            shown = front.api("GET", "/streams/radar").json
        assert (shown["seen"], shown["delivered"], shown["waiting"]) == (5, 3, 2)
        assert shown["since"] == "2023-11-14T22:13:20.000Z"
        assert front.api("GET", "/streams/radar").json["state"] == "DOWN"
        assert front.api("GET", "/streams/new").code == "unknown-stream"
        for method in ("PUT", "DELETE"):
            assert front.as_(Scope.ADMIN, method).api(method, "/streams/radar", {}).status == 405


def test_health_and_estimate(front: Front) -> None:
    health = front.api("GET", "/health").json
    assert (health["status"], health["store"]) == ("ok", True)
    assert set(health["jobs"]) == {str(state) for state in JobState}
    assert front.api("GET", "/estimate?src=here&dst=shelf&bytes=10").code == "no-estimate"
    assert front.api("GET", "/estimate?dst=shelf").status == 422
    job_id = front.copy("in/a", "out/estimated").json["id"]
    fronts.end(front, job_id)
    known = front.api("GET", "/estimate?src=here&dst=here&bytes=100")
    assert known.status in (200, 404), known.content


def test_the_page_and_its_files_need_nothing_from_elsewhere(front: Front) -> None:
    page = front.api("GET", "/docs")
    assert page.status == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    text = page.content.decode()
    assert "http:" not in text and "https:" not in text and "//" not in text.replace("<!", "")
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "start.js"):
        assert name in text
        assert front.api("GET", f"/docs/{name}").status == 200
    assert front.api("GET", "/docs/..%2frest.py").status == 404
    assert front.api("GET", "/openapi.json").json["openapi"].startswith("3.")


def test_a_browser_can_show_the_page(front: Front, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.fail("no chromium on CI") if os.environ.get("CI") else pytest.skip("no chromium")
    shown = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom",
         f"http://localhost:{front.port}/api/v1/docs"],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert shown.stdout.count('class="opblock-summary-path"') > 25
    assert "Content Security Policy" not in shown.stderr

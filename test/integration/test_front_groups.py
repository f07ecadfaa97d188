"""Groups of workers, as a front tells of them: what it refuses, who waits for whom, and who works."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

import fronts
from fronts import Front
from mistamover.config.serving import EndpointSettings
from mistamover.jobs.model import Scope

#: A front that is of the group lab.
MINE = "lab"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    directory = tmp_path_factory.mktemp("front")
    data = directory / "data"
    data.mkdir()
    (data / "a").write_bytes(b"a")
    settings = fronts.settings(directory, data)
    ends = [
        EndpointSettings(name=name, url=f"file://{data}", scheme="file", base=str(data), workers=name)
        for name in ("hpc1", MINE)
    ]
    engine = replace(settings.engine, groups=(MINE,))
    with fronts.running(replace(settings, engine=engine, endpoints=(*settings.endpoints, *ends))) as made:
        yield made


@pytest.fixture(scope="module")
def admin(front: Front) -> Front:
    return front.as_(Scope.ADMIN, "root")


def job(front: Front, source: str, target: str) -> dict[str, object]:
    body = {"sources": [{"endpoint": source, "path": "a"}], "destination": {"endpoint": target, "path": "b"}}
    answer = front.api("POST", "/jobs", body)
    assert answer.status in (201, 202, 422), answer.content
    return answer.json  # type: ignore[no-any-return]


def test_a_job_for_two_groups_is_refused(front: Front) -> None:
    assert job(front, "hpc1", MINE)["error"]["code"] == "no-common-workers"  # type: ignore[index]


def test_it_is_told_who_is_waited_for(front: Front, admin: Front) -> None:
    made = job(front, "here", "hpc1")
    shown = front.api("GET", f"/jobs/{made['id']}").json
    assert shown["waits_for"] == "a worker of the group hpc1"
    front.store.claims.seen("w1", 3, 60, ["", "hpc1"])
    assert front.api("GET", f"/jobs/{made['id']}").json["waits_for"] == ""
    health = admin.api("GET", "/health").json
    assert health["workers"] == {"w1": 3}
    found = {each["name"]: (each["threads"], each["workers"], each["waiting"]) for each in health["groups"]}
    assert found["hpc1"] == (3, ["w1"], 1) and found[""][:2] == (3, ["w1"])


@pytest.mark.parametrize(("endpoint", "status"), [("hpc1", 409), (MINE, 200), ("here", 200)])
def test_an_endpoint_of_another_group_is_not_used_from_here(admin: Front, endpoint: str, status: int) -> None:
    answer = admin.api("POST", f"/endpoints/{endpoint}/check")
    assert answer.status == status, answer.content
    if status == 409:
        assert answer.code == "not-here" and "hpc1" in answer.json["error"]["message"]


def test_content_of_another_group_is_not_read_from_here(admin: Front) -> None:
    answer = admin.api("POST", "/objects", {"endpoint": "hpc1", "path": "a", "size": 1})
    assert answer.status == 201, answer.content
    read = admin.api("GET", f"/objects/{answer.json['id']}/content")
    assert (read.status, read.code) == (409, "not-here")


def test_content_is_not_taken_for_another_group(front: Front) -> None:
    taken = front.api("PUT", "/endpoints/hpc1/content?path=x", content=b"x")
    assert (taken.status, taken.code) == (422, "no-common-workers")
    assert front.api("PUT", f"/endpoints/{MINE}/content?path=x", content=b"x").status in (201, 202)


def test_endpoints_of_the_api_have_groups(admin: Front) -> None:
    made = admin.api("PUT", "/endpoints/new", {"url": "sftp://h.example.org/x", "workers": "hpc1"})
    assert (made.status, made.json["workers"]) == (200, "hpc1"), made.content
    assert admin.api("PATCH", "/endpoints/new", {"workers": ""}).json["workers"] == ""
    assert admin.api("PATCH", "/endpoints/new", {"workers": "@x"}).status == 422

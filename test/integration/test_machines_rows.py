"""The dialect of the machine status manager on the wire, row by row."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from legacy_sites import RunningFront
from mistamover.jobs.model import Scope

MACHINE = {
    "machine_name": "archer",
    "host_name": "login.example.org",
    "scheduler": "slurm",
    "connection_type": "openssh",
    "num_nodes": 10,
    "cores_per_node": 24,
    "base_work_dir": "/work/vestec",
}
NONE = {"msg": "No matching machine"}


@pytest.fixture(scope="module")
def front(old_front: RunningFront) -> Iterator[RunningFront]:
    """A front whose every request here is an administrator's."""
    token = old_front.token("machines", Scope.ADMIN)
    old_front.every_request = {"Authorization": f"Bearer {token}"}
    yield old_front
    old_front.every_request = {}


@pytest.fixture
def name() -> str:
    """The name of a machine that no other test has."""
    return f"m-{uuid.uuid4().hex[:8]}"


def add(front: RunningFront, name: str, **more: Any) -> tuple[int, Any]:
    body = json.dumps({**MACHINE, "machine_name": name, **more}).encode()
    answer = front.ask("POST", "/MSM/add", body, headers={"Content-Type": "application/json"})
    return answer.status, answer.json


def machines(front: RunningFront) -> dict[str, dict[str, Any]]:
    answer = front.ask("GET", "/MSM/machinestatuses")
    assert answer.status == 200
    return {machine["name"]: machine for machine in answer.json}


def msg(front: RunningFront, method: str, path: str) -> tuple[int, Any]:
    answer = front.ask(method, path)
    return answer.status, answer.json


@pytest.mark.parametrize("slash", ["", "/"])
def test_health(front: RunningFront, slash: str) -> None:
    assert msg(front, "GET", f"/MSM/health{slash}") == (200, {"status": 200})


def test_a_machine_is_added_disabled(front: RunningFront, name: str) -> None:
    assert add(front, name) == (201, {"msg": "Machine added"})
    machine = machines(front)[name]
    uuid.UUID(machine.pop("uuid"))
    assert machine == {
        "name": name,
        "host_name": "login.example.org",
        "scheduler": "slurm",
        "connection_type": "openssh",
        "nodes": 10,
        "cores_per_node": 24,
        "enabled": False,
        "test_mode": False,
    }
    endpoint = front.endpoints.get(name)
    assert endpoint is not None
    assert (endpoint.scheme, endpoint.host, endpoint.base) == ("sftp", "login.example.org", "/work/vestec")
    assert add(front, name)[0] == 409


@pytest.mark.parametrize("by", ["uuid", "name"])
def test_a_machine_is_changed_and_deleted(front: RunningFront, name: str, by: str) -> None:
    add(front, name)
    identity = machines(front)[name][by]
    for call, message, field, value in (
        ("enable", "Machine enabled", "enabled", True),
        ("enable_testmode", "Test mode enabled", "test_mode", True),
        ("disable_testmode", "Test mode disabled", "test_mode", False),
        ("disable", "Machine disabled", "enabled", False),
    ):
        assert msg(front, "POST", f"/MSM/{call}/{identity}") == (200, {"msg": message})
        assert machines(front)[name][field] is value
        assert machines(front)[name]["nodes"] == 10
    assert msg(front, "DELETE", f"/MSM/machine/{identity}") == (200, {"msg": "Machine deleted"})
    assert name not in machines(front)
    assert msg(front, "DELETE", f"/MSM/machine/{identity}") == (404, NONE)


@pytest.mark.parametrize("call", ["enable", "disable", "enable_testmode", "disable_testmode"])
def test_no_such_machine(front: RunningFront, call: str) -> None:
    assert msg(front, "POST", f"/MSM/{call}/{uuid.UUID(int=0)}") == (404, NONE)


@pytest.mark.parametrize("lacking", sorted(MACHINE))
def test_add_needs_its_fields(front: RunningFront, name: str, lacking: str) -> None:
    body = {**MACHINE, "machine_name": name}
    del body[lacking]
    answer = front.ask("POST", "/MSM/add", json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    assert (answer.status, lacking in answer.json["msg"]) == (400, True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host_name": "-oProxyCommand=x"}, ""),
        ({"host_name": "a b"}, "host_name"),
        ({"host_name": "h/../x"}, "host_name"),
        ({"base_work_dir": "relative"}, "base_work_dir"),
        ({"connection_type": "telnet"}, "openssh"),
        ({"num_nodes": "many"}, "num_nodes"),
        ({"machine_name": "../x"}, ""),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)
def test_machines_that_are_refused(front: RunningFront, name: str, change: dict[str, object], words: str) -> None:
    before = machines(front)
    status, said = add(front, name, **change) if "machine_name" not in change else add(front, "../x")
    assert (status, words in said["msg"]) == (400, True), said
    assert machines(front) == before


def test_a_dummy_is_in_test_mode(front: RunningFront, name: str) -> None:
    add(front, name, connection_type="dummy")
    machine = machines(front)[name]
    assert (machine["test_mode"], machine["connection_type"]) == (True, "dummy")


def test_in_test_mode_everything_is_answered_and_nothing_is_done(front: RunningFront, name: str) -> None:
    add(front, name, connection_type="dummy")
    msg(front, "POST", f"/MSM/enable/{name}")
    asked = {"filename": "a", "path": "", "machine": name, "size": 1, "description": "", "originator": "", "group": ""}
    thing = front.ask("PUT", "/DM/register", asked).text
    copy = front.ask("POST", f"/DM/copy/{thing}", {"machine": name, "dest": "b"})
    assert copy.status == 201, copy.text
    assert front.ask("GET", f"/DM/get/{copy.text}").body == b"This machine is in test mode.\n"
    assert front.ask("DELETE", f"/DM/remove/{copy.text}").text == "b deleted"


def test_user_and_key_can_be_given_and_are_not_shown(front: RunningFront, name: str) -> None:
    assert add(front, name, username="mover", key="-----BEGIN KEY-----\nsecret\n-----END KEY-----")[0] == 201
    endpoint = front.endpoints.get(name)
    assert endpoint is not None
    assert (endpoint.user, endpoint.identity_file is not None) == ("mover", True)
    assert endpoint.identity_file is not None
    assert endpoint.identity_file.stat().st_mode & 0o777 == 0o600
    assert "secret" not in front.ask("GET", "/MSM/machinestatuses").text


def test_a_machine_of_the_configuration_stays_as_it_is(front: RunningFront) -> None:
    status, said = msg(front, "POST", "/MSM/disable/localhost")
    assert (status, "configuration" in said["msg"]) == (409, True)
    status, said = msg(front, "DELETE", "/MSM/machine/localhost")
    assert (status, "configuration" in said["msg"]) == (409, True)
    assert machines(front)["localhost"]["enabled"] is True


def test_machines_are_not_chosen_here(front: RunningFront) -> None:
    status, said = msg(front, "POST", "/MSM/matchmachine")
    assert status == 501
    assert "queues" in said["msg"]


def test_machines_are_for_administrators(front: RunningFront, name: str) -> None:
    token = front.token(f"t-{name}", Scope.SUBMIT)
    assert front.ask("GET", "/MSM/machinestatuses", token=token).status == 200
    for method, path in (
        ("POST", "/MSM/add"),
        ("DELETE", "/MSM/machine/localhost"),
        ("POST", "/MSM/enable/localhost"),
        ("POST", "/MSM/disable/localhost"),
        ("POST", "/MSM/enable_testmode/localhost"),
        ("POST", "/MSM/disable_testmode/localhost"),
    ):
        assert front.ask(method, path, token=token).status == 403, path


def test_what_a_token_does_not_allow_is_told_as_all_else_is(front: RunningFront) -> None:
    token = front.token("reader-of-machines", Scope.READ)
    answer = front.ask("DELETE", "/MSM/machine/tape", token=token)
    assert (answer.status, set(answer.json)) == (403, {"msg"})
    answer = front.ask("DELETE", "/MSM/machine/tape", headers={"Authorization": "Bearer mm_unknown"})
    assert (answer.status, "www-authenticate" in answer.headers) == (401, True)

"""The REST API against its own OpenAPI document: whatever is sent, the answer is one of those that it tells of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import cart_sites
import fronts
from fronts import Front
from mistamover.jobs.model import Scope

#: Seconds for all operations together; what is not tried by then is tried less.
BUDGET = 15.0
EXAMPLES = 18

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    data = tmp_path_factory.mktemp("data")
    (data / "a").write_bytes(b"0123456789")
    settings = cart_sites.with_carts(fronts.settings(tmp_path_factory.mktemp("jobs"), data))
    with fronts.running(settings) as running:
        yield running.as_(Scope.ADMIN)


def known(front: Front) -> dict[str, list[str]]:
    """Return ids that there are, for the parameters of paths: at random none would ever be found."""
    done = front.copy("a", "b").json["id"]
    fronts.end(front, done)
    queued = front.copy("a", "c", label="kept").json["id"]
    cancelled = front.copy("a", "d").json["id"]
    front.api("DELETE", f"/jobs/{cancelled}")
    registered = front.api("POST", "/objects", {"endpoint": "here", "path": "a"}).json["id"]
    front.api("PUT", "/endpoints/added", {"url": "file:///nowhere/at/all"})
    for uid in ("ready", "waiting", "failed"):
        front.api("POST", "/carts", {"uid": uid, **cart_sites.asked(cart_sites.SEED)})
    cart_sites.filled(front, "ready")
    cart_sites.failed(front, "failed", "No Space Available")
    return {
        "job_id": [done, queued, cancelled],
        "object_id": [registered],
        "uid": ["ready", "waiting", "failed"],
        "name": ["here", "shelf", "fixed", "added"],
    }


def test_whatever_is_sent_the_answer_is_one_of_the_document(front: Front) -> None:
    ids = known(front)
    url = f"http://{front.host}:{front.port}/api/v1"
    headers = {"Authorization": f"Bearer {front.token}", "Host": "localhost"}
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", headers={"Host": "localhost"})
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 25
    started = time.monotonic()
    tried: dict[str, int] = {}
    for number, operation in enumerate(operations):
        until = started + BUDGET * (number + 1) / len(operations)
        label = f"{operation.method.upper()} {operation.path}"
        tried[label] = _try(operation, ids, headers, until)
    # Each was tried with something, or this proved nothing.
    assert min(tried.values()) >= 3, tried


def _try(operation: Any, ids: dict[str, list[str]], headers: dict[str, str], until: float) -> int:
    """Try one operation with what its schema allows, and with what it does not; return how often."""
    count = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=_cases(operation), pick=st.integers(0, 99))
    def run(case: Any, pick: int) -> None:
        nonlocal count
        if count >= 3 and time.monotonic() > until:
            return
        count += 1
        for name, values in ids.items():
            if name in (case.path_parameters or {}) and pick < 80:
                case.path_parameters[name] = values[pick % len(values)]
        if "wait" in (case.query or {}):
            # It is checked with its bad values, and not waited for.
            case.query["wait"] = min(case.query["wait"], 0.01) if isinstance(case.query["wait"], float) else 0
        case.call_and_validate(headers=headers, checks=CHECKS, timeout=30)

    run()
    return count


def _cases(operation: Any) -> Any:
    positive = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    if not operation.body and not operation.query and not operation.headers:
        # Nothing of it can be wrong but the path, which is given anyway.
        return positive
    return positive | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

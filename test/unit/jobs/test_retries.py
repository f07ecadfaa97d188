"""What becomes of a job that could not be ended, and how long an endpoint that cannot be reached is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from mistamover.jobs.model import Circuit, Job, JobState, Op, Packaging, Progress
from mistamover.jobs.work import retries
from mistamover.jobs.work.retries import Again, End, Unreachable


def job(**more: Any) -> Job:
    values: dict[str, Any] = {
        "id": "0" * 32, "op": Op.COPY, "state": JobState.RUNNING, "owner": "me", "label": "", "origin": "rest",
        "packaging": Packaging.NONE, "package": None, "overwrite": False, "priority": 0, "deadline": None,
        "options": {}, "callback": None, "reason": "", "result": {}, "cancelling": False, "attempts": 1,
        "not_before": None,
        "created": 1000.0, "started": 1000.0, "ended": None,
        "progress": Progress(items=1, items_done=0, bytes=0, bytes_done=0),
    }  # fmt: skip
    return Job(**{**values, **more})


def after(now: float, since: float | None, *, not_before: float | None = None, **more: Any) -> End | Again:
    return retries.after(
        job(**more), reason="no route", not_before=not_before, unreachable_since=since, now=now, give_up_after=60
    )


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(("failures", "pause"), [(0, 1), (1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (1000, 60)])
def test_pauses_double_up_to_a_limit_and_leave_something_to_chance(failures: int, pause: float, chance: float) -> None:
    found = retries.pause_of(failures, chance)
    assert found == pytest.approx(pause * (0.8 + 0.4 * chance))


@pytest.mark.parametrize(
    ("now", "since", "gives_up"),
    [
        (1059.0, 900.0, False),  # it has not waited for long enough, the endpoint is away for longer
        (1060.0, 900.0, True),
        (5000.0, 4990.0, False),  # it has waited long, for its turn: the endpoint has just gone
        (5050.0, 4990.0, True),
        (9999.0, None, False),  # nothing is unreachable
    ],
)
def test_waiting_for_an_endpoint_is_given_up(now: float, since: float | None, gives_up: bool) -> None:
    found = after(now, since)
    if gives_up:
        assert found == End(state=JobState.FAILED, reason="no route (given up after 60 s)")
    else:
        assert found == Again(not_before=None, reason="no route")


def test_it_waits_until_the_time_that_was_said() -> None:
    assert after(1001.0, None, not_before=1005.0) == Again(not_before=1005.0, reason="no route")


@pytest.mark.parametrize(
    ("now", "not_before", "late"), [(1009.0, None, False), (1010.0, None, True), (1001.0, 1010.0, True)]
)
def test_what_would_come_after_the_deadline_fails_now(now: float, not_before: float | None, late: bool) -> None:
    found = after(now, None, not_before=not_before, deadline=1010.0)
    if late:
        assert found == End(state=JobState.FAILED, reason="it did not end before its deadline; last: no route")
    else:
        assert isinstance(found, Again)


def circuits(**failures: int) -> dict[str, Circuit]:
    return {name: Circuit(until=0.0, failures=number, reason="") for name, number in failures.items()}


def test_since_when_an_endpoint_is_away_is_known_from_its_first_failure() -> None:
    known = Unreachable()
    assert known.failed("a", 1, 100.0) == 100.0
    assert known.failed("a", 2, 150.0) == 100.0
    # It was there in between, and another worker has seen it.
    assert known.failed("a", 1, 200.0) == 200.0
    # Another worker saw it fail before.
    assert known.failed("b", 3, 210.0) == 210.0
    known.known(circuits(b=4, c=1), 220.0)
    assert sorted(known.hopeless(280.0, 60)) == ["b", "c"]
    assert list(known.hopeless(275.0, 60)) == ["b"]
    assert known.failed("a", 2, 300.0) == 300.0

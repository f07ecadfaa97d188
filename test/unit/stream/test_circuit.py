"""The circuit of a target: a history of faults and successes, with a given clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.stream.circuit import FIRST_PAUSE, LONGEST_PAUSE, Circuit


def test_new_circuit_lets_everything_through() -> None:
    circuit = Circuit()
    assert circuit.closed
    assert not circuit.probe_due(1e9)
    assert not circuit.worked()


def test_pause_doubles_up_to_the_longest() -> None:
    circuit, now, pauses = Circuit(), 100.0, []
    for _ in range(12):
        circuit.failed("down", now, 0.5)
        pauses.append(circuit.retry_at - now)
        now = circuit.retry_at
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, *[60] * 6])
    assert (circuit.since, circuit.failures, circuit.reason) == (100.0, 12, "down")


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_chance_spreads_the_pause(chance: float, pause: float) -> None:
    circuit = Circuit()
    circuit.failed("down", 0.0, chance)
    assert circuit.retry_at == pytest.approx(pause * FIRST_PAUSE)


def test_probe_is_due_at_its_time_and_success_closes() -> None:
    circuit = Circuit()
    circuit.failed("down", 0.0, 0.5)
    assert not circuit.probe_due(0.99)
    assert circuit.probe_due(1.0)
    assert circuit.worked()
    assert (circuit.closed, circuit.reason, circuit.probe_due(5.0)) == (True, "", False)
    circuit.failed("down again", 10.0, 0.5)
    assert (circuit.retry_at, circuit.since) == (11.0, 10.0)


def test_operator_hurries_it() -> None:
    circuit = Circuit()
    circuit.failed("down", 0.0, 0.5)
    circuit.hurry(0.3)
    assert circuit.probe_due(0.3)
    circuit.hurry(9.0)
    assert circuit.retry_at == 0.3


@given(st.lists(st.tuples(st.sampled_from(["failed", "worked", "hurry"]), st.floats(0, 100), st.floats(0, 1))))
def test_any_history_keeps_its_bounds(history: list[tuple[str, float, float]]) -> None:
    circuit, now = Circuit(), 0.0
    for event, pause, chance in history:
        now += pause
        if event == "failed":
            circuit.failed("x", now, chance)
            assert now < circuit.retry_at <= now + 1.2 * LONGEST_PAUSE
        elif event == "worked":
            circuit.worked()
            assert circuit.closed
        else:
            circuit.hurry(now)
            assert circuit.closed or circuit.probe_due(now)
        assert circuit.closed == (circuit.failures == 0)


def test_the_first_loss_after_a_delivery_is_forgiven_with_all_that_was_under_way() -> None:
    circuit = Circuit()
    assert not circuit.forgives(1.0, 2.0), "nothing was delivered yet: the target may never have worked"
    circuit.proved()
    assert circuit.forgives(1.0, 2.0)
    assert circuit.forgives(1.9, 2.1), "the other lane met the same loss"
    assert not circuit.forgives(2.05, 3.0), "the new connection was lost as well, before it carried anything"
    circuit.proved()
    assert circuit.forgives(3.0, 4.0)


def test_an_open_circuit_forgives_nothing() -> None:
    circuit = Circuit()
    circuit.proved()
    circuit.failed("down", 1.0, 0.5)
    assert not circuit.forgives(0.5, 1.5)

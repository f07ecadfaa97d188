"""How much one client may ask."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mistamover.front.limits import Buckets


@given(
    rate=st.floats(0.1, 1_000),
    steps=st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 10)), min_size=1, max_size=200),
)
def test_no_client_gets_more_than_its_rate_and_its_burst(rate: float, steps: list[tuple[str, float]]) -> None:
    buckets = Buckets(rate)
    now = 0.0
    taken = {"a": 0, "b": 0}
    for client, pause in steps:
        now += pause
        taken[client] += buckets.take(client, now) == 0
        assert taken[client] <= max(1.0, 2 * rate) + rate * now + 1e-6


@given(rate=st.floats(0.1, 1_000))
def test_who_waits_as_long_as_he_is_told_may_go_on(rate: float) -> None:
    buckets = Buckets(rate)
    now = 0.0
    while not (pause := buckets.take("a", now)):
        pass
    assert buckets.take("b", now) == 0
    assert buckets.take("a", now + pause + 1e-6) == 0

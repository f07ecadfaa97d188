"""Which lanes are open: limits, owners and circuits, without any store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mistamover.jobs.model import Circuit
from mistamover.jobs.store.lanes import Lane, Limits, open_lanes
from stores import START

NAMES = st.sampled_from("abcd")
LANES = st.builds(
    lambda owner, endpoints: Lane(number=0, owner=owner, endpoints=sorted(endpoints)), NAMES, st.sets(NAMES)
)


@given(LANES, st.lists(LANES, max_size=8), st.dictionaries(NAMES, st.integers(0, 3)), st.integers(0, 3))
def test_no_limit_is_exceeded_and_none_is_kept_without_need(
    lane: Lane, busy: list[Lane], most: dict[str, int], owner: int
) -> None:
    free = open_lanes([lane], busy, Limits(endpoints=most, owner=owner), {}, START)
    after = [*busy, lane]
    exceeds = any(
        0 < most.get(name, 0) < sum(name in each.endpoints for each in after) for name in lane.endpoints
    ) or 0 < owner < sum(each.owner == lane.owner for each in after)
    assert bool(free) is not exceeds


@given(LANES, st.lists(LANES, max_size=4), NAMES, st.floats(-10, 10))
def test_a_broken_endpoint_is_tried_by_one_when_its_time_has_come(
    lane: Lane, busy: list[Lane], name: str, ago: float
) -> None:
    broken = {name: Circuit(until=START - ago, failures=3, reason="x")}
    free = open_lanes([lane], busy, Limits(), broken, START)
    tried = any(name in each.endpoints for each in busy)
    assert bool(free) is (name not in lane.endpoints or (START - ago <= START and not tried))

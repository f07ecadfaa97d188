"""How large a batch may be follows from how long the last ones took."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mistamover.stream.pace import BATCH_BYTES, BATCH_FILES, BATCH_SECONDS, LEAST_COST, Pace, cost

MIB = 1024 * 1024


def test_a_target_of_which_nothing_is_known_gets_the_largest_batch() -> None:
    assert Pace().limit == cost(BATCH_FILES, BATCH_BYTES)


def test_a_batch_that_took_too_long_shrinks_the_next_one_to_what_fits() -> None:
    pace = Pace()
    pace.learn(100 * MIB, 50.0)  # 2 MiB a second
    assert pace.limit == 2 * MIB * BATCH_SECONDS


def test_small_batches_of_a_quick_target_change_nothing() -> None:
    pace = Pace()
    pace.learn(cost(1, 4096), 0.004)
    assert pace.limit == cost(BATCH_FILES, BATCH_BYTES)


def test_a_target_that_has_become_quick_gets_more_again_but_not_at_once() -> None:
    pace = Pace()
    pace.learn(100 * MIB, 100.0)
    slow = pace.limit
    pace.learn(5 * MIB, 0.01)
    assert pace.limit == 2 * slow
    for _ in range(20):
        pace.learn(pace.limit, 0.01)
    assert pace.limit == cost(BATCH_FILES, BATCH_BYTES)


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.floats(0.0, 1e6)), max_size=30))
def test_the_bound_stays_within_its_own_bounds_whatever_happens(batches: list[tuple[int, float]]) -> None:
    pace = Pace()
    for spent, seconds in batches:
        pace.learn(spent, seconds)
        assert LEAST_COST <= pace.limit <= cost(BATCH_FILES, BATCH_BYTES)

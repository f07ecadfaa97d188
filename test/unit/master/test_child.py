"""The life of a stream's process: histories of events, played with a given clock."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.config.load import load
from mistamover.config.settings import StreamSettings
from mistamover.master.child import START_SECONDS, Child, ChildState, Wish
from mistamover.master.fork import ends_well, how_it_ended
from mistamover.stream.process import Exit
from support import Site


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> StreamSettings:
    site = Site(tmp_path_factory.mktemp("site"))
    site.add("one")
    return load(site.global_ini, {}).streams[0]


def started(settings: StreamSettings, now: float = 0.0) -> Child:
    child = Child(settings=settings)
    assert child.tick(now) is Wish.START
    child.started(7, now)
    return child


def test_it_starts_and_after_a_while_it_runs(settings: StreamSettings) -> None:
    child = started(settings)
    assert (child.state, child.next_moment()) == (ChildState.STARTING, START_SECONDS)
    assert child.tick(START_SECONDS - 0.1) is Wish.NOTHING
    assert child.state is ChildState.STARTING
    child.tick(START_SECONDS)
    assert (child.state, child.next_moment()) == (ChildState.RUNNING, None)


def test_deaths_at_once_slow_it_down(settings: StreamSettings) -> None:
    child, now, pauses = started(settings), 0.0, []
    for _ in range(9):
        child.exited("was killed by SIGKILL", False, now)
        assert (child.state, child.pid) == (ChildState.BACKOFF, None)
        pauses.append(child.retry_at - now)
        assert child.tick(child.retry_at - 0.01) is Wish.NOTHING
        now = child.retry_at
        assert child.tick(now) is Wish.START
        child.started(8, now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert child.restarts == 9


def test_a_long_life_is_forgiven(settings: StreamSettings) -> None:
    child = started(settings)
    for moment in (0.0, 1.0):
        child.exited("x", False, moment)
        child.started(8, moment + 1)
    child.tick(10.0)
    child.exited("x", False, 2.0 + 61)
    assert child.retry_at == 2.0 + 61 + 1


def test_a_good_end_is_final(settings: StreamSettings) -> None:
    child = started(settings)
    child.exited("has completed its stream", True, 3.0)
    assert (child.state, child.tick(1e9), child.next_moment(), child.gone) == (
        ChildState.ENDED,
        Wish.NOTHING,
        None,
        False,
    )


def test_stop_waits_then_kills(settings: StreamSettings) -> None:
    child = started(settings)
    assert child.stop(10.0)
    assert child.stop(12.0)  # saying it twice does not prolong it
    limit = 10.0 + settings.stop_timeout
    assert child.tick(limit) is Wish.NOTHING
    moment = child.next_moment()
    assert moment is not None and moment > limit
    assert child.tick(moment) is Wish.KILL
    child.exited("was killed by SIGKILL", False, moment)
    assert (child.state, child.gone) == (ChildState.ENDED, True)


def test_new_settings_take_over_when_the_old_process_has_ended(settings: StreamSettings) -> None:
    child = started(settings)
    child.exited("x", False, 0.0)
    child.started(8, 1.0)
    changed = replace(settings, priority=1)
    assert child.stop(2.0, successor=changed)
    assert child.settings is settings
    child.exited("ended", False, 3.0)
    assert (child.settings, child.successor, child.failures) == (changed, None, 0)
    assert child.tick(3.0) is Wish.START


def test_new_settings_end_a_pause(settings: StreamSettings) -> None:
    child = started(settings)
    child.exited("x", False, 0.0)
    assert not child.stop(0.1, successor=replace(settings, priority=1))
    assert child.tick(0.1) is Wish.START


def test_stop_during_a_pause_is_over_at_once(settings: StreamSettings) -> None:
    child = started(settings)
    child.exited("x", False, 0.0)
    assert not child.stop(0.1)
    assert child.gone
    assert child.tick(1e9) is Wish.NOTHING


def test_the_last_wish_counts(settings: StreamSettings) -> None:
    child = started(settings)
    child.stop(1.0, successor=replace(settings, priority=1))
    child.stop(2.0)
    child.exited("ended", False, 3.0)
    assert child.gone


@given(st.lists(st.tuples(st.sampled_from(["tick", "well", "ill", "stop", "replace"]), st.floats(0, 100))))
def test_any_history_keeps_its_order(settings: StreamSettings, history: list[tuple[str, float]]) -> None:
    child, now = Child(settings=settings), 0.0
    for event, pause in history:
        now += pause
        if event == "stop":
            assert child.stop(now) == (child.pid is not None)
        elif event == "replace":
            child.stop(now, successor=settings)
        elif event in ("well", "ill") and child.pid is not None:
            child.exited("x", event == "well", now)
            assert child.pid is None
        elif child.tick(now) is Wish.START:
            assert child.pid is None
            child.started(9, now)
        assert (child.pid is not None) == (
            child.state in (ChildState.STARTING, ChildState.RUNNING, ChildState.STOPPING)
        )
        if child.state is ChildState.BACKOFF:
            assert child.retry_at <= now + 60
        moment = child.next_moment()
        if child.pid is None and child.state is not ChildState.ENDED:
            assert moment is not None


@pytest.mark.parametrize(
    ("code", "one_off", "well"),
    [
        (Exit.DONE, False, False),
        (Exit.DONE, True, True),
        (Exit.LEFT, True, True),
        (Exit.COMPLETE, False, True),
        (Exit.COMPLETE, True, True),
        (Exit.BROKEN, True, False),
        (Exit.BUSY, True, False),
        (-9, True, False),
    ],
)
def test_ends_well(code: int, one_off: bool, well: bool) -> None:
    assert ends_well(code, one_off=one_off) is well


def test_ends_in_words() -> None:
    assert how_it_ended(-9) == "was killed by SIGKILL"
    assert how_it_ended(3) == "ended with status 3"
    assert all(how_it_ended(code) for code in Exit)


def test_the_first_pause_is_as_it_is_configured(settings: StreamSettings) -> None:
    child, now, pauses = Child(settings=settings, first_pause=0.25), 0.0, []
    for _ in range(12):
        child.started(7, now)
        child.exited("was killed", False, now)
        pauses.append(child.retry_at - now)
        now = child.retry_at
    assert pauses == [min(60.0, 0.25 * 2**number) for number in range(12)]

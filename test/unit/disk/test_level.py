"""Levels, holds, and who has to wait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.config.load import load
from mistamover.config.settings import DiskSettings, Levels, StreamSettings
from mistamover.disk.level import Hold, Level, Space, held, hold_after, level_of, shortage

NONE = Levels(good=0, low=0, vlow=0)
SETTINGS = DiskSettings(
    enabled=True,
    space=Levels(good=30, low=20, vlow=10),
    inodes=NONE,
    base_priority=100,
    poll_interval=1,
    delete_undelivered=False,
)
LEVELS, HOLDS = st.sampled_from(Level), st.sampled_from(Hold)


def space(free: int, *, inodes_free: int = 0, inodes: int = 0) -> Space:
    return Space(free=free, total=100, inodes_free=inodes_free, inodes=inodes)


@pytest.mark.parametrize(
    ("free", "level"),
    [
        (0, Level.VLOW),
        (9, Level.VLOW),
        (10, Level.LOW),
        (19, Level.LOW),
        (20, Level.OKAY),
        (30, Level.OKAY),
        (31, Level.GOOD),
    ],
)
def test_the_level_follows_from_what_is_free(free: int, level: Level) -> None:
    assert level_of(space(free), SETTINGS) is level


def test_the_worse_of_space_and_inodes_counts() -> None:
    both = replace(SETTINGS, inodes=Levels(good=5, low=3, vlow=1))
    assert level_of(space(99, inodes_free=2, inodes=100), both) is Level.LOW
    assert level_of(space(15, inodes_free=50, inodes=100), both) is Level.LOW
    assert level_of(space(99, inodes_free=50, inodes=100), both) is Level.GOOD
    # A filesystem that makes inodes as they are needed.
    assert level_of(space(99), both) is Level.GOOD


def test_without_thresholds_all_is_well() -> None:
    assert level_of(space(0, inodes_free=0, inodes=9), replace(SETTINGS, space=NONE)) is Level.GOOD


@pytest.mark.parametrize(
    ("before", "level", "helps", "after"),
    [
        (Hold.NONE, Level.GOOD, True, Hold.NONE),
        (Hold.BASE, Level.GOOD, True, Hold.NONE),
        (Hold.ALL, Level.GOOD, True, Hold.NONE),
        (Hold.NONE, Level.OKAY, True, Hold.NONE),
        (Hold.BASE, Level.OKAY, True, Hold.BASE),
        (Hold.ALL, Level.OKAY, True, Hold.BASE),
        (Hold.NONE, Level.LOW, True, Hold.BASE),
        (Hold.BASE, Level.LOW, True, Hold.BASE),
        (Hold.ALL, Level.LOW, True, Hold.ALL),
        (Hold.NONE, Level.VLOW, True, Hold.BASE),
        (Hold.BASE, Level.VLOW, False, Hold.ALL),
        (Hold.ALL, Level.VLOW, True, Hold.ALL),
    ],
)
def test_the_table_of_holds(before: Hold, level: Level, helps: bool, after: Hold) -> None:
    assert hold_after(before, level, nothing_helps=not helps) is after


@given(HOLDS, LEVELS, st.booleans())
def test_a_second_look_at_the_same_changes_nothing(before: Hold, level: Level, nothing_helps: bool) -> None:
    once = hold_after(before, level, nothing_helps=nothing_helps)
    assert hold_after(once, level, nothing_helps=nothing_helps) is once


@given(HOLDS, LEVELS, LEVELS)
def test_more_room_never_holds_more(before: Hold, one: Level, other: Level) -> None:
    assert hold_after(before, max(one, other)) <= hold_after(before, min(one, other))


@given(st.lists(LEVELS))
def test_nothing_that_was_held_goes_on_below_okay(levels: list[Level]) -> None:
    hold = Hold.NONE
    for level in levels:
        before, hold = hold, hold_after(hold, level)
        assert hold >= before or level >= Level.OKAY


@pytest.fixture
def streams(tmp_path: Path) -> list[StreamSettings]:
    """Three streams of priorities 50, 100 and 200, in no order."""
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "global.ini").write_text(
        f"[global]\nbase_data_dir = {tmp_path}\ndata_stream_list = high a low\n[outgoing]\ntransfer_protocol = none\n"
    )
    for name, priority in (("high", 200), ("a", 100), ("low", 50)):
        (conf / f"ds_{name}.ini").write_text(f"[data_stream]\npriority = {priority}\n")
    return list(load(conf / "global.ini", {}).streams)


@pytest.mark.parametrize(
    ("hold", "names"), [(Hold.NONE, []), (Hold.BASE, ["low", "a"]), (Hold.ALL, ["low", "a", "high"])]
)
def test_who_has_to_wait_the_least_important_first(hold: Hold, names: list[str], streams: list[StreamSettings]) -> None:
    assert [stream.name for stream in held(hold, streams, 100)] == names


@given(st.integers(0, 100), st.integers(0, 1000))
def test_a_shortage_is_what_leads_out_of_vlow(free: int, inodes_free: int) -> None:
    both = replace(SETTINGS, inodes=Levels(good=5, low=3, vlow=1))
    now = space(free, inodes_free=inodes_free, inodes=1000)
    missing = shortage(now, both)
    assert (missing is None) == (level_of(now, both) is not Level.VLOW)
    if missing is not None:
        then = replace(now, free=free + missing.space, inodes_free=inodes_free + missing.inodes)
        assert level_of(then, both) > Level.VLOW

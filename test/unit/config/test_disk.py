"""The thresholds of the disk guard, and what may be deleted."""

from __future__ import annotations

import pytest

from mistamover.config.settings import Levels
from unit.config.sites import Site

MIB = 1024 * 1024


def test_without_a_threshold_nothing_is_watched(site: Site) -> None:
    site.write_global("[disk_space_monitor]\nbase_priority = 7\npoll_interval = 5\n")
    disk = site.load().disk
    assert not disk.enabled
    assert (disk.base_priority, disk.poll_interval, disk.delete_undelivered) == (7, 5, False)


def test_thresholds_are_mebibytes_and_percent(site: Site) -> None:
    site.write_global("[disk_space_monitor]\nlevel_good = 1500\nlevel_low = 1000\nlevel_vlow = 500\ninodes_good = 9\n")
    disk = site.load().disk
    assert disk.enabled
    assert disk.space == Levels(good=1500 * MIB, low=1000 * MIB, vlow=500 * MIB)
    assert disk.inodes == Levels(good=9, low=3, vlow=1)


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ("level_low = 5", (5, 5, 0)),
        ("level_vlow = 5", (5, 5, 5)),
        ("level_good = 5", (5, 0, 0)),
        ("level_good = 5\nlevel_vlow = 1", (5, 1, 1)),
        ("inodes_low = 4", (0, 0, 0)),
    ],
)
def test_a_threshold_that_is_not_set_is_the_next_lower_one(site: Site, text: str, levels: tuple[int, int, int]) -> None:
    site.write_global(f"[disk_space_monitor]\n{text}\n")
    disk = site.load().disk
    assert disk.enabled
    good, low, vlow = levels
    assert disk.space == Levels(good=good * MIB, low=low * MIB, vlow=vlow * MIB)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("level_good = 1\nlevel_low = 2", "level_good"),
        ("level_low = 1\nlevel_vlow = 2", "level_low"),
        ("inodes_good = 2", "inodes_good"),
        ("inodes_vlow = 4", "inodes_low"),
    ],
)
def test_thresholds_out_of_order_are_a_problem(site: Site, text: str, key: str) -> None:
    site.write_global(f"[disk_space_monitor]\n{text}\n")
    problem = site.problem()
    assert (problem.section, problem.key) == ("disk_space_monitor", key)
    assert "good >= low >= vlow" in problem.message


def test_a_threshold_in_a_stream_file_is_told_to_have_no_effect(site: Site) -> None:
    site.write_stream("[disk_space_monitor]\nlevel_low = 5\n")
    settings = site.load()
    assert not settings.disk.enabled
    assert "global file only" in settings.warnings[0]


def test_deletion_and_mirror_delete_cannot_go_together(site: Site) -> None:
    site.write_stream("mirror_delete = True\n[data_stream]\ndeletion_enabled = True\n")
    problem = site.problem()
    assert problem.key == "deletion_enabled"
    assert "would remove at the target" in problem.message


def test_deletion_is_a_matter_of_each_stream(site: Site) -> None:
    site.write_global(streams="one two")
    site.write_stream("[data_stream]\ndeletion_enabled = True\n")
    site.write_stream(name="two")
    assert [stream.deletion_enabled for stream in site.load().streams] == [True, False]


def test_what_stays_free_at_the_target_is_in_mebibytes(site: Site) -> None:
    assert site.stream().targets[0].reserve == 0
    site.write_stream("target_reserve = 1.5\n")
    assert site.stream().targets[0].reserve == 3 * MIB // 2

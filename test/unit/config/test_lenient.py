"""At a reload the good rest goes on: a broken stream keeps what it had, a broken global file changes nothing."""

from __future__ import annotations

import pytest

from mistamover.errors import ConfigError
from unit.config.sites import Site


@pytest.fixture
def two(site: Site) -> Site:
    """Given a site with the streams one and two."""
    site.write_global(streams="one two")
    site.write_stream(name="two")
    return site


def test_without_problems_it_is_the_same_as_load(two: Site) -> None:
    settings = two.load()
    assert two.lenient(None) == (settings, ())
    assert two.lenient(settings)[0] is settings


def test_a_broken_stream_keeps_its_settings_and_the_others_get_theirs(two: Site) -> None:
    before = two.load()
    two.write_stream("retry_count = x\n", name="one")
    two.write_stream("retry_count = 9\n", name="two")
    settings, problems = two.lenient(before)
    assert settings.stream("one") == before.stream("one")
    assert [stream.retry_count for stream in settings.streams] == [3, 9]
    assert [problem.key for problem in problems] == ["retry_count"]


def test_a_new_stream_that_is_broken_is_left_out(two: Site) -> None:
    before = two.load()
    two.write_global(streams="three one two four ?")
    two.write_stream("hash = x\n", name="three")
    settings, problems = two.lenient(before)
    assert [stream.name for stream in settings.streams] == ["one", "two"]
    assert len(problems) == 3


def test_a_stream_whose_file_vanished_keeps_its_settings(two: Site) -> None:
    before = two.load()
    (two.conf / "ds_one.ini").unlink()
    settings, problems = two.lenient(before)
    assert settings.streams == before.streams
    assert len(problems) == 1


def test_a_stream_taken_off_the_list_is_gone(two: Site) -> None:
    before = two.load()
    two.write_global(streams="two")
    settings, problems = two.lenient(before)
    assert ([stream.name for stream in settings.streams], problems) == (["two"], ())


@pytest.mark.parametrize("more", ["[nowhere]\n", "stop_timeout = x\n", "[outgoing]\nretry_count = x\n"])
def test_a_broken_global_file_changes_nothing(two: Site, more: str) -> None:
    before = two.load()
    two.write_global(more, streams="one")
    two.write_stream("retry_count = x\n")
    settings, problems = two.lenient(before)
    assert settings is before
    assert len(problems) == 2


def test_a_missing_global_file_changes_nothing(two: Site) -> None:
    before = two.load()
    two.global_file.unlink()
    settings, problems = two.lenient(before)
    assert settings is before
    assert len(problems) == 1


def test_a_broken_environment_changes_nothing(two: Site) -> None:
    before = two.load()
    two.environ["CONFIG__global__x"] = "1"
    assert two.lenient(before)[0] is before


def test_a_broken_global_file_with_nothing_to_keep_is_an_error(two: Site) -> None:
    two.write_global("[nowhere]\n")
    with pytest.raises(ConfigError):
        two.lenient(None)


def test_who_works_in_a_directory_keeps_it_against_a_newcomer(two: Site) -> None:
    before = two.load()
    two.write_stream(f"[data_stream]\ndirectory = {two.top}/data/two\n", name="one")
    settings, problems = two.lenient(before)
    assert settings.streams == before.streams
    assert [problem.file for problem in problems] == [str(two.conf / "ds_one.ini")]


def test_a_newcomer_does_not_get_the_directory_that_a_broken_stream_still_holds(two: Site) -> None:
    before = two.load()
    two.write_stream(f"[data_stream]\ndirectory = {two.top}/data/two\n", name="one")
    two.write_stream(f"hash = x\n[data_stream]\ndirectory = {two.top}/elsewhere\n", name="two")
    settings, problems = two.lenient(before)
    assert settings.streams == before.streams
    assert len(problems) == 2


def test_streams_that_change_places_are_no_quarrel(two: Site) -> None:
    before = two.load()
    two.write_stream(f"[data_stream]\ndirectory = {two.top}/data/two\n", name="one")
    two.write_stream(f"[data_stream]\ndirectory = {two.top}/data/one\n", name="two")
    settings, problems = two.lenient(before)
    assert problems == ()
    assert [stream.directory.name for stream in settings.streams] == ["two", "one"]

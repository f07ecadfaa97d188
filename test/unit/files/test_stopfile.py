"""Stop files of the disk guard, and everybody else's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mistamover.files import stopfile


@pytest.fixture
def path(tmp_path: Path) -> bytes:
    return stopfile.of(tmp_path, ".stop")


def test_one_that_was_made_is_known_and_removed(path: bytes, tmp_path: Path) -> None:
    assert stopfile.make(path, "why \N{SNOWMAN}")
    assert os.listdir(tmp_path) == [".stop"]
    assert stopfile.is_of_guard(path)
    assert not stopfile.pauses(path)
    assert "why \N{SNOWMAN}" in Path(os.fsdecode(path)).read_text()
    assert stopfile.remove(path)
    assert os.listdir(tmp_path) == []
    assert not stopfile.remove(path)


@pytest.mark.parametrize("content", ["", "mine\n"])
def test_an_operators_pauses_and_stays(path: bytes, tmp_path: Path, content: str) -> None:
    mine = tmp_path / ".stop"
    mine.write_text(content)
    assert stopfile.pauses(path)
    assert not stopfile.make(path, "why")
    assert not stopfile.remove(path)
    assert mine.read_text() == content


def test_a_touch_makes_it_the_operators(path: bytes, tmp_path: Path) -> None:
    assert stopfile.make(path, "why")
    (tmp_path / ".stop").touch()
    assert stopfile.pauses(path)
    assert not stopfile.remove(path)


def test_other_content_makes_it_the_operators_even_with_its_time(path: bytes, tmp_path: Path) -> None:
    assert stopfile.make(path, "why")
    times = os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns
    (tmp_path / ".stop").write_text("mine")
    os.utime(path, ns=times)
    assert stopfile.pauses(path)
    assert not stopfile.remove(path)


def test_one_without_content_is_known_by_its_time(path: bytes) -> None:
    assert stopfile.make(path, "why")
    times = os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns
    os.truncate(path, 0)
    os.utime(path, ns=times)
    assert not stopfile.pauses(path)
    assert stopfile.remove(path)


def test_a_link_is_never_followed(path: bytes, tmp_path: Path) -> None:
    other = stopfile.of(tmp_path, "other")
    assert stopfile.make(other, "why")
    os.symlink(other, path)
    assert stopfile.pauses(path)
    assert not stopfile.remove(path)
    # Nor is one in the place where it is made ready.
    os.unlink(path)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, tmp_path / ".mistamover-stop.new")
    assert stopfile.make(path, "why")
    assert victim.read_text() == "precious"
    assert stopfile.is_of_guard(path)


def test_what_a_crash_left_is_no_hindrance(path: bytes, tmp_path: Path) -> None:
    (tmp_path / ".mistamover-stop.new").write_text("half")
    assert stopfile.make(path, "why")
    assert os.listdir(tmp_path) == [".stop"]


def test_nothing_there_is_nobodys(path: bytes) -> None:
    assert not stopfile.pauses(path)
    assert not stopfile.is_of_guard(path)


def test_a_directory_of_that_name_pauses(path: bytes) -> None:
    os.mkdir(path)
    assert stopfile.pauses(path)
    assert not stopfile.remove(path)

"""The file that pauses a stream, and the bell that wakes it."""

from __future__ import annotations

import stat
import threading
import time
from pathlib import Path

import pytest

from mistamover.stream import pause
from mistamover.stream.alarm import BELL, Alarm, ring
from mistamover.stream.pause import Pause

WANTED = Pause(who="me", since=1_000_000.0, reason="why\nnot \x1b[31m")


def test_it_is_there_until_it_is_ended_and_the_first_one_stays(tmp_path: Path) -> None:
    state_dir = tmp_path / "a" / "b"
    assert pause.read(state_dir) is None
    assert pause.begin(state_dir, WANTED) is None
    there = pause.read(state_dir)
    assert there is not None
    assert (there.who, there.since) == ("me", 1_000_000.0)
    assert there.reason.isprintable()
    assert pause.begin(state_dir, Pause(who="you", since=2.0)) == there
    assert stat.S_IMODE((state_dir / pause.FILE).stat().st_mode) == 0o600
    assert pause.end(state_dir) == there
    assert pause.read(state_dir) is None
    assert pause.end(state_dir) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"who": "me"}', b"\xff", b'{"who": 1, "since": "x"}'])
def test_a_file_that_cannot_be_read_is_a_pause_all_the_same(tmp_path: Path, content: bytes) -> None:
    (tmp_path / pause.FILE).write_bytes(content)
    found = pause.reason(tmp_path, "one")
    assert found is not None
    assert found.code == "paused"
    assert "paused since an unknown time by somebody; resume with: mistamover resume one" in found.text


def test_the_words_say_who_when_why_and_how_to_go_on() -> None:
    words = Pause(who="me", since=1_000_000.0, reason="a reason").words("one stream")
    assert words.startswith("paused since 1970-01-1")
    assert words.endswith(" by me (a reason); resume with: mistamover resume 'one stream'")


def test_nobody_hears_a_bell_that_nobody_has_hung_up(tmp_path: Path) -> None:
    assert not ring(tmp_path)
    (tmp_path / BELL).write_text("a file, no bell")
    assert not ring(tmp_path)
    assert (tmp_path / BELL).read_text() == "a file, no bell"


def test_the_bell_ends_the_sleep_and_is_remembered(tmp_path: Path) -> None:
    alarm = Alarm(tmp_path)
    # What was asked while nobody listened.
    assert alarm.rung()
    assert not alarm.rung()
    ringing = threading.Timer(0.1, lambda: ring(tmp_path))
    ringing.start()
    began = time.monotonic()
    alarm.sleep(20)
    assert time.monotonic() - began < 10
    ringing.join()
    assert alarm.rung()
    alarm.wake()
    alarm.sleep(20)
    assert not alarm.rung()


def test_a_bell_is_never_full(tmp_path: Path) -> None:
    alarm = Alarm(tmp_path)
    assert all(ring(tmp_path) for _ in range(70_000))
    alarm.sleep(0)
    assert alarm.rung()


def test_whoever_has_put_a_file_in_the_place_of_the_bell_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / BELL).write_text("x")
    alarm = Alarm(tmp_path)
    alarm.rung()
    assert ring(tmp_path)
    alarm.sleep(5)
    assert alarm.rung()

"""The doorbell: whoever rings is heard, and nobody who rings is kept."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from pathlib import Path

from mistamover.jobs.bell import Bell, ring


def test_it_is_heard_once_however_often_it_rings(tmp_path: Path) -> None:
    with Bell(tmp_path) as bell:
        assert not bell.wait(0)
        for _ in range(50):
            ring(tmp_path)
            bell.ring()
        assert bell.wait(10)
        assert not bell.wait(0)


def test_it_wakes_whoever_waits(tmp_path: Path) -> None:
    with Bell(tmp_path) as bell:
        threading.Timer(0.1, ring, (tmp_path,)).start()
        assert bell.wait(60)
        os.write(bell.wakeup, b"x")
        assert bell.wait(60)


def test_it_is_ours_alone_and_goes_with_us(tmp_path: Path) -> None:
    with Bell(tmp_path):
        assert stat.S_IMODE((tmp_path / "bell").stat().st_mode) == 0o600
    assert not (tmp_path / "bell").exists()


def test_one_that_was_left_is_replaced(tmp_path: Path) -> None:
    # What a kill leaves is a name that nobody listens at.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(tmp_path / "bell"))
    ring(tmp_path)
    with Bell(tmp_path) as bell:
        ring(tmp_path)
        assert bell.wait(10)


def test_nobody_at_home_keeps_nobody(tmp_path: Path) -> None:
    ring(tmp_path / "nowhere")
    ring(tmp_path)
    with Bell(tmp_path) as bell:
        # Full: nobody listens, and nobody waits.
        began = time.monotonic()
        for _ in range(5000):
            ring(tmp_path)
            bell.ring()
        assert time.monotonic() - began < 60
        assert bell.wait(0)


def test_deep_directories_have_one_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with Bell(deep) as bell:
        ring(deep)
        assert bell.wait(10)

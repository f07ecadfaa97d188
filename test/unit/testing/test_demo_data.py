"""The quickstart's own comparison: it must see what differs."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from mistamover.testing import demo_data
from mistamover.testing.demo_data import Drop, compare, drop, left


@pytest.fixture
def record(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Drop:
    monkeypatch.setattr(demo_data, "BIG_FILE_BYTES", 3 * demo_data.BLOCK + 1)
    monkeypatch.setattr(demo_data, "PACE", 0)
    (scratch / "source").mkdir()
    record = Drop()
    drop(scratch / "source", record, threading.Event())
    assert record.error is None
    return record


def test_nothing_moved_is_seen(record: Drop, scratch: Path) -> None:
    result = compare(record.files, scratch / "source", scratch / "target")
    assert (result.delivered, result.verified, result.removed) == ([], [], [])
    assert left(record.files, scratch / "source") == len(record.files)


def test_everything_moved_is_seen(record: Drop, scratch: Path) -> None:
    (scratch / "source").rename(scratch / "target")
    result = compare(record.files, scratch / "source", scratch / "target")
    assert result.delivered == result.verified == result.removed == record.files
    assert left(record.files, scratch / "source") == 0


def test_one_changed_byte_is_seen(record: Drop, scratch: Path) -> None:
    shutil.copytree(scratch / "source", scratch / "target")
    big = scratch / "target" / "big-image.raw"
    with big.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    result = compare(record.files, scratch / "source", scratch / "target")
    assert [file.name for file in record.files if file not in result.verified] == [b"big-image.raw"]
    assert result.delivered == record.files


def test_told_to_stop_it_stops(scratch: Path) -> None:
    stop, record = threading.Event(), Drop()
    stop.set()
    drop(scratch, record, stop)
    assert record.files == []
    assert record.finished is not None

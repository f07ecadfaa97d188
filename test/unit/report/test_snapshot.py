"""The published state of a stream, and the locks that tell who is alive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mistamover.model import StreamState
from mistamover.report import snapshot
from mistamover.report.snapshot import Snapshot, Undelivered
from support import TOP, wait_until

SHOT = Snapshot(
    name="one",
    state=StreamState.WAITING,
    seen=3,
    waiting=1,
    undelivered=(Undelivered(name="a\\n", reason="open"),),
)


def test_it_comes_back(scratch: Path) -> None:
    snapshot.write(scratch, SHOT)
    assert snapshot.read(scratch) == SHOT
    assert [path.name for path in scratch.iterdir()] == ["status.json"]


def test_nothing_usable_is_none(scratch: Path) -> None:
    assert snapshot.read(scratch) is None
    for text in ("", "{", '{"state": "NEVER HEARD OF", "name": "x"}', '{"state": "IDLE"}'):
        (scratch / "status.json").write_text(text)
        assert snapshot.read(scratch) is None, text


@pytest.mark.parametrize("text", ["[]", "7", "null"])
def test_json_that_is_no_object_is_none(scratch: Path, text: str) -> None:
    (scratch / "status.json").write_text(text)
    assert snapshot.read(scratch) is None


def test_fields_of_another_version_are_passed_over(scratch: Path) -> None:
    values = {**SHOT.as_json(), "of_the_future": 1}
    del values["scan_problems"]
    (scratch / "status.json").write_text(json.dumps(values))
    assert snapshot.read(scratch) == SHOT


def test_a_reader_never_sees_half_of_it(scratch: Path) -> None:
    snapshot.write(scratch, SHOT)
    stop, read = threading.Event(), [0]

    def reader() -> None:
        while not stop.is_set():
            read[0] += snapshot.read(scratch) is not None
            read.append(snapshot.read(scratch) is None)

    thread = threading.Thread(target=reader)
    thread.start()
    for _ in range(300):
        snapshot.write(scratch, SHOT)
    wait_until(lambda: read[0] > 10, 10, "it was read")
    stop.set()
    thread.join()
    assert not any(read[1:])


def test_lock_is_held_by_one_and_dies_with_it(scratch: Path) -> None:
    path = scratch / "deep" / "lock"
    assert not snapshot.is_locked(path)
    words = (
        "import sys; from pathlib import Path; from mistamover.report.snapshot import lock;"
        "assert lock(Path(sys.argv[1])) is not None; print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", words, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{TOP}/lib"},
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert snapshot.is_locked(path)
        assert snapshot.lock(path) is None
        holder.kill()
        holder.wait()
    assert not snapshot.is_locked(path)
    handle = snapshot.lock(path)
    assert handle is not None
    os.close(handle)

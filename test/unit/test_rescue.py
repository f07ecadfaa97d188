"""A writer that opens a file in the very moment of its removal loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mistamover.files import leases
from mistamover.model import Identity, Kind, Unit
from mistamover.stream import handover
from mistamover.stream.guard import LeaseGuard
from mistamover.stream.rescue import Rescue
from support import wait_until

#: Opens for appending (and waits there for the lease), writes, and closes when it is told to.
_WRITER = """
import os, sys
handle = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
os.write(handle, b"late line\\n")
print("written", flush=True)
sys.stdin.readline()
os.close(handle)
"""


@pytest.fixture(autouse=True)
def survive_lease_breaks() -> None:
    leases.hear_breaks()


def guarded(root: Path, name: str) -> tuple[LeaseGuard, Unit]:
    """Take a lease on a file, as the stream does before it sends it."""
    handle, _ = leases.take(os.fsencode(root / name))
    status = os.fstat(handle)
    identity = Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return LeaseGuard({name.encode(): handle}), Unit(name=name.encode(), kind=Kind.FILE, identity=identity)


def start_writer(path: Path, guard: LeaseGuard, name: bytes) -> subprocess.Popen[bytes]:
    """Start a writer and wait until it waits for the lease."""
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_until(lambda: not guard.intact(name), 10, "the writer waits for the lease")
    return writer


def finish(writer: subprocess.Popen[bytes]) -> None:
    writer.communicate(b"\n", timeout=10)


@pytest.mark.parametrize("name_is_taken", [False, True])
def test_what_is_written_in_the_moment_of_removal_comes_back(scratch: Path, name_is_taken: bool) -> None:
    path = scratch / "log"
    path.write_text("first line\n")
    guard, unit = guarded(scratch, "log")
    root = os.fsencode(scratch)
    writers: list[subprocess.Popen[bytes]] = []

    def intact(name: bytes) -> bool:
        # The writer comes after the last look and before the removal.
        answer = guard.intact(name)
        writers.append(start_writer(path, guard, name))
        return answer

    done = handover.remove_sources(root, [unit], intact, guard.orphaned)
    assert [item.kept for item in done] == [None]
    assert not path.exists()
    assert [orphan.name for orphan in guard.orphans] == [b"log"]

    rescue = Rescue(root)
    for orphan in guard.orphans:
        rescue.adopt(orphan)
    guard.close()
    assert writers[0].stdout is not None
    assert writers[0].stdout.readline() == b"written\n"
    assert rescue.look() == [], "it is still open for writing"
    if name_is_taken:
        path.write_text("another file of that name\n")
    finish(writers[0])

    back = rescue.look()
    assert back == [b"log.1" if name_is_taken else b"log"]
    assert (scratch / os.fsdecode(back[0])).read_text() == "first line\nlate line\n"
    assert len(rescue) == 0
    assert sorted(os.listdir(scratch)) == (["log", "log.1"] if name_is_taken else ["log"])


def test_a_writer_that_comes_before_the_last_look_keeps_its_file(scratch: Path) -> None:
    path = scratch / "log"
    path.write_text("first line\n")
    guard, unit = guarded(scratch, "log")
    writer = start_writer(path, guard, b"log")
    done = handover.remove_sources(os.fsencode(scratch), [unit], guard.intact, guard.orphaned)
    assert [item.kept for item in done] == [handover.CHANGED]
    guard.close()
    finish(writer)
    assert path.read_text() == "first line\nlate line\n"
    assert guard.orphans == []

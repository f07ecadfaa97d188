"""Read leases: real files, real writers in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mistamover.files import leases
from mistamover.model import Writers
from mistamover.stream.guard import GRACE, LeaseGuard
from support import wait_until

OPENER = "import sys; f = open(sys.argv[1], sys.argv[2]); print('open', flush=True); sys.stdin.read()"


@pytest.fixture(autouse=True)
def broken() -> Iterator[threading.Event]:
    """Set when the kernel says that somebody waits for a lease."""
    before, event = signal.getsignal(signal.SIGIO), threading.Event()
    leases.hear_breaks(event.set)
    yield event
    signal.signal(signal.SIGIO, before)


@pytest.fixture
def file(scratch: Path) -> bytes:
    (scratch / "f").write_bytes(b"data")
    return os.fsencode(scratch / "f")


@contextmanager
def opener(path: bytes, mode: str, *, waits: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", OPENER, os.fsdecode(path), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            if not waits:
                until_open(process)
            yield process
        finally:
            process.kill()


def until_open(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None and process.stdout.readline() == b"open\n"


@pytest.mark.parametrize("mode", ["r+", "a", "w"])
def test_an_open_writer_is_seen(file: bytes, mode: str) -> None:
    with opener(file, mode):
        assert leases.probe(file) is Writers.SOME
    assert leases.probe(file) is Writers.NONE


def test_readers_do_not_count(file: bytes) -> None:
    with opener(file, "r"):
        assert leases.probe(file) is Writers.NONE


def test_a_shared_writable_map_without_a_descriptor_counts(file: bytes) -> None:
    words = (
        "import mmap, sys; f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close(); "
        "print('open', flush=True); sys.stdin.read()"
    )
    argv = [sys.executable, "-c", words, os.fsdecode(file)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        until_open(process)
        assert leases.probe(file) is Writers.SOME
        process.communicate()
    assert leases.probe(file) is Writers.NONE


def test_a_writer_waits_for_the_lease_and_is_heard(file: bytes, broken: threading.Event) -> None:
    handle, writers = leases.take(file)
    assert writers is Writers.NONE and leases.held(handle)
    with opener(file, "a", waits=True) as process:
        wait_until(broken.is_set, 10, "the break is heard")
        assert not leases.held(handle)
        os.close(handle)
        until_open(process)


def test_renaming_and_removing_break_nothing(file: bytes) -> None:
    handle, _ = leases.take(file)
    os.rename(file, file + b"2")
    assert leases.held(handle)
    os.unlink(file + b"2")
    assert leases.held(handle)
    os.close(handle)


def test_links_are_not_followed_and_pipes_do_not_block(scratch: Path, file: bytes) -> None:
    (scratch / "l").symlink_to("f")
    with pytest.raises(OSError):
        leases.probe(os.fsencode(scratch / "l"))
    os.mkfifo(scratch / "p")
    assert leases.probe(os.fsencode(scratch / "p")) is Writers.UNKNOWN
    with pytest.raises(FileNotFoundError):
        leases.probe(os.fsencode(scratch / "none"))


def test_thousands_are_held_at_once(scratch: Path) -> None:
    number = min(2_000, leases.raise_descriptor_limit() // 2)
    handles = []
    for index in range(number):
        path = scratch / str(index)
        path.touch()
        handles.append(leases.take(os.fsencode(path))[0])
    assert all(map(leases.held, handles))
    for handle in handles:
        os.close(handle)


def test_guard_lets_a_writer_in_at_once_when_its_file_was_read(file: bytes, broken: threading.Event) -> None:
    guard = LeaseGuard({b"f": leases.take(file)[0]})
    guard.begin()
    assert guard.intact(b"f") and guard.deadline() is None
    guard.sent(b"f")
    with opener(file, "a", waits=True) as process:
        wait_until(broken.is_set, 10, "the break is heard")
        guard.breaking()
        until_open(process)
        assert not guard.intact(b"f")
        assert guard.deadline() is None
    guard.close()
    assert not guard.intact(b"f")


def test_guard_sets_a_deadline_when_the_file_is_still_needed(file: bytes, broken: threading.Event) -> None:
    guard = LeaseGuard({b"f": leases.take(file)[0], b"g": os.open(file, os.O_RDONLY)})
    guard.begin()
    with opener(file, "a", waits=True) as process:
        wait_until(broken.is_set, 10, "the break is heard")
        before = os.times().elapsed
        guard.breaking()
        deadline = guard.deadline()
        assert deadline is not None and deadline <= os.times().elapsed + GRACE + 1 and before
        guard.sent(b"f")
        until_open(process)
        assert not guard.intact(b"f")
    guard.close()


def test_guard_keeps_descriptors_of_nobody(file: bytes) -> None:
    before = len(os.listdir("/proc/self/fd"))
    guard = LeaseGuard({b"f": leases.take(file)[0]})
    guard.begin()
    guard.give_up()
    assert guard.deadline() is not None
    guard.close()
    guard.close()
    assert len(os.listdir("/proc/self/fd")) == before

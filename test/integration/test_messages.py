"""Small files of our own making, to a target and back: through a receiver, and by rsync where there is none."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.testing.sshd import PrivateSshd
from support import contents
from ways import Way

LONGEST = 1000
NAMES = (b".plain", b"sub/.in a directory", b".new\nline", b".invalid\xff", b"-dash", b".'quotes\"")


@pytest.fixture(params=[True, False], ids=["receiver", "rsync"])
def way(scratch: Path, sshd: PrivateSshd, request: pytest.FixtureRequest) -> Iterator[Way]:
    """A transport that is open."""
    made = Way(scratch, sshd, express=request.param)
    (made.target / "sub").mkdir()
    try:
        made.transport.open()
        yield made
    finally:
        made.transport.close(finished=True)
    assert not (made.target / ".mistamover").exists()


def test_messages_arrive_whole_and_come_back(way: Way) -> None:
    messages = {name: name * 3 for name in NAMES}
    way.transport.put(messages)
    assert {name: (way.target / os.fsdecode(name)).read_bytes() for name in NAMES} == messages
    # Whoever reads them there may be another user.
    assert all((way.target / os.fsdecode(name)).stat().st_mode & 0o777 == 0o644 for name in NAMES)
    assert way.transport.fetch([*NAMES, b"none", b"sub/none", b"none/none"], LONGEST, 0.0) == messages


def test_a_message_replaces_an_older_one(way: Way) -> None:
    way.transport.put({b".m": b"old"})
    way.transport.put({b".m": b"newer"})
    assert way.transport.fetch([b".m"], LONGEST, 0.0) == {b".m": b"newer"}


def test_only_regular_files_that_are_not_too_long_come_back(way: Way) -> None:
    (way.target / "long").write_bytes(b"x" * (LONGEST + 1))
    (way.target / "just").write_bytes(b"x" * LONGEST)
    (way.target / "empty").touch()
    (way.target / "link").symlink_to("just")
    os.mkfifo(way.target / "fifo")
    asked = [b"long", b"just", b"empty", b"link", b"sub", b"fifo", b"../target/just"]
    assert way.transport.fetch(asked, LONGEST, 0.0) == {b"just": b"x" * LONGEST, b"empty": b""}


def test_thousands_of_messages_arrive_and_come_back(way: Way) -> None:
    messages = {b".%d" % number: b"%d" % number * 300 for number in range(3000)}
    way.transport.put(messages)
    assert way.transport.fetch(list(messages), 100_000, 0.0) == messages


def test_a_message_that_is_awaited_comes_back_as_soon_as_it_is_there(scratch: Path, sshd: PrivateSshd) -> None:
    way = Way(scratch, sshd)
    way.transport.open()
    begin = time.monotonic()
    timer = threading.Timer(0.3, way.transport.put, [{b".late": b"x"}])
    timer.start()
    assert way.transport.fetch([b".not", b".late"], LONGEST, 30.0) == {b".late": b"x"}
    assert time.monotonic() - begin < 15
    timer.join()
    assert way.transport.fetch([b".never"], LONGEST, 0.2) == {}
    way.transport.close(finished=True)


def test_a_receiver_that_dies_while_a_message_is_awaited_costs_nothing(scratch: Path, sshd: PrivateSshd) -> None:
    way = Way(scratch, sshd)
    way.transport.open()
    (way.target / ".there").write_bytes(b"x")

    def kill() -> None:
        for each in way.receivers():
            each.kill()

    timer = threading.Timer(0.3, kill)
    timer.start()
    assert way.transport.fetch([b".there", b".never"], LONGEST, 30.0) == {b".there": b"x"}
    timer.join()
    way.transport.put({b".after": b"y"})
    assert (way.target / ".after").read_bytes() == b"y"
    way.transport.close(finished=True)
    assert sorted(contents(way.target)) == [b".after", b".there"]


def test_a_message_goes_into_the_directory_that_has_the_name_of_the_target(scratch: Path, sshd: PrivateSshd) -> None:
    way = Way(scratch, sshd)
    way.transport.open()
    way.target.rename(scratch / "former")
    way.target.mkdir()
    way.transport.put({b".m": b"x"})
    assert (way.target / ".m").read_bytes() == b"x"
    way.transport.close(finished=False)

"""Threads that are the hands of another one: their results come, their errors too, and they end with it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from mistamover.errors import JobCancelled
from mistamover.jobs import lines
from mistamover.jobs.transfer.hands import Hands


@pytest.fixture(autouse=True)
def _begun() -> Iterator[None]:
    lines.begin()
    yield
    lines.end()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("hand ")]


def test_all_is_done_and_what_fails_is_told() -> None:
    def halved(number: int, go_on: Callable[[], None]) -> int:
        go_on()
        if number % 2:
            raise ValueError(number)
        return number // 2

    found = dict(Hands(4, lambda: None).results(range(100), halved))
    assert {number: result for number, result in found.items() if not number % 2} == {
        n: n // 2 for n in range(0, 100, 2)
    }
    assert {str(found[number]) for number in range(1, 100, 2)} == set(map(str, range(1, 100, 2)))


def test_without_work_nobody_waits() -> None:
    assert list(Hands(0, lambda: None).results([], lambda each, go_on: each)) == []


@pytest.mark.parametrize("how", ["closed", "cancelled"])
def test_they_end_with_whoever_has_the_job(how: str) -> None:
    ends = [socket.socketpair() for _ in range(2)]
    entered = threading.Semaphore(0)
    begun: list[int] = []

    def wait(number: int, go_on: Callable[[], None]) -> bytes:
        begun.append(number)
        if number >= 2:
            # It looks whether it is to go on, and is never cut.
            while True:
                entered.release()
                go_on()
        with lines.held(ends[number][0], lines.shut):
            entered.release()
            return ends[number][0].recv(1)

    def check() -> None:
        if how == "cancelled" and len(begun) == 3 and all(entered.acquire(timeout=10) for _ in range(3)):
            raise JobCancelled("no more")

    results = Hands(3, check).results(range(50), wait)
    if how == "cancelled":
        with pytest.raises(JobCancelled):
            next(results)
    else:
        with closing(results):
            ends[0][1].send(b"x")
            assert next(results) == (0, b"x")
    # Nothing new is begun by then, and nobody waits any more: see the fixture.
    assert len(begun) < 10
    for pair in ends:
        for end in pair:
            end.close()


def test_who_cuts_the_job_cuts_its_hands() -> None:
    mine, other = socket.socketpair()
    owner = threading.get_ident()
    held = threading.Event()

    def wait(_: int, go_on: Callable[[], None]) -> bytes:
        with lines.held(mine, lines.shut):
            held.set()
            return mine.recv(1)

    cutter = threading.Thread(target=lambda: held.wait(10) and lines.cut(owner))
    cutter.start()
    assert list(Hands(1, lambda: None).results([1], wait)) == [(1, b"")]
    cutter.join(10)
    mine.close()
    other.close()

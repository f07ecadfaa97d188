"""What a thread waits for can be cut from another one; and nothing else is."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator

import pytest

from mistamover.jobs import lines


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    lines.end()


def waits(sock: socket.socket) -> tuple[threading.Thread, list[bytes], threading.Event]:
    """Start a thread that waits for a byte, as a job does; return it, what it got, and when it is ready."""
    got: list[bytes] = []
    ready = threading.Event()

    def run() -> None:
        lines.begin()
        try:
            with lines.held(sock, lines.shut):
                ready.set()
                got.append(sock.recv(1))
        finally:
            lines.end()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    return thread, got, ready


def test_a_thread_that_waits_is_cut_off_and_no_other_one() -> None:
    (one, other), (two, another) = socket.socketpair(), socket.socketpair()
    with one, other, two, another:
        first, got, _ = waits(one)
        second, also, _ = waits(two)
        assert first.ident is not None
        assert lines.cut(first.ident) == 1
        first.join(10)
        assert got == [b""]
        another.send(b"x")
        second.join(10)
        assert also == [b"x"]
        assert lines.cut(first.ident) == 0


def test_what_was_given_back_is_not_cut() -> None:
    one, other = socket.socketpair()
    with one, other:
        lines.begin()
        with lines.held(one, lines.shut):
            pass
        assert lines.cut(threading.get_ident()) == 0
        other.send(b"x")
        assert one.recv(1) == b"x"


def test_a_thread_that_does_no_job_is_not_known() -> None:
    one, other = socket.socketpair()
    with one, other, lines.held(one, lines.shut):
        assert lines.cut(threading.get_ident()) == 0


def test_what_is_closed_is_not_kept() -> None:
    lines.begin()
    for _ in range(100):
        with socket.socket() as sock:
            lines.note(sock, lines.shut)
        del sock
    gc.collect()
    assert lines.cut(threading.get_ident()) <= 33

"""Calls into a library that cannot be interrupted: bounded, cut from outside, given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mistamover.errors import LinkError
from mistamover.transport.calls import Calls


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """What a call waits for that never ends by itself."""
    event = threading.Event()
    yield event
    event.set()


def test_what_a_call_returns_and_raises_comes_out() -> None:
    calls = Calls("test")
    assert calls.run(10, lambda: 1 + 1) == 2
    with pytest.raises(ZeroDivisionError):
        calls.run(10, lambda: 1 // 0)

    def late() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        calls.run(10, late)
    assert calls.run(10, lambda: 3) == 3
    calls.close()
    with pytest.raises(LinkError, match="closed"):
        calls.run(10, lambda: 4)


def test_a_call_is_bounded(stuck: threading.Event) -> None:
    calls = Calls("test")
    with pytest.raises(LinkError, match="no answer"):
        calls.run(0.05, lambda: stuck.wait(30))
    with pytest.raises(LinkError, match="no answer"):
        calls.run(10, lambda: 1)


def test_a_call_is_cut_from_another_thread(stuck: threading.Event) -> None:
    calls = Calls("test")
    begun = threading.Event()

    def call() -> None:
        begun.set()
        stuck.wait(30)

    def cut() -> None:
        begun.wait(30)
        calls.abort()

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(LinkError, match="cut"):
        calls.run(30, call)
    cutter.join(10)


def test_a_call_that_is_given_up_leaves_the_next_one_a_thread(stuck: threading.Event) -> None:
    calls = Calls("test")

    def tick() -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        calls.run(30, lambda: stuck.wait(30), tick)
    assert calls.run(10, lambda: 5) == 5
    calls.close()

"""Descriptors that are handed to the closer are closed, all of them, by the time it has stopped."""

from __future__ import annotations

import os
from pathlib import Path

from mistamover.files.closer import Closer


def test_everything_given_is_closed(scratch: Path) -> None:
    closer = Closer()
    given: list[int] = []
    for number in range(5):
        handles = [os.open(scratch, os.O_RDONLY) for _ in range(100)]
        given += handles
        closer.close(handles)
        if number == 2:
            # It may be stopped and used again.
            closer.stop()
    closer.stop()
    still_open = {int(name) for name in os.listdir("/proc/self/fd")}
    # A number may belong to somebody else again; that few of ours are open is what counts.
    assert len(still_open & set(given)) <= 2


def test_stopping_an_unused_one_does_nothing() -> None:
    Closer().stop()

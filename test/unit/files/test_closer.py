"""Descriptors that are handed to the closer are closed, all of them, by the time it has stopped."""

from __future__ import annotations

import os

import pytest

from mistamover.files.closer import Closer


def test_everything_given_is_closed() -> None:
    read, write = os.pipe()
    closer = Closer()
    for number in range(5):
        closer.close([os.dup(read) for _ in range(100)])
        if number == 2:
            # It may be stopped and used again.
            closer.stop()
    os.close(read)
    closer.stop()
    with pytest.raises(BrokenPipeError):
        os.write(write, b"nobody holds the other end any more")
    os.close(write)


def test_stopping_an_unused_one_does_nothing() -> None:
    Closer().stop()

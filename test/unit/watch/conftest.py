"""Fixtures for the tests of arrivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unit.watch.looking import Watch


@pytest.fixture
def watch() -> Iterator[Callable[..., Watch]]:
    """A function that begins to watch a directory, with options of `Arrivals`, and has looked at what is there."""
    watches: list[Watch] = []

    def begin(root: Path, **more: object) -> Watch:
        watches.append(Watch(root, **more))
        watches[-1].look()
        return watches[-1]

    yield begin
    for one in watches:
        one.arrivals.stop()

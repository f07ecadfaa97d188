"""What is refused holds up what is behind it, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mistamover.alerts.notifier import Notifier
from mistamover.alerts.poster import Event, Poster
from mistamover.alerts.queue import Queue
from mistamover.errors import AlertRefused
from unit.alerts.test_events import ALL, Books


class Picky(Poster):
    """Takes what does not concern the streams that it refuses."""

    where = "nowhere"

    def __init__(self, *refused: str) -> None:
        self.refused = set(refused)
        self.taken: list[str] = []
        self.rests = 0

    def post(self, events: Sequence[Event], now: float) -> None:
        for event in events:
            if event["stream"] in self.refused:
                raise AlertRefused(f"not {event['stream']}")
        self.taken += [event["name"] for event in events]

    def rest(self) -> None:
        self.rests += 1


def test_a_refusal_holds_up_one_stream_only_and_is_told(tmp_path: Path) -> None:
    books = {name: Books(tmp_path / name) for name in ("one", "two")}
    streams = [replace(each.stream, name=name) for name, each in books.items()]
    queue = Queue(tmp_path / "queue")
    poster = Picky("one", "far")
    notifier = Notifier(poster, ALL, streams, tmp_path / "positions", queue, 100.0)
    for name, each in books.items():
        each.confirm(f"{name} 1".encode(), f"{name} 2".encode(), now=110)
    queue.put("far", b'{"stream": "far", "name": "far"}')
    queue.put("near", b'{"stream": "near", "name": "near"}')
    for _ in range(2):
        with pytest.raises(AlertRefused, match="not one; not far"):
            notifier.work()
    assert poster.taken == ["two 1", "two 2", "near"]
    poster.refused.clear()
    notifier.work()
    assert poster.taken[3:] == ["one 1", "one 2", "far"]
    assert (poster.rests, queue.waiting()) == (3, [])

"""What is told of a ledger: everything from a moment on, in order, and again only what was not taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.alerts.events import MOST, Feed
from mistamover.config.load import load
from mistamover.config.settings import StreamSettings
from mistamover.model import Confirmed, FaultClass, Identity, Kind, Unit
from mistamover.stream.ledger import Ledger, Trouble
from support import Site

ALL = ("delivered", "quarantined", "incident")


class Books:
    """A stream's ledger and who is told of it."""

    def __init__(self, directory: Path) -> None:
        site = Site(directory)
        site.add("one")
        self.stream: StreamSettings = load(site.global_ini, {}).streams[0]
        self.positions = directory / "positions"
        self.positions.mkdir()

    def ledger(self) -> Ledger:
        return Ledger(self.stream.state_dir / "ledger.sqlite")

    def confirm(self, *names: bytes, now: float) -> None:
        units = [Unit(name=name, kind=Kind.FILE, identity=Identity(1, 2, 3, 4, 5)) for name in names]
        items = [Confirmed(unit=unit, digest="ab") for unit in units]
        with self.ledger() as ledger:
            batch = ledger.confirm(items, target="t", lane="bulk", algorithm="md5", started=now, now=now, mirror=False)
            ledger.handed_over(batch, now, {})

    def set_aside(self, name: bytes, since: float) -> None:
        with self.ledger() as ledger:
            ledger.note_troubles(
                [
                    Trouble(
                        name=name,
                        target="t",
                        quarantined=True,
                        attempts=3,
                        fault=FaultClass.SOURCE,
                        reason="no",
                        since=since,
                        retry_at=0.0,
                        identity=None,
                    )
                ]
            )

    def feed(self, wanted: tuple[str, ...] = ALL, began: float = 100.0) -> Feed:
        return Feed(self.stream, self.positions, wanted, began)


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(tmp_path)


def told(feed: Feed) -> list[str]:
    names: list[str] = []
    while (found := feed.next()) is not None:
        events, position = found
        names += [event["name"] for event in events]
        feed.accept(position)
    return names


def test_what_was_before_is_no_news(books: Books) -> None:
    books.confirm(b"old", now=90)
    books.set_aside(b"old trouble", since=80)
    books.confirm(b"new", now=110)
    books.set_aside(b"new trouble", since=110)
    assert told(books.feed()) == ["new", "new trouble"]
    assert told(books.feed()) == []


def test_a_ledger_that_comes_later_is_told_from_its_beginning(books: Books) -> None:
    feed = books.feed()
    assert told(feed) == []
    books.confirm(b"a", b"\xff", now=50)
    assert told(feed) == ["a", "\\xff"]


def test_what_was_not_taken_comes_again_with_the_same_ids(books: Books) -> None:
    feed = books.feed()
    books.confirm(*(b"%03d" % number for number in range(MOST + 50)), now=110)
    first = feed.next()
    assert first is not None
    assert len(first[0]) == MOST
    again = books.feed().next()
    assert again is not None
    assert [event["id"] for event in again[0]] == [event["id"] for event in first[0]]
    feed.accept(first[1])
    assert told(books.feed()) == [f"{number:03d}" for number in range(MOST, MOST + 50)]


def test_numbers_that_are_given_again_after_everything_was_pruned_lose_nothing(books: Books) -> None:
    feed = books.feed()
    books.confirm(b"a", b"b", now=110)
    assert told(feed) == ["a", "b"]
    with books.ledger() as ledger:
        ledger.prune(200)
    books.confirm(b"c", now=210)
    assert told(feed) == ["c"]
    books.confirm(b"d", b"e", now=220)
    assert told(feed) == ["d", "e"]


def test_a_quarantine_is_told_once_and_anew_when_it_happens_anew(books: Books) -> None:
    feed = books.feed()
    books.set_aside(b"x", since=110)
    books.set_aside(b"x", since=110)
    assert told(feed) == ["x"]
    with books.ledger() as ledger:
        ledger.forget_troubles([b"x"])
    assert told(feed) == []
    books.set_aside(b"x", since=120)
    assert told(feed) == ["x"]


def test_only_what_is_wanted_is_told(books: Books) -> None:
    feed = books.feed(wanted=("quarantined",))
    books.confirm(b"a", now=110)
    books.set_aside(b"x", since=110)
    assert told(feed) == ["x"]
    books.confirm(b"b", now=120)
    assert told(feed) == []
    # Who asks for more later gets what comes from then on.
    assert told(books.feed()) == []

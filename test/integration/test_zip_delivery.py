"""The delivery of a zip by itself, over a real connection: under which name it appears, and over what it never does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.test_express import Watcher, Way
from mistamover.files.identity import identity_of
from mistamover.model import Confirmed, Failed, FaultClass, Identity
from mistamover.testing.sshd import PrivateSshd
from mistamover.transport.base import Zip

CONTENT = b"what a zip holds" * 1000


@pytest.fixture
def way(sshd: PrivateSshd, scratch: Path) -> Iterator[Way]:
    made = Way(scratch, sshd)
    (scratch / "zips").mkdir()
    (scratch / "zips/run.zip").write_bytes(CONTENT)
    os.utime(scratch / "zips/run.zip", (10**9, 10**9))
    made.transport.open()
    yield made
    made.transport.close(finished=True)


def deliver(
    way: Way, *, names: int = 3, replaces: tuple[Identity, ...] = (), unchanged: Callable[[], bool] = lambda: True
) -> Confirmed | Failed:
    every = [b"run.zip", *(b"run.%d.zip" % number for number in range(1, names))]
    path = os.fsencode(way.source.parent / "zips/run.zip")
    guard = Watcher()
    try:
        made = Zip(path=path, names=every, replaces=replaces, unchanged=unchanged)
        return way.transport.deliver_zip(made, guard)
    finally:
        guard.close()


def there(way: Way) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in way.target.iterdir() if path.is_file()}


def test_it_appears_whole_and_proven(way: Way) -> None:
    verdict = deliver(way)
    assert isinstance(verdict, Confirmed)
    assert (verdict.unit.name, len(verdict.digest)) == (b"run.zip", 32)
    assert there(way) == {"run.zip": CONTENT}
    assert (way.target / "run.zip").stat().st_mtime == 10**9


def test_it_is_not_there_while_it_may_have_to_be_made_again(way: Way) -> None:
    seen = []

    def changed() -> bool:
        seen.append(there(way))
        return False

    verdict = deliver(way, unchanged=changed)
    assert isinstance(verdict, Failed)
    assert verdict.fault is FaultClass.CHANGED
    assert seen == [{}]
    assert there(way) == {}


def test_a_name_that_is_taken_in_the_last_moment(way: Way) -> None:
    """Between the look at the name and the rename somebody else puts a zip there: it stays."""

    def take() -> bool:
        (way.target / "run.zip").write_bytes(b"somebody else's")
        return True

    verdict = deliver(way, unchanged=take)
    assert isinstance(verdict, Failed)
    assert verdict.fault is FaultClass.ABANDONED
    verdict = deliver(way)
    assert isinstance(verdict, Confirmed)
    assert verdict.unit.name == b"run.1.zip"
    assert there(way) == {"run.zip": b"somebody else's", "run.1.zip": CONTENT}


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_the_same_content_counts_as_delivered_under_any_of_its_names(way: Way, taken: int) -> None:
    sent = deliver(way)
    assert isinstance(sent, Confirmed)
    (way.target / "run.zip").unlink()
    names = ["run.zip", "run.1.zip", "run.2.zip"]
    for number in range(taken):
        # Of the same size: only the content tells.
        (way.target / names[number]).write_bytes(CONTENT[:-1] + b"%d" % number)
    (way.target / names[taken]).write_bytes(CONTENT)
    before = there(way)
    verdict = deliver(way)
    assert isinstance(verdict, Confirmed)
    assert (verdict.unit.name.decode(), verdict.digest) == (names[taken], sent.digest)
    assert there(way) == before
    assert os.listdir(way.source.parent / "zips") == ["run.zip"]


def test_every_name_is_taken(way: Way) -> None:
    (way.target / "run.zip").mkdir()
    (way.target / "run.1.zip").symlink_to("nowhere")
    (way.target / "run.2.zip").write_bytes(b"x")
    verdict = deliver(way)
    assert isinstance(verdict, Failed)
    assert verdict.fault is FaultClass.REFUSED
    assert "never overwritten" in verdict.reason
    assert there(way) == {"run.2.zip": b"x"}
    assert (way.target / "run.1.zip").is_symlink()


@pytest.mark.parametrize(("size", "seconds", "replaced"), [(0, 0, True), (1, 0, False), (0, 1, False), (0, -1, False)])
def test_only_what_is_known_is_replaced(way: Way, size: int, seconds: int, replaced: bool) -> None:
    old = way.target / "run.zip"
    old.write_bytes(b"the one before")
    known = identity_of(old.stat())
    known = known._replace(size=known.size + size, mtime_ns=known.mtime_ns + seconds * 10**9)
    verdict = deliver(way, names=1, replaces=(known,))
    assert isinstance(verdict, Confirmed) is replaced
    assert there(way) == {"run.zip": CONTENT if replaced else b"the one before"}


def test_what_was_half_sent_of_another_one_does_no_harm(way: Way) -> None:
    """What lies where zips are built is only a help: the hash of the whole decides."""
    deliver(way, unchanged=lambda: False)
    path = way.source.parent / "zips/run.zip"
    path.write_bytes(b"new" + CONTENT[: len(CONTENT) // 2] + b"end")
    verdict = deliver(way)
    assert isinstance(verdict, Confirmed)
    assert there(way) == {"run.zip": path.read_bytes()}

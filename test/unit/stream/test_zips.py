"""Units that would have one name at the target: who waits for whom, and who cannot go at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mistamover.config.settings import LinkPolicy
from mistamover.model import Confirmed, Identity, Kind, Unit, Writers
from mistamover.stream.decide import Facts
from mistamover.stream.ledger import Ledger
from mistamover.stream.roll import AT_ONCE, Candidate, Roll
from mistamover.stream.zips import beside_zips
from unit.stream.test_decide import ZIPS

ONE = Identity(1, 2, 3, 4, 5)


@pytest.fixture
def ledger(scratch: Path) -> Iterator[Ledger]:
    with Ledger(scratch / "ledger.sqlite") as opened:
        yield opened


def facts(name: bytes, kind: Kind = Kind.FILE) -> Facts:
    return Facts(name=name, kind=kind, identity=ONE, writers=Writers.NONE, unchanged_since=0.0)


def deliver(ledger: Ledger, *names: bytes) -> None:
    """Record a directory unit with parts of these names."""
    parts = [Confirmed(unit=Unit(name=name, kind=Kind.FILE, identity=ONE), digest="ab") for name in names]
    whole = Confirmed(unit=Unit(name=b"run", kind=Kind.TREE, identity=ONE), digest="", parts=parts)
    ledger.confirm([whole], target="t", lane="huge", algorithm="md5", started=1.0, now=2.0, mirror=False)


@pytest.mark.parametrize(
    ("make", "waits"),
    [
        (lambda path: path.write_bytes(b""), True),
        (lambda path: path.symlink_to("x"), True),
        (lambda path: path.mkdir(), False),
        (lambda path: os.mkfifo(path), False),
        (lambda path: None, False),
    ],
)
def test_a_directory_waits_for_what_has_the_name_of_its_zip(
    scratch: Path, ledger: Ledger, make: object, waits: bool
) -> None:
    make(scratch / "run.zip")  # type: ignore[operator]
    found = beside_zips(facts(b"run", Kind.TREE), os.fsencode(scratch), ZIPS, ledger, Roll())
    assert bool(found.beside) is waits


def test_it_does_not_wait_for_what_never_leaves(scratch: Path, ledger: Ledger) -> None:
    (scratch / "run.zip").symlink_to("x")
    rules = replace(ZIPS, symlinks=LinkPolicy.IGNORE)
    assert not beside_zips(facts(b"run", Kind.TREE), os.fsencode(scratch), rules, ledger).beside
    (scratch / "run.bak.zip").write_bytes(b"")
    assert beside_zips(facts(b"run.bak", Kind.TREE), os.fsencode(scratch), rules, ledger).beside


def test_a_file_must_not_replace_a_zip_that_was_delivered(scratch: Path, ledger: Ledger) -> None:
    deliver(ledger, b"run.zip", b"run/a.zip")
    root = os.fsencode(scratch)
    assert "directory run" in beside_zips(facts(b"run.zip"), root, ZIPS, ledger).taken
    for name in (b"run.1.zip", b"run", b"other.zip", b"run/a.zip"):
        assert beside_zips(facts(name), root, ZIPS, ledger) == facts(name)


def test_a_file_waits_for_a_zip_that_is_on_its_way(scratch: Path, ledger: Ledger) -> None:
    roll = Roll()
    directory = Candidate(b"run", Kind.TREE, ONE, 1, 0.0)
    roll.add(directory)
    root = os.fsencode(scratch)
    assert not beside_zips(facts(b"run.zip"), root, ZIPS, ledger, roll).beside
    directory.look_at = None
    assert beside_zips(facts(b"run.zip"), root, ZIPS, ledger, roll).beside
    roll.look(directory, AT_ONCE)
    assert not beside_zips(facts(b"run.zip"), root, ZIPS, ledger, roll).beside

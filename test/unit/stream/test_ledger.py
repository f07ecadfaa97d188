"""The ledger: what is written is there after a crash, and nothing else."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mistamover.errors import LedgerError
from mistamover.model import Confirmed, FaultClass, Identity, Kind, TreeEntry, Unit
from mistamover.stream.ledger import Ledger, Release, Relocation, Trouble
from support import TOP


@pytest.fixture
def ledger(scratch: Path) -> Iterator[Ledger]:
    with Ledger(scratch / "ledger.sqlite") as opened:
        yield opened


def unit(name: bytes, number: int = 1, **more: object) -> Unit:
    values: dict[str, object] = {"kind": Kind.FILE, "identity": Identity(1, number, 3, 4, 5), **more}
    return Unit(name=name, **values)  # type: ignore[arg-type]


def confirm(ledger: Ledger, *units: Unit, mirror: bool = False, now: float = 20.0) -> int:
    items = [Confirmed(unit=u, digest="ab") for u in units]
    return ledger.confirm(items, target="t", lane="bulk", algorithm="md5", started=10.0, now=now, mirror=mirror)


def trouble(name: bytes, **more: object) -> Trouble:
    values: dict[str, object] = {
        "target": "t",
        "quarantined": False,
        "attempts": 1,
        "fault": FaultClass.SOURCE,
        "reason": "no",
        "since": 1.0,
        "retry_at": 2.0,
        "identity": Identity(1, 2, 3, 4, 5),
        **more,
    }
    return Trouble(name=name, **values)  # type: ignore[arg-type]


def test_confirmed_is_open_until_it_is_handed_over(ledger: Ledger) -> None:
    batch = confirm(ledger, unit(b"a"), unit(b"b", 2))
    [(number, target, items)] = ledger.open_batches()
    assert (number, target) == (batch, "t")
    assert [item.unit for item in items] == [unit(b"a"), unit(b"b", 2)]
    ledger.handed_over(batch, 30.0, {b"b": "changed"})
    assert list(ledger.open_batches()) == []
    assert [(d.name, d.kept, d.handed_over, d.digest) for d in ledger.history()] == [
        (b"b", "changed", 30.0, "ab"),
        (b"a", None, 30.0, "ab"),
    ]


def test_mirror_leaves_nothing_open_and_remembers(ledger: Ledger) -> None:
    confirm(ledger, unit(b"a"), mirror=True)
    assert list(ledger.open_batches()) == []
    assert ledger.mirrored(b"a", "t") == Identity(1, 1, 3, 4, 5)
    assert ledger.mirrored(b"a", "other") is None
    confirm(ledger, unit(b"a", 9), mirror=True)
    assert ledger.mirrored(b"a", "t") == Identity(1, 9, 3, 4, 5)
    ledger.forget_mirrored([b"a"], "t")
    assert ledger.mirrored(b"a", "t") is None


def test_directory_units_come_back_whole(ledger: Ledger) -> None:
    entry = TreeEntry(name=b"x/y\n", kind=Kind.FILE, identity=Identity(1, 7, 7, 7, 7))
    whole = unit(b"d", kind=Kind.TREE, manifest=(entry,))
    part = Confirmed(unit=unit(b"d/x/y\n", identity=entry.identity), digest="cd")
    items = [Confirmed(unit=whole, digest="", parts=[part]), Confirmed(unit=unit(b"f"), digest="ab")]
    ledger.confirm(items, target="t", lane="huge", algorithm="md5", started=1.0, now=2.0, mirror=False)
    [(_, _, back)] = ledger.open_batches()
    assert [item.unit for item in back] == [whole, unit(b"f")]
    assert ledger.totals().files == 2


def zipped() -> Confirmed:
    entry = TreeEntry(name=b"x", kind=Kind.FILE, identity=Identity(1, 7, 700, 7, 7))
    whole = unit(b"d", kind=Kind.TREE, manifest=(entry,))
    archive = Confirmed(unit=unit(b"d.1.zip", identity=Identity(1, 8, 50, 8, 8)), digest="ef")
    part = Confirmed(unit=unit(b"d/x", identity=entry.identity), digest="")
    return Confirmed(unit=whole, digest="", parts=[archive, part])


def test_zipped_units_come_back_without_their_zip(ledger: Ledger) -> None:
    """What is to be removed here is the directory; what was sent is the zip."""
    item = zipped()
    ledger.confirm([item], target="t", lane="huge", algorithm="md5", started=1.0, now=2.0, mirror=False)
    [(_, _, back)] = ledger.open_batches()
    assert [each.unit for each in back] == [item.unit]
    assert (ledger.totals().files, ledger.totals().size) == (1, 50)
    assert [(d.name, d.digest) for d in ledger.deliveries_of(b"d.1.zip")] == [(b"d.1.zip", "ef")]
    assert [ledger.is_zip(name) for name in (b"d.1.zip", b"d.zip", b"d")] == [True, False, False]


def test_a_mirror_remembers_the_zip_too(ledger: Ledger) -> None:
    ledger.confirm([zipped()], target="t", lane="huge", algorithm="md5", started=1.0, now=2.0, mirror=True)
    assert ledger.mirrored(b"d.1.zip", "t") == Identity(1, 8, 50, 8, 8)
    assert [name for name, _ in ledger.all_mirrored("t")] == [b"d", b"d.1.zip"]


def test_troubles_are_replaced_and_forgotten(ledger: Ledger) -> None:
    ledger.note_troubles([trouble(b"a"), trouble(b"b")])
    ledger.note_troubles([trouble(b"a", attempts=2, quarantined=True, moved_to=b"/q/a", identity=None)])
    assert {t.name: (t.attempts, t.quarantined, t.identity) for t in ledger.troubles()} == {
        b"a": (2, True, None),
        b"b": (1, False, Identity(1, 2, 3, 4, 5)),
    }
    assert ledger.totals().quarantined == 1
    ledger.forget_troubles([b"a", b"b", b"not there"])
    assert [t.name for t in ledger.troubles()] == [b"a"], "what was moved is in quarantine still"
    ledger.end_quarantines(ledger.troubles())
    assert ledger.troubles() == []


def test_several_of_one_name_can_lie_in_quarantine(ledger: Ledger) -> None:
    for place in (b"/q/a", b"/q/a.1"):
        ledger.note_troubles([trouble(b"a", quarantined=True)])
        ledger.note_troubles([trouble(b"a", quarantined=True, moved_to=place, identity=None)])
    ledger.note_troubles([trouble(b"a")])
    assert [t.moved_to for t in ledger.troubles()] == [None, b"/q/a", b"/q/a.1"]
    assert ledger.totals().quarantined == 2


def test_history_filters(ledger: Ledger) -> None:
    for number, name in enumerate([b"a", b"b", b"a"]):
        ledger.handed_over(confirm(ledger, unit(name, number), now=100.0 + number), 200.0, {})
    assert [d.confirmed for d in ledger.history(since=101.0)] == [102.0, 101.0]
    assert [d.confirmed for d in ledger.deliveries_of(b"a")] == [102.0, 100.0]


def test_prune_keeps_what_is_open_or_young(ledger: Ledger) -> None:
    old, young = confirm(ledger, unit(b"old"), now=1.0), confirm(ledger, unit(b"young"), now=50.0)
    confirm(ledger, unit(b"open"), now=1.0)
    for batch in (old, young):
        ledger.handed_over(batch, 60.0, {})
    ledger.prune(40.0)
    assert {d.name for d in ledger.history()} == {b"young", b"open"}


def test_prune_forgets_all_that_is_old(ledger: Ledger) -> None:
    for number in range(250):
        ledger.handed_over(confirm(ledger, unit(b"f%d" % number), now=1.0), 2.0, {})
    ledger.prune(40.0)
    assert list(ledger.history()) == []
    # Who remembers how far it was read goes on from there.
    assert ledger.last_batch() == 250 and confirm(ledger, unit(b"next"), now=50.0) == 251
    assert [(batch, [c.unit.name for c in units]) for batch, units in ledger.batches_after(250)] == [(251, [b"next"])]


def test_owner_stays_and_differs(scratch: Path) -> None:
    with Ledger(scratch / "one") as one, Ledger(scratch / "two") as two:
        names = {one.owner, two.owner}
    with Ledger(scratch / "one") as again:
        assert again.owner in names
    assert len(names) == 2


def test_nobody_else_may_read_it(ledger: Ledger, scratch: Path) -> None:
    assert (scratch / "ledger.sqlite").stat().st_mode & 0o077 == 0


def test_reader_needs_no_writer_and_makes_no_file(scratch: Path) -> None:
    with pytest.raises(LedgerError):
        Ledger(scratch / "none", read_only=True)
    assert not (scratch / "none").exists()
    with Ledger(scratch / "l?%# .sqlite") as writer:
        confirm(writer, unit(b"a"))
        with Ledger(scratch / "l?%# .sqlite", read_only=True) as reader:
            assert [d.name for d in reader.history()] == [b"a"]


def test_rubbish_and_the_future_are_refused(scratch: Path) -> None:
    (scratch / "rubbish").write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerError):
        Ledger(scratch / "rubbish")
    future = sqlite3.connect(scratch / "future")
    future.execute("PRAGMA user_version = 99")
    future.close()
    with pytest.raises(LedgerError, match="newer"):
        Ledger(scratch / "future")


def test_failed_transaction_leaves_nothing(ledger: Ledger) -> None:
    broken = replace(unit(b"b"), identity=Identity(1, 2, 3, 4, 1 << 70))
    with pytest.raises((LedgerError, OverflowError)):
        confirm(ledger, unit(b"a"), broken)
    assert list(ledger.history()) == []
    assert list(ledger.open_batches()) == []
    confirm(ledger, unit(b"c"))


def test_commit_survives_a_kill(scratch: Path) -> None:
    """A process that is killed right after `confirm` has returned leaves the batch, and no open transaction."""
    words = f"""
import os, signal, sys
from pathlib import Path
from mistamover.model import Confirmed, Identity, Kind, Unit
from mistamover.stream.ledger import Ledger
ledger = Ledger(Path({str(scratch / "l")!r}))
item = Confirmed(unit=Unit(name=b"a", kind=Kind.FILE, identity=Identity(1, 2, 3, 4, 5)), digest="ab")
ledger.confirm([item], target="t", lane="l", algorithm="md5", started=1, now=2, mirror=False)
ledger._db.execute("BEGIN IMMEDIATE")
ledger._db.execute("DELETE FROM delivery")
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", words], env={**os.environ, "PYTHONPATH": f"{TOP}/lib"}, check=False)
    assert done.returncode == -signal.SIGKILL
    with Ledger(scratch / "l") as ledger:
        assert [item.unit.name for _, _, items in ledger.open_batches() for item in items] == [b"a"]


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=5, unique=True))
def test_any_name_comes_back(ledger: Ledger, names: list[bytes]) -> None:
    batch = confirm(ledger, *(unit(name) for name in names))
    assert [i.unit.name for number, _, items in ledger.open_batches() if number == batch for i in items] == names
    assert all(ledger.deliveries_of(name) for name in names)
    ledger.handed_over(batch, 1.0, {})


# -- an older file, and the end of a quarantine --------------------------------------------------


@pytest.fixture
def old(scratch: Path) -> Path:
    """A ledger that was written before releases were recorded."""
    path = scratch / "old.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript((TOP / "test" / "data" / "ledger_1.sql").read_text())
    return path


def test_an_older_ledger_can_be_read_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    with Ledger(old, read_only=True) as ledger:
        assert [t.moved_to for t in ledger.troubles()] == [b"/q/bad"]
        assert ledger.releases(name=b"bad") == []
        assert ledger.totals().released == 0
    assert old.read_bytes() == before


def test_an_older_ledger_is_brought_up_to_date_in_place(old: Path) -> None:
    for _ in range(2):
        with Ledger(old) as ledger:
            assert ledger.owner == "0badcafe"
            assert [(d.name, d.digest) for d in ledger.history()] == [(b"a\xff", "ab")]
            assert ledger.relocations() == []
            assert ledger.totals().quarantined == 1
    with Ledger(old) as ledger:
        ledger.end_quarantines(ledger.troubles(), [release(b"bad")])
    with Ledger(old, read_only=True) as ledger:
        assert (ledger.troubles(), ledger.releases(name=b"bad")) == ([], [release(b"bad")])
        assert (ledger.totals().quarantined, ledger.totals().released) == (0, 1)


def release(name: bytes, **more: object) -> Release:
    values: dict[str, object] = {"target": "t", "reason": "no", "who": "me", "when": 30.0, "place": b"/q/bad", **more}
    return Release(name=name, **values)  # type: ignore[arg-type]


def test_a_plan_is_kept_until_the_quarantine_has_ended_or_the_move_was_given_up(ledger: Ledger) -> None:
    plans = [
        Relocation(name=name, verb="retry", who="me", source=b"/q/" + name, destination=b"/d/" + name, found=(1, 2))
        for name in (b"a", b"b\n\xff")
    ]
    noted = [trouble(plan.name, quarantined=True, moved_to=plan.source) for plan in plans]
    ledger.note_troubles(noted)
    ledger.note_relocations(plans)
    assert ledger.relocations() == plans
    further = replace(plans[0], copy=(3, 4), placed=True)
    ledger.note_relocations([further])
    assert ledger.relocations() == [further, plans[1]]
    ledger.end_quarantines(noted[:1], sources=[plan.source for plan in plans])
    assert ledger.relocations() == []
    assert [t.name for t in ledger.troubles()] == [b"b\n\xff"]


def test_what_lies_in_the_directory_of_the_stream_is_not_forgotten_with_the_history(ledger: Ledger) -> None:
    identity = Identity(1, 2, 3, 4, 5)
    ledger.end_quarantines([], [release(b"here", identity=identity), release(b"away")])
    ledger.prune(1000.0)
    assert ledger.standing_releases() == {b"here": identity}
    assert [len(ledger.releases(name=name)) for name in (b"here", b"away")] == [1, 0]
    ledger.end_release(b"here")
    assert ledger.standing_releases() == {}
    assert len(ledger.releases(name=b"here")) == 1

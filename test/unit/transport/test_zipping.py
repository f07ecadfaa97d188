"""Directory units as zips: made of just what was judged, kept for the next attempt, and never left lying about."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mistamover.errors import LinkError, TransportBug
from mistamover.files.identity import identity_of
from mistamover.model import Batch, Confirmed, Failed, FaultClass, Identity, Kind, Unit, Verdict
from mistamover.stream.guard import LeaseGuard
from mistamover.transport.base import Capabilities, Guard, Zip
from mistamover.transport.zip_making import NotMade, make, unchanged
from mistamover.transport.zipping import Zipping
from mistamover.transport.zips_shown import ZipsShown
from mistamover.watch.scan import manifest, tree_identity
from support import wait_until
from unit.transport.peer import filesystem


class Copies:
    """A transport that carries no directories: it copies zips to a directory, and fails when it is told to."""

    def __init__(self, target: Path, *, trees: bool = False) -> None:
        self.target = target
        self.trees = trees
        self.plain: list[Batch] = []
        self.zips: list[Zip] = []
        self.fails: Callable[[Unit], Verdict] | None = None

    def open(self) -> Capabilities:
        return Capabilities(description="copies", trees=self.trees, removal=True)

    def suspended(self) -> bool:
        return False

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        self.plain.append(batch)
        return [Confirmed(unit=unit, digest="") for unit in batch.units]

    def deliver_zip(self, made: Zip, guard: Guard) -> Verdict:
        self.zips.append(made)
        unit = Unit(name=made.names[0], kind=Kind.FILE, identity=identity_of(os.lstat(made.path)))
        if self.fails is not None:
            return self.fails(unit)
        shutil.copy2(made.path, os.fsencode(self.target) + b"/" + unit.name)
        return Confirmed(unit=unit, digest="ab")

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        return list(names)

    def probe(self) -> None:
        return

    def abort(self) -> None:
        return

    def close(self, *, finished: bool) -> None:
        return


@pytest.fixture
def source(scratch: Path) -> Path:
    (scratch / "source/run/sub").mkdir(parents=True)
    (scratch / "source/run/sub/a").write_bytes(b"a" * 5000)
    (scratch / "source/run/b").write_bytes(b"b")
    (scratch / "target").mkdir()
    return scratch / "source"


@pytest.fixture
def guard() -> Iterator[LeaseGuard]:
    made = LeaseGuard({})
    made.begin()
    yield made
    made.close()


def unit(source: Path, name: bytes = b"run") -> Unit:
    root = os.fsencode(source)
    entries = manifest(root, name)
    identity = tree_identity(os.lstat(root + b"/" + name), entries)
    return Unit(name=name, kind=Kind.TREE, identity=identity, manifest=entries)


def later(scratch: Path, judged: Unit) -> None:
    """Wait until the clock of the filesystem has gone on: its ticks are a few milliseconds."""

    def gone_on() -> bool:
        (scratch / "tick").touch()
        return (scratch / "tick").stat().st_ctime_ns > judged.identity.ctime_ns

    wait_until(gone_on, 5, "the next tick", every=0.001)


def batch(*units: Unit) -> Batch:
    return Batch(number=1, units=units, size=1)


def zipping(plain: Copies, source: Path, *, always: bool = True, mirror: bool = False) -> Zipping:
    return Zipping(plain, source=os.fsencode(source), place=source.parent / "zips", always=always, mirror=mirror)


def failed(fault: FaultClass) -> Callable[[Unit], Verdict]:
    return lambda unit: Failed(unit=unit, fault=fault, reason="because")


@pytest.mark.parametrize(("always", "trees", "zipped"), [(True, True, 1), (False, False, 1), (False, True, 0)])
def test_it_zips_what_it_must(source: Path, guard: LeaseGuard, always: bool, trees: bool, zipped: int) -> None:
    plain = Copies(source.parent / "target", trees=trees)
    [verdict] = zipping(plain, source, always=always).deliver(batch(unit(source)), guard)
    assert isinstance(verdict, Confirmed)
    assert (len(plain.zips), len(plain.plain)) == (zipped, 1 - zipped)
    if zipped:
        assert [part.unit.name for part in verdict.parts[:1]] == [b"run.zip"]
        assert {part.unit.name for part in verdict.parts[1:]} == {b"run/b", b"run/sub", b"run/sub/a"}
        with zipfile.ZipFile(source.parent / "target/run.zip") as archive:
            assert archive.namelist() == ["run/", "run/b", "run/sub/", "run/sub/a"]
        assert not (source.parent / "zips").exists()


def test_files_go_as_they_are(source: Path, guard: LeaseGuard) -> None:
    (source / "f").write_bytes(b"f")
    plain = Copies(source.parent / "target")
    file = Unit(name=b"f", kind=Kind.FILE, identity=identity_of((source / "f").lstat()))
    zipping(plain, source).deliver(batch(file), guard)
    assert (len(plain.zips), len(plain.plain)) == (0, 1)
    with pytest.raises(TransportBug):
        zipping(plain, source).deliver(batch(file, unit(source)), guard)


def test_the_place_is_ours_alone_and_cleared(source: Path, guard: LeaseGuard) -> None:
    place = source.parent / "zips"
    place.mkdir()
    (place / "of a killed predecessor.zip").write_bytes(b"half")
    plain = Copies(source.parent / "target")
    carrier = zipping(plain, source)
    assert not place.exists()
    plain.fails = failed(FaultClass.LINK)
    carrier.deliver(batch(unit(source)), guard)
    assert place.stat().st_mode & 0o777 == 0o700
    assert os.listdir(place) == ["run.zip"]
    carrier.close(finished=False)
    assert not place.exists()


def test_a_zip_is_made_once_for_several_attempts(source: Path, guard: LeaseGuard) -> None:
    plain = Copies(source.parent / "target")
    carrier = zipping(plain, source)
    plain.fails = failed(FaultClass.LINK)
    for _ in range(2):
        [verdict] = carrier.deliver(batch(unit(source)), guard)
        assert isinstance(verdict, Failed)
        assert (verdict.fault, verdict.unit.name) == (FaultClass.LINK, b"run")
    made = (source.parent / "zips/run.zip").stat().st_ino
    carrier.deliver(batch(unit(source)), guard)
    assert (source.parent / "zips/run.zip").stat().st_ino == made
    (source / "run/b").write_bytes(b"another b")
    plain.fails = None
    carrier.deliver(batch(unit(source)), guard)
    with zipfile.ZipFile(source.parent / "target/run.zip") as archive:
        assert archive.read("run/b") == b"another b"


def test_a_zip_survives_a_lost_connection(source: Path, guard: LeaseGuard) -> None:
    def lost(_: Unit) -> Verdict:
        raise LinkError("gone")

    plain = Copies(source.parent / "target")
    carrier = zipping(plain, source)
    plain.fails = lost
    with pytest.raises(LinkError):
        carrier.deliver(batch(unit(source)), guard)
    made = (source.parent / "zips/run.zip").stat().st_ino
    plain.fails = failed(FaultClass.LINK)
    carrier.deliver(batch(unit(source)), guard)
    assert (source.parent / "zips/run.zip").stat().st_ino == made


def test_a_mirror_knows_its_zip_although_it_died_before_that_was_recorded(source: Path, guard: LeaseGuard) -> None:
    plain = Copies(source.parent / "target")
    there: list[tuple[int, int]] = []
    for content in (b"one", b"two", b"three"):
        (source / "run/b").write_bytes(content)
        # Each time another process, and nothing in the ledger.
        zipping(plain, source, mirror=True).deliver(batch(unit(source)), guard)
        assert plain.zips[-1].names == [b"run.zip"]
        assert [(old.size, old.mtime_ns) for old in plain.zips[-1].replaces] == there
        appeared = (source.parent / "target/run.zip").stat()
        there.append((appeared.st_size, appeared.st_mtime_ns))


def test_notes_of_zips_come_back_and_do_not_grow(scratch: Path) -> None:
    shown = ZipsShown(scratch / "shown")
    for number in range(100):
        shown.note(b"new\nline \xff", Identity(1, 2, number, 10 * number, 3))
    shown.note(b"other", Identity(1, 2, 7, 8, 9))
    again = ZipsShown(scratch / "shown")
    assert again.of(b"other") == [Identity(0, 0, 7, 8, 0)]
    assert [note.size for note in again.of(b"new\nline \xff")] == list(range(85, 100))


@pytest.mark.parametrize(
    ("said", "means"),
    [
        (FaultClass.VANISHED, FaultClass.HERE),
        (FaultClass.SOURCE, FaultClass.HERE),
        (FaultClass.CHANGED, FaultClass.CHANGED),
        (FaultClass.REFUSED, FaultClass.REFUSED),
        (FaultClass.TARGET, FaultClass.TARGET),
    ],
)
def test_whom_a_failure_blames(source: Path, guard: LeaseGuard, said: FaultClass, means: FaultClass) -> None:
    """A zip of ours that has gone says nothing about the directory."""
    plain = Copies(source.parent / "target")
    plain.fails = failed(said)
    [verdict] = zipping(plain, source).deliver(batch(unit(source)), guard)
    assert isinstance(verdict, Failed)
    assert verdict.fault is means


@pytest.mark.parametrize(
    "change",
    [
        lambda run: (run / "b").write_bytes(b"B"),
        lambda run: (run / "b").unlink(),
        lambda run: (run / "new").write_bytes(b""),
        lambda run: (run / "sub/new").mkdir(),
        lambda run: (run / "sub").rename(run / "bus"),
        lambda run: (run / "b").chmod(0o600),
        lambda run: run.rename(run.parent / "away"),
    ],
)
def test_what_changed_since_it_was_judged_is_not_zipped(
    source: Path, guard: LeaseGuard, change: Callable[[Path], object]
) -> None:
    judged = unit(source)
    assert unchanged(judged, os.fsencode(source))
    later(source.parent, judged)
    change(source / "run")
    assert not unchanged(judged, os.fsencode(source))
    path = os.fsencode(source.parent / "x.zip")
    with pytest.raises(NotMade) as caught:
        make(judged, os.fsencode(source), path, guard)
    assert caught.value.fault is FaultClass.CHANGED
    assert not os.path.lexists(path)


def test_a_writer_that_waits_ends_it(source: Path, guard: LeaseGuard) -> None:
    guard.give_up()
    path = os.fsencode(source.parent / "x.zip")
    with pytest.raises(NotMade) as caught:
        make(unit(source), os.fsencode(source), path, guard)
    assert caught.value.fault is FaultClass.ABANDONED
    assert not os.path.lexists(path)


def test_no_room_is_nobodys_fault(source: Path, guard: LeaseGuard) -> None:
    place = source.parent / "full"
    place.mkdir()
    with filesystem(place, "-t", "tmpfs", "-o", "size=1m", "none"):
        with pytest.raises(NotMade, match=r"cannot be zipped here, in .*/full: less than 64 MiB") as caught:
            make(unit(source), os.fsencode(source), os.fsencode(place / "x.zip"), guard)
        assert caught.value.fault is FaultClass.HERE
        assert os.listdir(place) == []


def test_owner_mode_and_time_of_a_zip(source: Path, guard: LeaseGuard) -> None:
    """Who may read the directory may read its zip, and its time is that of the newest thing in it."""
    (source / "run").chmod(0o2750)
    judged = unit(source)
    path = source.parent / "x.zip"
    make(judged, os.fsencode(source), os.fsencode(path), guard)
    status = path.stat()
    assert status.st_mode & 0o7777 == 0o640
    assert status.st_mtime_ns == judged.identity.mtime_ns <= time.time_ns()
    assert (status.st_uid, status.st_gid) == ((source / "run").stat().st_uid, (source / "run").stat().st_gid)


def test_links_and_empty_directories_go_in_and_what_is_special_does_not(source: Path, guard: LeaseGuard) -> None:
    (source / "run/link").symlink_to("../../away")
    (source / "run/empty").mkdir()
    os.mkfifo(source / "run/fifo")
    path = source.parent / "x.zip"
    make(unit(source), os.fsencode(source), os.fsencode(path), guard)
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["run/", "run/b", "run/empty/", "run/link", "run/sub/", "run/sub/a"]
        assert archive.read("run/link") == b"../../away"

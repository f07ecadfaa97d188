"""Removal of a source: only what is still the very thing that was confirmed goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mistamover.files import leases
from mistamover.files.identity import identity_of
from mistamover.model import Confirmed, Identity, Kind, Unit
from mistamover.stream.handover import CHANGED, Completion, HandedOver, remove_after_restart, remove_sources
from mistamover.watch.scan import manifest


@pytest.fixture(autouse=True)
def survive_breaks() -> Iterator[None]:
    before = signal.getsignal(signal.SIGIO)
    leases.hear_breaks()
    yield
    signal.signal(signal.SIGIO, before)


def unit(root: Path, name: str, kind: Kind = Kind.FILE) -> Unit:
    status = (root / name).lstat()
    parts = manifest(os.fsencode(root), os.fsencode(name)) if kind is Kind.TREE else ()
    return Unit(name=os.fsencode(name), kind=kind, identity=identity_of(status), links=status.st_nlink, manifest=parts)


def file(root: Path, name: str, content: bytes = b"data") -> Unit:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)
    return unit(root, name)


def remove(root: Path, *units: Unit, intact: Callable[[bytes], bool] = lambda name: True) -> list[str | None]:
    done = remove_sources(os.fsencode(root), units, intact)
    assert [item.name for item in done] == [each.name for each in units]
    return [item.kept for item in done]


def after_restart(root: Path, *units: Unit) -> list[HandedOver]:
    return remove_after_restart(os.fsencode(root), [Confirmed(unit=each, digest="") for each in units])


def test_unchanged_goes(scratch: Path) -> None:
    units = [file(scratch, "a"), file(scratch, "d/b\n"), file(scratch, "d/e/-c")]
    assert remove(scratch, *units) == [None] * 3
    assert [path for path in scratch.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize("number", range(5))
def test_any_field_that_differs_keeps_it(scratch: Path, number: int) -> None:
    sent = file(scratch, "a")
    values = list(sent.identity)
    values[number] += 1
    assert remove(scratch, replace(sent, identity=Identity(*values))) == [CHANGED]
    assert (scratch / "a").read_bytes() == b"data"


def _replace(path: Path) -> None:
    path.with_name("new").write_bytes(path.read_bytes())
    os.replace(path.with_name("new"), path)


def _same_times(path: Path) -> None:
    """Other content of the same size with the times of the old: only ctime tells."""
    status = path.stat()
    path.write_bytes(b"DATA")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"data"),
        lambda path: path.write_bytes(b"more data"),
        lambda path: os.utime(path),
        lambda path: path.chmod(0o600),
        lambda path: os.link(path, path.with_name("other")),
        _replace,
        _same_times,
    ],
    ids=["written", "grown", "touched", "chmod", "linked", "replaced", "times-forged"],
)
@pytest.mark.parametrize("restart", [False, True])
def test_any_change_keeps_it(scratch: Path, change: Callable[[Path], object], restart: bool) -> None:
    sent = file(scratch, "a")
    _wait_for_another_tick(scratch)
    change(scratch / "a")
    kept = after_restart(scratch, sent)[0].kept if restart else remove(scratch, sent)[0]
    assert kept == CHANGED
    assert (scratch / "a").exists()


def _wait_for_another_tick(scratch: Path) -> None:
    """The kernel stamps times by its tick: a change in the same tick as the last one cannot be told by time."""
    probe = scratch / "tick"
    probe.touch()
    before = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before:
        probe.chmod(0o600)
    probe.unlink()


def test_already_gone_is_done(scratch: Path) -> None:
    sent, deep = file(scratch, "a"), file(scratch, "d/b")
    for path in (scratch / "a", scratch / "d" / "b"):
        path.unlink()
    (scratch / "d").rmdir()
    assert remove(scratch, sent, deep) == [None, None]


def test_a_writer_keeps_it(scratch: Path) -> None:
    sent = file(scratch, "a")
    assert remove(scratch, sent, intact=lambda name: name != b"a") == [CHANGED]


def test_other_things_of_the_name_stay(scratch: Path) -> None:
    sent = file(scratch, "a")
    (scratch / "a").unlink()
    (scratch / "a").mkdir()
    assert remove(scratch, sent)[0] is not None
    assert (scratch / "a").is_dir()


def test_nothing_outside_is_removed_through_a_link(scratch: Path) -> None:
    root, outside = scratch / "root", scratch / "outside"
    sent = file(root, "d/a")
    (root / "d").rename(outside)
    (root / "d").symlink_to(outside)
    assert remove(root, sent) != [] and (outside / "a").exists()


def test_link_goes_and_its_target_stays(scratch: Path) -> None:
    file(scratch, "a")
    (scratch / "l").symlink_to("a")
    assert remove(scratch, unit(scratch, "l", Kind.LINK)) == [None]
    assert (scratch / "a").exists() and not (scratch / "l").is_symlink()


def test_all_names_of_one_inode_go(scratch: Path) -> None:
    file(scratch, "a")
    os.link(scratch / "a", scratch / "b")
    os.link(scratch / "a", scratch / "kept elsewhere")
    units = [unit(scratch, "a"), unit(scratch, "b")]
    assert remove(scratch, *units) == [None, None]
    assert [path.name for path in scratch.iterdir()] == ["kept elsewhere"]


def test_all_names_of_one_inode_go_after_a_restart(scratch: Path) -> None:
    file(scratch, "a")
    os.link(scratch / "a", scratch / "b")
    assert [item.kept for item in after_restart(scratch, unit(scratch, "a"), unit(scratch, "b"))] == [None, None]


def test_empty_directory_goes_and_a_full_one_stays(scratch: Path) -> None:
    (scratch / "e").mkdir()
    (scratch / "f").mkdir()
    units = [unit(scratch, "e", Kind.DIRECTORY), unit(scratch, "f", Kind.DIRECTORY)]
    (scratch / "f" / "late").touch()
    gone, kept = remove(scratch, *units)
    assert gone is None and kept is not None
    assert (scratch / "f" / "late").exists()


def tree(root: Path) -> Unit:
    for name in ("run/a", "run/s/b", "run/s/t/c"):
        file(root, name)
    (root / "run" / "empty").mkdir()
    (root / "run" / "link").symlink_to("a")
    return unit(root, "run", Kind.TREE)


def test_tree_goes_whole(scratch: Path) -> None:
    assert remove(scratch, tree(scratch)) == [None]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("late", ["run/late", "run/s/t/late"])
def test_tree_with_a_late_file_stays_whole(scratch: Path, late: str) -> None:
    sent = tree(scratch)
    file(scratch, late)
    assert remove(scratch, sent) == [CHANGED]
    assert (
        sum(path.is_file() for path in scratch.rglob("*")) == 5
    )  # four of the tree (one by its link), and the late one


def test_tree_with_a_changed_part_stays_whole(scratch: Path) -> None:
    sent = tree(scratch)
    _wait_for_another_tick(scratch)
    (scratch / "run/s/b").write_bytes(b"DATA")
    assert remove(scratch, sent) == [CHANGED]
    assert (scratch / "run/a").exists()


def test_tree_with_hard_links_goes(scratch: Path) -> None:
    file(scratch, "run/a")
    os.link(scratch / "run/a", scratch / "run/b")
    assert remove(scratch, unit(scratch, "run", Kind.TREE)) == [None]


def test_tree_half_removed_goes_after_a_restart(scratch: Path) -> None:
    sent = tree(scratch)
    (scratch / "run/a").unlink()
    (scratch / "run/s/b").unlink()
    assert after_restart(scratch, sent)[0].kept is None
    assert list(scratch.iterdir()) == []


def test_tree_with_directories_removed_goes_after_a_restart(scratch: Path) -> None:
    sent = tree(scratch)
    for name in ("a", "link", "s/b", "s/t/c"):
        (scratch / "run" / name).unlink()
    (scratch / "run/s/t").rmdir()
    assert after_restart(scratch, sent)[0].kept is None
    assert list(scratch.iterdir()) == []


def test_open_for_writing_is_kept_after_a_restart(scratch: Path) -> None:
    sent = file(scratch, "a")
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; f = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()",
            scratch / "a",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == b"open\n"
        assert after_restart(scratch, sent)[0].kept is not None
        assert (scratch / "a").exists()
        writer.communicate()
    assert after_restart(scratch, sent)[0].kept is None


def test_no_descriptor_is_left(scratch: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    remove(scratch, *(file(scratch, f"d{number}/f") for number in range(300)))
    after_restart(scratch, tree(scratch), file(scratch, "z"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_completion_needs_every_required_target() -> None:
    item = Confirmed(unit=Unit(name=b"a", kind=Kind.FILE, identity=Identity(1, 2, 3, 4, 5)), digest="")
    newer = Confirmed(unit=replace(item.unit, identity=Identity(1, 2, 3, 4, 6)), digest="")
    both = Completion(frozenset({"x", "y"}))
    assert both.confirmed("x", [item]) == []
    assert both.confirmed("x", [item]) == []
    assert both.confirmed("y", [newer]) == []
    assert both.confirmed("y", [item]) == [item]
    assert Completion(frozenset({"x"})).confirmed("x", [item]) == [item]

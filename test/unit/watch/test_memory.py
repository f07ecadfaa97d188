"""What need not be listed again, and that nothing is ever missed by it."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mistamover.model import Kind
from mistamover.watch.memory import Memory
from mistamover.watch.scan import Sighting, walk
from unit.watch.looking import Watch, units
from unit.watch.tree import STEPS, Tree

#: Seconds; the tick of the clock that dates files is a tenth of it.
MARGIN = 0.04

Begin = Callable[..., Watch]


class Scanner:
    """Full scans of one directory with a memory of short margin, and which directories each of them listed."""

    def __init__(self, root: Path, limit: int = 1000, ignored: Callable[[bytes, Kind], bool] | None = None) -> None:
        self.root = os.fsencode(root)
        self.memory = Memory(MARGIN, limit)
        self.ignored = ignored
        self.listed: list[bytes] = []
        self.problems: list[bytes] = []

    def begin(self) -> Iterator[Sighting]:
        self.memory.begin()
        self.problems.clear()
        return walk(
            self.root,
            b"",
            excluded=frozenset(),
            whole_directories=False,
            problem=lambda name, _: self.problems.append(name),
            memory=self.memory,
            ignored=self.ignored,
        )

    def scan(self) -> list[Sighting]:
        with listings() as listed:
            found = list(self.begin())
        self.memory.end()
        prefix = len(self.root) + 1
        self.listed = sorted(path[prefix:] for path in listed if path.startswith(self.root))
        return found

    def units(self) -> set[bytes]:
        return {s.name for s in self.scan() if s.kind is not Kind.DIRECTORY}


_LISTED: list[list[bytes]] = []


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _LISTED and event == "os.scandir" and isinstance(arguments[0], bytes):
        _LISTED[-1].append(arguments[0])


@functools.cache
def _begin_audit() -> None:
    """Hear from the interpreter which directories are listed; that cannot be ended again."""
    sys.addaudithook(_audit)


@contextmanager
def listings() -> Iterator[list[bytes]]:
    """Note which directories are listed."""
    _begin_audit()
    _LISTED.append([])
    try:
        yield _LISTED[-1]
    finally:
        _LISTED.pop()


def rest() -> None:
    time.sleep(1.5 * MARGIN)


@pytest.fixture
def tree(scratch: Path) -> Path:
    for name in ("a/b/c", "d"):
        (scratch / name).mkdir(parents=True)
    rest()
    return scratch


def test_directories_without_units_are_listed_once(tree: Path) -> None:
    scanner = Scanner(tree)
    first = scanner.scan()
    assert scanner.listed == [b"", b"a", b"a/b", b"a/b/c", b"d"]
    second = scanner.scan()
    assert scanner.listed == []
    # Not the whole status: reading a directory may change when it was last read.
    assert [(s.name, s.kind, s.entries) for s in second] == [(s.name, s.kind, s.entries) for s in first]
    assert {(s.name, s.entries) for s in first} == {(b"a", 1), (b"a/b", 1), (b"a/b/c", 0), (b"d", 0)}


def test_below_an_unchanged_directory_what_changed_is_seen(tree: Path) -> None:
    scanner = Scanner(tree)
    scanner.scan()
    (tree / "a" / "b" / "c" / "f").touch()
    assert scanner.units() == {b"a/b/c/f"}
    assert scanner.listed == [b"a/b/c"]


def test_a_directory_with_a_unit_is_listed_each_time(tree: Path) -> None:
    (tree / "a" / "f").touch()
    rest()
    scanner = Scanner(tree)
    for _ in range(3):
        assert scanner.units() == {b"a/f"}
    assert scanner.listed == [b"a"]
    (tree / "a" / "f").unlink()
    rest()
    assert (scanner.units(), scanner.units(), scanner.listed) == (set(), set(), [])


def test_what_changed_just_before_it_was_listed_is_not_trusted(tree: Path) -> None:
    scanner = Scanner(tree)
    (tree / "d" / "f").touch()
    (tree / "d" / "f").unlink()
    scanner.scan()
    scanner.scan()
    assert scanner.listed == [b"d"]
    rest()
    scanner.scan()
    scanner.scan()
    assert scanner.listed == []


def test_what_comes_while_a_directory_is_listed_is_seen_by_the_next_scan(tree: Path) -> None:
    scanner = Scanner(tree, ignored=lambda name, _: name.endswith(b".log"))
    for number in range(10):
        (tree / f"{number}.log").touch()
    rest()
    scan = scanner.begin()
    next(scan)
    (tree / "late").touch()
    for _ in scan:
        pass
    scanner.memory.end()
    assert b"late" in scanner.units()


def test_times_that_somebody_put_back_do_not_hide_it(tree: Path) -> None:
    scanner = Scanner(tree)
    before = os.stat(tree / "d")
    scanner.scan()
    (tree / "d" / "f").touch()
    os.utime(tree / "d", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert scanner.units() == {b"d/f"}


def test_ignored_names_do_not_make_a_directory_be_listed_again(tree: Path) -> None:
    (tree / "d" / "x.log").touch()
    rest()
    scanner = Scanner(tree, ignored=lambda name, _: name.endswith(b".log"))
    assert scanner.units() == {b"d/x.log"}
    assert (scanner.units(), scanner.listed) == (set(), [])
    (tree / "d" / "f").touch()
    assert scanner.units() == {b"d/x.log", b"d/f"}


def test_a_full_memory_is_no_harm(tree: Path) -> None:
    scanner = Scanner(tree, limit=2)
    scanner.scan()
    scanner.scan()
    assert (len(scanner.memory), len(scanner.listed)) == (2, 3)


def test_directories_that_are_gone_are_forgotten(tree: Path) -> None:
    scanner = Scanner(tree)
    scanner.scan()
    (tree / "d").rmdir()
    scanner.scan()
    rest()
    scanner.scan()
    assert len(scanner.memory) == 4


def test_what_cannot_be_read_is_told_each_time(tree: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tree / "d").chmod(0)
    scanner = Scanner(tree)
    for _ in range(3):
        scanner.scan()
        assert scanner.problems == [b"d"]
    (tree / "d").chmod(0o755)


def test_a_scan_that_was_asked_for_lists_everything(watch: Begin, tree: Path) -> None:
    time.sleep(3.1)
    one = watch(tree, rescan_interval=0.05)

    def listed_again() -> int:
        time.sleep(max(0.0, one.arrivals.next_scan() - time.monotonic()))
        with listings() as listed:
            one.look()
        return len(listed)

    assert listed_again() == 0
    with listings() as listed:
        one.scan_again()
    assert len(listed) == 5
    assert listed_again() == 0


@given(steps=st.lists(STEPS, max_size=30))
@settings(max_examples=40, deadline=None)
def test_each_scan_sees_every_unit_that_is_there(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        tree = Tree(Path(place))
        scanner = Scanner(tree.root)
        for step in steps:
            if step[0] == "look":
                assert scanner.units() == units(tree.root)
            else:
                tree.apply(step)
        rest()
        for _ in range(2):
            assert scanner.units() == units(tree.root)
        tree.put_into_each()
        assert scanner.units() == units(tree.root)

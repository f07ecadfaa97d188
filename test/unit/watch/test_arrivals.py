"""Arrivals in real directories: hints first, scans for the truth."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.config.settings import WatchMode
from mistamover.model import Kind
from mistamover.watch.arrivals import Arrivals
from mistamover.watch.scan import Sighting, manifest, walk
from support import wait_until


class Watch:
    """Arrivals of one directory, with all that was sighted so far."""

    def __init__(self, root: Path, **more: object) -> None:
        self.woken = threading.Event()
        options: dict[str, object] = {
            "excluded": frozenset(),
            "whole_directories": False,
            "changes": False,
            "mode": WatchMode.EVENTS,
            "rescan_interval": 3600.0,
            "wake": self.woken.set,
            **more,
        }
        self.arrivals = Arrivals(os.fsencode(root), **options)  # type: ignore[arg-type]
        self.seen: list[Sighting] = []
        self.arrivals.start()

    def look(self, room: int = 100_000) -> set[bytes]:
        """Take what there is; return the names of everything that was sighted as being there."""
        self.seen += self.arrivals.take(room)
        return {s.name for s in self.seen if s.status is not None and s.kind is not Kind.DIRECTORY}

    def until(self, *names: bytes) -> None:
        """Wait until all of the names were sighted."""
        wait_until(lambda: self.look() >= set(names), 10, f"sighted {names!r}")


@pytest.fixture
def made() -> Iterator[list[Watch]]:
    watches: list[Watch] = []
    yield watches
    for watch in watches:
        watch.arrivals.stop()


def watch(made: list[Watch], root: Path, **more: object) -> Watch:
    made.append(Watch(root, **more))
    made[-1].look()
    return made[-1]


def test_what_is_there_is_found_by_the_first_scan(made: list[Watch], scratch: Path) -> None:
    (scratch / "d" / "e").mkdir(parents=True)
    for name in ("a", "d/b", "d/e/c\n"):
        (scratch / name).touch()
    (scratch / "l").symlink_to("nowhere")
    first = watch(made, scratch)
    assert first.look() == {b"a", b"d/b", b"d/e/c\n", b"l"}
    assert (first.arrivals.full_scans, first.arrivals.busy) == (1, False)


def test_a_new_file_wakes_and_is_sighted_without_a_scan(made: list[Watch], scratch: Path) -> None:
    one = watch(made, scratch)
    one.woken.clear()
    (scratch / "a").write_bytes(b"x")
    assert one.woken.wait(5)
    one.until(b"a")
    assert one.arrivals.full_scans == 1


def test_names_of_any_bytes(made: list[Watch], scratch: Path) -> None:
    one = watch(made, scratch)
    names = [b"new\nline", b"\xff\xfe", b"-rf", b" ", b"\\#012", b"x" * 255]
    for name in names:
        with open(os.fsencode(scratch) + b"/" + name, "wb"):
            pass
    one.until(*names)


def test_a_burst(made: list[Watch], scratch: Path) -> None:
    one = watch(made, scratch)
    names = [b"f%04d" % number for number in range(3_000)]
    for name in names:
        (scratch / os.fsdecode(name)).touch()
    one.until(*names)


def test_renamed_into_it(made: list[Watch], scratch: Path, tmp_path: Path) -> None:
    one = watch(made, scratch)
    (tmp_path / "a").touch()
    (tmp_path / "a").rename(scratch / "a")
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "b").touch()
    (tmp_path / "d").rename(scratch / "d")
    one.until(b"a", b"d/e/b")


def test_renamed_within_it(made: list[Watch], scratch: Path) -> None:
    (scratch / "a.tmp").touch()
    one = watch(made, scratch)
    (scratch / "a.tmp").rename(scratch / "a")
    one.until(b"a")


def test_links_and_hard_links(made: list[Watch], scratch: Path) -> None:
    (scratch / "a").touch()
    one = watch(made, scratch)
    os.link(scratch / "a", scratch / "b")
    (scratch / "c").symlink_to("a")
    one.until(b"b", b"c")


def test_a_deep_tree_made_at_once(made: list[Watch], scratch: Path) -> None:
    one = watch(made, scratch)
    deep = scratch.joinpath(*"abcdefghij")
    deep.mkdir(parents=True)
    (deep / "f").touch()
    (scratch / "a" / "b" / "g").touch()
    one.until(b"a/b/c/d/e/f/g/h/i/j/f", b"a/b/g")


def test_files_in_new_directories_while_it_looks(made: list[Watch], scratch: Path) -> None:
    one = watch(made, scratch)
    names = []
    for number in range(200):
        (scratch / f"d{number}" / "e").mkdir(parents=True)
        (scratch / f"d{number}" / "e" / "f").touch()
        names.append(b"d%d/e/f" % number)
        one.look()
    one.until(*names)


def test_lost_events_ask_for_a_scan(made: list[Watch], scratch: Path) -> None:
    one = watch(made, scratch, mode=WatchMode.EVENTS)
    logging.getLogger("watchdog.observers.inotify_c").warning("Event queue overflow")
    assert one.woken.is_set()
    one.look()
    wait_until(lambda: one.look() is not None and one.arrivals.full_scans == 2, 5, "a second full scan")


def test_polling_finds_it_without_events(made: list[Watch], scratch: Path) -> None:
    one = watch(made, scratch, mode=WatchMode.POLL, rescan_interval=0.05)
    (scratch / "a").touch()
    one.until(b"a")
    assert one.arrivals.full_scans > 1


def test_it_takes_no_more_than_there_is_room_for(made: list[Watch], scratch: Path) -> None:
    for number in range(50):
        (scratch / str(number)).touch()
    made.append(Watch(scratch))
    one, sizes = made[0], []
    while one.arrivals.busy:
        sizes.append(len(one.arrivals.take(7)))
    assert max(sizes) == 7 and sum(sizes) == 50


def test_ours_and_the_excluded_are_not_seen(made: list[Watch], scratch: Path) -> None:
    for name in (".mistamover-x", "quarantine", "d"):
        (scratch / name).mkdir()
        (scratch / name / "f").touch()
    one = watch(made, scratch, excluded=frozenset({b"quarantine"}))
    (scratch / "quarantine" / "g").touch()
    (scratch / "z").touch()
    one.until(b"z")
    assert one.look() == {b"d/f", b"z"}


def test_whole_directories(made: list[Watch], scratch: Path) -> None:
    one = watch(made, scratch, whole_directories=True)
    (scratch / "run" / "deep").mkdir(parents=True)
    (scratch / "run" / "deep" / "f").touch()
    one.until(b"run")
    assert {s.kind for s in one.seen if s.name == b"run"} == {Kind.TREE}
    assert one.look() == {b"run"}


def test_deletions_are_sighted_where_they_matter(made: list[Watch], scratch: Path) -> None:
    (scratch / "a").touch()
    one = watch(made, scratch, changes=True)
    (scratch / "a").unlink()
    wait_until(lambda: one.look() is not None and any(s.status is None for s in one.seen), 10, "the deletion")


def test_what_cannot_be_read_is_told(scratch: Path) -> None:
    told: list[bytes] = []
    root = os.fsencode(scratch / "none")

    def tell(name: bytes, _: OSError) -> None:
        told.append(name)

    walked = walk(root, b"", excluded=frozenset(), whole_directories=False, problem=tell)
    assert (list(walked), told) == ([], [b""])


def test_manifest_is_everything_below(scratch: Path) -> None:
    (scratch / "run" / "e").mkdir(parents=True)
    (scratch / "run" / "f").touch()
    (scratch / "run" / "l").symlink_to("/")
    found = {entry.name: entry.kind for entry in manifest(os.fsencode(scratch), b"run")}
    assert found == {b"e": Kind.DIRECTORY, b"f": Kind.FILE, b"l": Kind.LINK}

"""Arrivals in real directories: hints first, scans for the truth."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from mistamover.config.settings import WatchMode
from mistamover.model import Kind
from mistamover.watch.scan import manifest, walk
from support import wait_until
from unit.watch.looking import Watch, kernel_watches

Begin = Callable[..., Watch]


def test_what_is_there_is_found_by_the_first_scan(watch: Begin, scratch: Path) -> None:
    (scratch / "d" / "e").mkdir(parents=True)
    for name in ("a", "d/b", "d/e/c\n"):
        (scratch / name).touch()
    (scratch / "l").symlink_to("nowhere")
    first = watch(scratch)
    assert first.look() == {b"a", b"d/b", b"d/e/c\n", b"l"}
    assert (first.arrivals.full_scans, first.arrivals.busy) == (1, False)


def test_a_new_file_wakes_and_is_sighted_without_a_scan(watch: Begin, scratch: Path) -> None:
    one = watch(scratch)
    one.woken.clear()
    (scratch / "a").write_bytes(b"x")
    assert one.woken.wait(5)
    one.until(b"a")
    assert one.arrivals.full_scans == 1


def test_names_of_any_bytes(watch: Begin, scratch: Path) -> None:
    one = watch(scratch)
    names = [b"new\nline", b"\xff\xfe", b"-rf", b" ", b"\\#012", b"x" * 255]
    for name in names:
        with open(os.fsencode(scratch) + b"/" + name, "wb"):
            pass
    one.until(*names)


def test_a_burst(watch: Begin, scratch: Path) -> None:
    one = watch(scratch)
    names = [b"f%04d" % number for number in range(3_000)]
    for name in names:
        (scratch / os.fsdecode(name)).touch()
    one.until(*names)


def test_renamed_into_it(watch: Begin, scratch: Path, tmp_path: Path) -> None:
    one = watch(scratch)
    (tmp_path / "a").touch()
    (tmp_path / "a").rename(scratch / "a")
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "b").touch()
    (tmp_path / "d").rename(scratch / "d")
    one.until(b"a", b"d/e/b")


def test_renamed_within_it(watch: Begin, scratch: Path) -> None:
    (scratch / "a.tmp").touch()
    one = watch(scratch)
    (scratch / "a.tmp").rename(scratch / "a")
    one.until(b"a")
    assert b"a.tmp" in {s.name for s in one.seen if s.status is None}


def test_links_and_hard_links(watch: Begin, scratch: Path) -> None:
    (scratch / "a").touch()
    one = watch(scratch)
    os.link(scratch / "a", scratch / "b")
    (scratch / "c").symlink_to("a")
    one.until(b"b", b"c")


def test_a_deep_tree_made_at_once(watch: Begin, scratch: Path) -> None:
    one = watch(scratch)
    deep = scratch.joinpath(*"abcdefghij")
    deep.mkdir(parents=True)
    (deep / "f").touch()
    (scratch / "a" / "b" / "g").touch()
    one.until(b"a/b/c/d/e/f/g/h/i/j/f", b"a/b/g")


def test_files_in_new_directories_while_it_looks(watch: Begin, scratch: Path) -> None:
    one = watch(scratch)
    names = []
    for number in range(200):
        (scratch / f"d{number}" / "e").mkdir(parents=True)
        (scratch / f"d{number}" / "e" / "f").touch()
        names.append(b"d%d/e/f" % number)
        one.look()
    one.until(*names)


def test_a_queue_that_overflowed_is_made_up_for_by_a_scan(watch: Begin, scratch: Path) -> None:
    for name in ("a", "b"):
        (scratch / name).touch()
    one = watch(scratch)
    one.woken.clear()
    # While nobody can note anything, the queue fills with closes of the same two files in turn.
    with one.arrivals._coverage._events._lock:  # type: ignore[union-attr]
        for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) + 5_000):
            os.close(os.open(scratch / "ab"[number % 2], os.O_WRONLY))
        (scratch / "late").touch()
    assert one.woken.wait(5)
    one.until(b"late")
    assert one.arrivals.full_scans == 2


def test_polling_finds_it_without_events(watch: Begin, scratch: Path) -> None:
    one = watch(scratch, mode=WatchMode.POLL, rescan_interval=0.05)
    (scratch / "a").touch()
    one.until(b"a")
    assert one.arrivals.full_scans > 1


def test_it_takes_no_more_than_there_is_room_for(watch: Begin, scratch: Path) -> None:
    for number in range(50):
        (scratch / str(number)).touch()
    one, sizes = watch(scratch), []
    one.arrivals.request_scan()
    while one.arrivals.busy:
        sizes.append(len(one.arrivals.take(7)))
    assert max(sizes) == 7 and sum(sizes) == 50


def test_hints_wait_for_room(watch: Begin, scratch: Path) -> None:
    one = watch(scratch)
    for number in range(30):
        (scratch / str(number)).touch()
    wait_until(lambda: one.arrivals.busy, 10, "a hint")
    assert not one.arrivals.take(0)
    assert one.arrivals.busy
    while len(one.look(7)) < 30:
        assert one.woken.wait(5)
    assert one.arrivals.full_scans == 1


def test_ours_and_the_excluded_are_not_seen(watch: Begin, scratch: Path) -> None:
    for name in (".mistamover-x", "quarantine", "d"):
        (scratch / name).mkdir()
        (scratch / name / "f").touch()
    one = watch(scratch, excluded=frozenset({b"quarantine"}))
    (scratch / "quarantine" / "g").touch()
    (scratch / "z").touch()
    one.until(b"z")
    assert one.look() == {b"d/f", b"z"}


def test_whole_directories(watch: Begin, scratch: Path) -> None:
    one = watch(scratch, whole_directories=True)
    (scratch / "run" / "deep").mkdir(parents=True)
    (scratch / "run" / "deep" / "f").touch()
    one.until(b"run")
    assert {s.kind for s in one.seen if s.name == b"run"} == {Kind.TREE}
    assert one.look() == {b"run"}


def test_below_a_whole_directory_new_directories_are_heard_of_as_well(watch: Begin, scratch: Path) -> None:
    (scratch / "old" / "deep").mkdir(parents=True)
    one = watch(scratch, whole_directories=True)
    for directory in (scratch / "old" / "deep", scratch / "old" / "deep" / "new", scratch / "fresh" / "deep"):
        directory.mkdir(parents=True, exist_ok=True)
        top = os.fsencode(directory.relative_to(scratch)).partition(b"/")[0]
        one.until(top)
        wait_until(lambda: one.look() is not None and not one.arrivals.busy, 10, "rest")
        one.seen.clear()
        (directory / "f").touch()
        one.until(top)
    assert one.arrivals.full_scans == 1


def test_deletions_are_sighted_where_they_matter(watch: Begin, scratch: Path) -> None:
    (scratch / "a").touch()
    one = watch(scratch, changes=True)
    (scratch / "a").unlink()
    wait_until(lambda: one.look() is not None and any(s.status is None for s in one.seen), 10, "the deletion")


def test_a_file_that_is_made_and_closed_wakes_once(watch: Begin, scratch: Path) -> None:
    wakes: list[int] = []
    one = watch(scratch, wake=lambda: wakes.append(1))
    (scratch / "a").write_bytes(b"x" * 10_000)
    wait_until(lambda: one.arrivals.busy and wakes, 10, "the wake")
    one.until(b"a")
    assert len(wakes) == 1


def test_new_directories_do_not_wait_for_the_scan_under_way(watch: Begin, scratch: Path) -> None:
    for number in range(50):
        (scratch / f"d{number}").mkdir()
        (scratch / f"d{number}" / "f").touch()
    one = watch(scratch)
    one.seen.clear()
    one.arrivals.request_scan()
    one.look(10)
    (scratch / "new").mkdir()
    (scratch / "new" / "f").touch()
    wait_until(lambda: one.arrivals._coverage.waiting, 10, "a hint")
    wait_until(lambda: b"new/f" in one.look(1), 10, "the new file")
    assert len(one.look(1)) < 30
    one.look()
    assert (len(one.look()), one.arrivals.full_scans) == (51, 2)


def test_another_directory_in_the_place_of_the_root_is_watched(watch: Begin, scratch: Path) -> None:
    one = watch(scratch)
    scratch.rename(scratch.with_name("away"))
    wait_until(lambda: one.look() is not None and one.arrivals.gap, 10, "the root missing")
    assert b"" in one.arrivals.problems
    scratch.mkdir()
    (scratch / "a").touch()
    assert one.scan_again() == {b"a"}
    assert (one.arrivals.gap, one.arrivals.problems) == ("", {})
    (scratch / "b").touch()
    one.until(b"b")
    (scratch.with_name("away") / "c").touch()
    (scratch / "d").touch()
    one.until(b"d")
    assert one.look() == {b"a", b"b", b"d"}


def test_a_root_that_comes_later_is_found_within_seconds(watch: Begin, scratch: Path) -> None:
    one = watch(scratch / "later")
    assert one.arrivals.gap
    (scratch / "later").mkdir()
    (scratch / "later" / "a").touch()
    one.until(b"a")
    assert not one.arrivals.gap


def test_a_link_as_the_root_is_followed(watch: Begin, scratch: Path) -> None:
    (scratch / "real").mkdir()
    (scratch / "link").symlink_to("real")
    one = watch(scratch / "link")
    (scratch / "real" / "a").touch()
    one.until(b"a")


def test_a_directory_that_is_renamed_is_known_by_its_new_name(watch: Begin, scratch: Path) -> None:
    (scratch / "a" / "deep").mkdir(parents=True)
    one = watch(scratch)
    (scratch / "a").rename(scratch / "b")
    wait_until(lambda: one.arrivals.busy, 10, "a hint")
    one.look()
    (scratch / "b" / "deep" / "f").touch()
    (scratch / "a").mkdir()
    (scratch / "a" / "g").touch()
    one.until(b"b/deep/f", b"a/g")
    assert one.arrivals.full_scans == 1


def test_what_is_moved_away_or_deleted_is_watched_no_longer(watch: Begin, scratch: Path, tmp_path: Path) -> None:
    for name in ("away", "gone"):
        (scratch / name / "deep" / "deeper").mkdir(parents=True)
    before = kernel_watches()
    one = watch(scratch)
    assert kernel_watches() == before + 7
    (scratch / "away").rename(tmp_path / "away")
    shutil.rmtree(scratch / "gone")
    wait_until(lambda: kernel_watches() == before + 1, 10, "one watch left")
    known = one.arrivals._coverage._events._watches  # type: ignore[union-attr]
    wait_until(lambda: set(known) == {b""}, 10, "one watch known")


def test_what_is_passed_over_is_not_watched(watch: Begin, scratch: Path) -> None:
    for name in (".mistamover-x", "quarantine"):
        (scratch / name / "deep").mkdir(parents=True)
    before = kernel_watches()
    watch(scratch, excluded=frozenset({b"quarantine"}))
    assert kernel_watches() == before + 1


def test_an_idle_watch_costs_one_thread_that_sleeps(watch: Begin, scratch: Path) -> None:
    threads = set(os.listdir("/proc/self/task"))
    watch(scratch)
    (mine,) = set(os.listdir("/proc/self/task")) - threads
    switches = Path(f"/proc/self/task/{mine}/status")

    def slept() -> list[str]:
        return [line for line in switches.read_text().splitlines() if "ctxt_switches" in line]

    wait_until(lambda: switches.read_text().split("State:")[1].split()[0] == "S", 10, "the thread asleep")
    before = slept()
    time.sleep(1.5)
    assert slept() == before


def test_a_directory_that_turns_into_a_link_is_not_followed(watch: Begin, scratch: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").touch()
    for number in range(20):
        (scratch / f"d{number}").mkdir()
        (scratch / f"d{number}" / "f").touch()
    one = watch(scratch)
    one.seen.clear()
    one.arrivals.request_scan()
    first = one.look(1)
    for number in range(20):
        shutil.rmtree(scratch / f"d{number}")
        (scratch / f"d{number}").symlink_to(tmp_path / "outside")
    links = {b"d%d" % number for number in range(20)}
    one.until(*links)
    assert one.look() == first | links


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

"""Directory units as zips: whole, proven, never over another zip, and the directory goes only then."""

from __future__ import annotations

import contextlib
import io
import os
import random
import secrets
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import laws
from agents import end_all, kill, log_of, state_of, stream_pid
from laws import tree
from mistamover.testing.sshd import PrivateSshd
from support import Site, Stream, wait_until
from unit.transport.peer import filesystem

MIRROR = {"transfer_mode": "mirror"}


def zips(
    scratch: Path, sshd: PrivateSshd, *, outgoing: dict[str, object] | None = None, **every: Any
) -> tuple[Site, Stream]:
    data_stream = {"transfer_unit": "directory", "settle_time": 0.3, "rescan_interval": 1}
    out = {"always_zip": True, **(outgoing or {})}
    return laws.make(scratch, sshd, everywhere=every, data_stream=data_stream, outgoing=out)


def digits(size: int) -> bytes:
    """Return bytes that take long to compress."""
    return os.urandom(size // 2).hex().encode()


def build(
    one: Stream, name: str, files: int = 5, size: int = 100, made: Callable[[int], bytes] = os.urandom
) -> dict[str, bytes]:
    """Make a directory unit aside and rename it in; return its files by their names in the zip."""
    aside = one.source.parent / f"building-{name}"
    content = {f"d{number % 3}/file {number}": made(size) for number in range(files)}
    for part, data in content.items():
        laws.put(aside / part, data)
    aside.rename(one.source / name)
    return {f"{name}/{part}": data for part, data in content.items()}


def append(one: Stream, name: str, expected: dict[str, bytes]) -> None:
    """Write to the end of a file of the unit `run`, and to what is expected to arrive."""
    with (one.source / "run" / name).open("ab") as file:
        file.write(b"late")
    expected[f"run/{name}"] = expected.get(f"run/{name}", b"") + b"late"


def inside(path: Path) -> dict[str, bytes]:
    """Return the files in a zip; it must be whole."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}


def gone(one: Stream, name: str, timeout: float = 10) -> None:
    wait_until(lambda: not os.path.lexists(one.source / name), timeout, f"{name} goes")


def half_or_whole(path: Path) -> laws.Witness:
    """Watch a final name: a whole zip has it, or nothing."""

    def look() -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            data = path.read_bytes()
            if not zipfile.is_zipfile(io.BytesIO(data)):
                yield f"{path.name}: {len(data)} bytes that are no zip"

    return laws.Witness(look)


def nothing_of_ours(site: Site, one: Stream) -> None:
    """No zip is left on this side."""
    assert not (state_of(site, one.name) / "zips").exists()


def test_a_directory_travels_as_one_zip(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd)
    with half_or_whole(one.target / "run.zip") as witness, laws.lawful(site, one):
        expected = build(one, "run", 200)
        single = laws.put(one.source / "a file beside", b"file")
        gone(one, "run")
        wait_until(lambda: not os.listdir(one.source), 10, "the file goes")
    witness.swear()
    assert inside(one.target / "run.zip") == expected
    assert set(laws.public(one)) == {b"run.zip", b"a file beside"}
    assert laws.public(one)[b"a file beside"] == single
    nothing_of_ours(site, one)


def test_the_history_tells_the_zip_and_what_is_in_it(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd, outgoing={"hash": "md5"})
    with laws.lawful(site, one):
        build(one, "run", 2)
        gone(one, "run")
    records = {record["name"]: record for record in site.history()}
    assert set(records) == {"run", "run.zip", "run/d0", "run/d0/file 0", "run/d1", "run/d1/file 1"}
    assert records["run"]["kind"] == "tree"
    assert {record["first_seen"] for record in records.values()} == {records["run"]["first_seen"]}
    size = (one.target / "run.zip").stat().st_size
    assert (records["run.zip"]["kind"], records["run.zip"]["size"]) == ("file", size)
    manifest = site.ask("history", "one", "--manifest").stdout
    assert manifest == f"{records['run.zip']['digest']}  run.zip\n"
    assert site.status()["streams"][0]["seen"] == 1


def test_everything_in_it(sshd: PrivateSshd, scratch: Path) -> None:
    """Odd names, empty directories, links, hidden files: unzip makes of it what was there."""
    site, one = zips(scratch, sshd)
    unit = scratch / "building"
    for name in (b"plain", b".hidden", b"new\nline", b"\xff\xfe", b"-dash", b"\xc3\xa4", b"L" * 255):
        laws.put(os.fsencode(unit) + b"/sub/" + name, name)
    (unit / "empty").mkdir()
    (unit / "dangling").symlink_to("nowhere")
    names = {os.fsencode("unit/") + name for name in tree(unit)}
    unit.rename(one.source / "unit")
    with laws.lawful(site, one):
        gone(one, "unit")
    with zipfile.ZipFile(one.target / "unit.zip") as archive:
        found = {
            info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437").rstrip(b"/")
            for info in archive.infolist()
        }
        assert archive.read("unit/dangling") == b"nowhere"
    assert found == names | {b"unit"}


def test_an_empty_directory(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd)
    with laws.lawful(site, one):
        (one.source / "nothing").mkdir()
        gone(one, "nothing")
    with zipfile.ZipFile(one.target / "nothing.zip") as archive:
        assert archive.namelist() == ["nothing/"]


def test_a_fifo_in_it_is_not_destroyed(sshd: PrivateSshd, scratch: Path) -> None:
    """What cannot be sent is not removed, and the zip is not sent again and again."""
    site, one = zips(scratch, sshd)
    laws.put(scratch / "building/a", b"a")
    os.mkfifo(scratch / "building/fifo")
    (scratch / "building").rename(one.source / "unit")
    with site.running():
        wait_until(lambda: (one.target / "unit.zip").exists(), 10, "the zip is delivered")
        for number in range(3):
            build(one, f"other{number}")
            gone(one, f"other{number}")
    assert (one.source / "unit/fifo").exists(), "a FIFO that was never sent is gone"
    assert inside(one.target / "unit.zip") == {"unit/a": b"a"}
    assert sum(record["name"] == "unit" for record in site.history()) == 1
    assert not list(one.target.glob("unit.*.zip"))


@pytest.mark.parametrize("count", [1, 2])
def test_an_existing_zip_is_never_overwritten(sshd: PrivateSshd, scratch: Path, count: int) -> None:
    site, one = zips(scratch, sshd)
    old = {name: os.urandom(50) for name in ("run.zip", "run.1.zip")[:count]}
    for name, data in old.items():
        (one.target / name).write_bytes(data)
    with laws.lawful(site, one):
        expected = build(one, "run")
        gone(one, "run")
    assert {name: (one.target / name).read_bytes() for name in old} == old
    assert inside(one.target / f"run.{count}.zip") == expected
    assert f"run.{count}.zip" in {record["name"] for record in site.history()}


def test_the_same_name_again_gets_a_number(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd)
    with laws.lawful(site, one):
        first = build(one, "run")
        gone(one, "run")
        second = build(one, "run")
        gone(one, "run")
    assert inside(one.target / "run.zip") == first
    assert inside(one.target / "run.1.zip") == second


@pytest.mark.parametrize("name", ["late", "d0/file 0"])
def test_a_late_change_is_neither_lost_nor_left_out(sshd: PrivateSshd, scratch: Path, name: str) -> None:
    """A directory that changes while its zip travels is not removed: it is zipped again."""
    size = 1_500_000
    site, one = zips(scratch, sshd, **laws.slow({}, size, 2))
    with laws.lawful(site, one, timeout=20):
        expected = build(one, "run", 3, size=size // 3)
        wait_until(lambda: laws.half_sent(one), 15, "it is half sent")
        append(one, name, expected)
        gone(one, "run", 25)
    assert inside(one.target / "run.zip") == expected
    assert set(laws.public(one)) == {b"run.zip"}, "the first zip should never have appeared"


@pytest.mark.parametrize("name", ["late", "d0/file 0"])
def test_a_change_while_it_is_zipped(sshd: PrivateSshd, scratch: Path, name: str) -> None:
    site, one = zips(scratch, sshd)
    being_made = state_of(site, "one") / "zips/run.zip"
    with laws.lawful(site, one, timeout=20):
        expected = build(one, "run", 6, 2_000_000, digits)
        wait_until(being_made.exists, 15, "it is being zipped", every=0.001)
        append(one, name, expected)
        gone(one, "run", 25)
    assert inside(one.target / "run.zip") == expected
    assert set(laws.public(one)) == {b"run.zip"}
    nothing_of_ours(site, one)


def test_a_larger_one_than_the_limit_is_quarantined(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd, outgoing={"dir_size_limit": 0.5})
    with laws.lawful(site, one):
        build(one, "large", 2, size=300_000)
        expected = build(one, "small", 2, size=200_000)
        gone(one, "small")
        gone(one, "large")
    assert inside(one.target / "small.zip") == expected
    note = (one.source / "quarantine/large.reason").read_text()
    assert "600000 bytes" in note
    assert "dir_size_limit = 0.5 MiB (524288 bytes)" in note
    assert len(tree(one.source / "quarantine/large")) == 4
    assert set(laws.public(one)) == {b"small.zip"}


def test_the_limit_is_for_zips_only(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd, outgoing={"dir_size_limit": 0.001, "always_zip": False})
    with laws.lawful(site, one):
        build(one, "run", 2, size=3000)
        gone(one, "run")
    assert (one.target / "run/d0/file 0").stat().st_size == 3000


def test_a_file_of_the_same_name_beside_it(sshd: PrivateSshd, scratch: Path) -> None:
    """Both arrive, none in the other's place."""
    site, one = zips(scratch, sshd)
    with laws.lawful(site, one):
        laws.put(scratch / "run.zip", b"a file of its own")
        expected = build(one, "run")
        (scratch / "run.zip").rename(one.source / "run.zip")
        gone(one, "run", 15)
        gone(one, "run.zip")
    assert (one.target / "run.zip").read_bytes() == b"a file of its own"
    assert inside(one.target / "run.1.zip") == expected


def test_a_file_that_would_replace_a_delivered_zip(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd)
    with laws.lawful(site, one):
        expected = build(one, "run")
        gone(one, "run")
        laws.put(one.source / "run.zip", b"another content")
        gone(one, "run.zip")
    assert inside(one.target / "run.zip") == expected
    assert "the zip of the directory run" in (one.source / "quarantine/run.zip.reason").read_text()
    assert (one.source / "quarantine/run.zip").read_bytes() == b"another content"


def test_why_says_that_it_will_be_zipped(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd)
    build(one, "run")
    said = site.ask("why", str(one.source / "run")).stdout
    assert "it travels as one file, run.zip" in said
    laws.put(one.source / "run.zip", b"x")
    os.utime(one.source / "run", (1, 1))
    told = "run.zip lies beside it"
    wait_until(lambda: told in site.ask("why", str(one.source / "run")).stdout, 10, "it says what it waits for")


def test_no_room_here_is_a_wait_that_says_so(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd)
    place = state_of(site, "one") / "zips"
    with laws.lawful(site, one, timeout=30):
        place.mkdir()
        with filesystem(place, "-t", "tmpfs", "-o", "size=1m", "none"):
            expected = build(one, "run")
            reason = "MiB of the disk are free"
            wait_until(lambda: reason in str(laws.snapshot(site, one).get("undelivered")), 10, "it says so")
            assert reason in site.ask("why", str(one.source / "run")).stdout
            promised = {b"other": laws.put(one.source / "other", b"other")}
            wait_until(lambda: (one.target / "other").exists(), 10, "a file goes on")
            assert not list(one.target.glob("*.zip"))
        gone(one, "run", 20)
    assert inside(one.target / "run.zip") == expected
    assert promised.items() <= laws.public(one).items()
    assert all(record["attempts"] == 0 for record in site.history())


def test_no_room_here_ends_a_one_off_run(sshd: PrivateSshd, scratch: Path) -> None:
    """It leaves the directory where it is, and says so by its status."""
    site, one = zips(scratch, sshd)
    build(one, "run")
    place = state_of(site, "one") / "zips"
    place.mkdir(parents=True)
    with filesystem(place, "-t", "tmpfs", "-o", "size=1m", "none"):
        result = site.one_off()
    assert result.returncode == 1, result
    assert "MiB of the disk are free" in result.stdout + result.stderr
    assert len(tree(one.source / "run")) == 8


# -- mirrors ----------------------------------------------------------------------------------


def test_a_mirror_replaces_its_own_zip(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd, rsync_ssh=MIRROR)
    with half_or_whole(one.target / "run.zip") as witness, laws.lawful(site, one):
        expected = build(one, "run")
        before = tree(one.source)
        wait_until(lambda: (one.target / "run.zip").exists(), 10, "the zip is there")
        assert inside(one.target / "run.zip") == expected
        assert tree(one.source) == before
        laws.put(one.source / "run/d0/file 0", b"changed")
        expected["run/d0/file 0"] = b"changed"
        wait_until(lambda: inside(one.target / "run.zip") == expected, 10, "the change")
    witness.swear()
    assert set(laws.public(one)) == {b"run.zip"}
    nothing_of_ours(site, one)


def test_a_mirror_replaces_its_own_zip_after_a_restart(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd, rsync_ssh=MIRROR)
    expected = build(one, "run")
    assert site.one_off().returncode == 0
    assert site.one_off().returncode == 0
    assert len([r for r in site.history() if r["name"] == "run"]) == 1, "unchanged, but sent again"
    laws.put(one.source / "run/added", b"added")
    expected["run/added"] = b"added"
    assert site.one_off().returncode == 0
    assert inside(one.target / "run.zip") == expected


def test_a_mirror_that_dies_knows_its_own_zip(sshd: PrivateSshd, scratch: Path) -> None:
    """Killed in the moment in which the new zip appears, while the directory changes on."""
    site, one = zips(scratch, sshd, rsync_ssh=MIRROR)
    zipped = one.target / "run.zip"
    with site.running() as agent:
        expected = build(one, "run")
        for number in range(3):
            wait_until(lambda: zipped.exists() and inside(zipped) == expected, 20, "it is there", every=0.001)
            before = zipped.stat().st_ino
            append(one, "late", expected)
            wait_until(lambda: zipped.stat().st_ino != before, 20, f"change {number} is there", every=0.001)  # noqa: B023
            pid = stream_pid(site, "one", agent.pid)
            assert pid is not None
            assert kill(pid)
            append(one, "late", expected)
        wait_until(lambda: inside(zipped) == expected, 20, "the last change")
        laws.settled(site, one)
    assert set(laws.public(one)) == {b"run.zip"}


def test_a_mirror_leaves_the_zip_of_somebody_else_alone(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd, rsync_ssh=MIRROR, outgoing={"retry_count": 1})
    foreign = b"not ours"
    (one.target / "run.zip").write_bytes(foreign)
    build(one, "run")
    assert site.one_off().returncode == 1
    assert (one.target / "run.zip").read_bytes() == foreign
    assert "run.zip is at the target already" in site.ask("why", str(one.source / "run")).stdout
    assert (one.source / "run/d0").is_dir()


def test_a_mirror_that_removes(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd, rsync_ssh=MIRROR, outgoing={"mirror_delete": True})
    with laws.lawful(site, one):
        build(one, "stays")
        build(one, "goes")
        wait_until(lambda: len(laws.public(one)) == 2, 10, "both zips are there")
        (one.source / "goes").rename(scratch / "gone")
        wait_until(lambda: set(laws.public(one)) == {b"stays.zip"}, 10, "its zip goes")
        laws.put(one.source / "later", b"later")
        wait_until(lambda: (one.target / "later").exists(), 10, "another scan was made")
        assert (one.target / "stays.zip").exists()


# -- faults -----------------------------------------------------------------------------------


def killed_when(site: Site, one: Stream, moment: Any, what: str, *, name: str = "run.zip", size: int = 150_000) -> None:
    """Run until a moment comes, kill the stream's process then, and let its successor finish.

    The zip has about 23 times so many bytes as `size`.
    """
    with site.running() as agent:
        expected = build(one, "run", 40, size, digits)
        wait_until(moment, 20, what, every=0.001)
        pid = stream_pid(site, "one", agent.pid)
        assert pid is not None
        assert kill(pid)
        gone(one, "run", 40)
        laws.settled(site, one)
    assert inside(one.target / name) == expected
    assert {path.name for path in one.target.glob("*.zip")} == {"run.zip", name}
    nothing_of_ours(site, one)
    laws.no_leftovers(one)
    end_all(site)


def test_a_kill_while_it_is_zipped(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd)
    place = state_of(site, "one") / "zips"
    killed_when(site, one, lambda: (place / "run.zip").exists(), "it is being zipped")
    assert log_of(site, "dtc_one").count("zipped run") == 1, "killed too late to tell anything"


def test_a_kill_while_it_is_sent(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd, **laws.slow({}, 1_150_000, 2))
    killed_when(site, one, lambda: laws.half_sent(one), "it is half sent", size=50_000)


@pytest.mark.parametrize("name", ["run.zip", "run.1.zip"])
def test_a_kill_when_it_has_just_appeared(sshd: PrivateSshd, scratch: Path, name: str) -> None:
    """The zip is there, the ledger may not know it: the same zip again counts as delivered."""
    site, one = zips(scratch, sshd)
    if name != "run.zip":
        (one.target / "run.zip").write_bytes(b"x")
    killed_when(site, one, lambda: (one.target / name).exists(), "it has appeared", name=name)
    # What was delivered comes again, to the bit: nothing new appears.
    assert sum(record["name"] == name for record in site.history()) == 1


@pytest.mark.parametrize("name", ["run.zip", "run.1.zip"])
def test_the_same_content_that_is_there_counts_as_delivered(sshd: PrivateSshd, scratch: Path, name: str) -> None:
    site, one = zips(scratch, sshd)
    if name != "run.zip":
        (one.target / "run.zip").write_bytes(b"x")
    expected = build(one, "run", 40)
    shutil.copytree(one.source / "run", scratch / "copy", symlinks=True)
    for _ in range(2):
        with laws.lawful(site, one):
            gone(one, "run")
        assert inside(one.target / name) == expected
        (scratch / "copy").rename(one.source / "run")
        shutil.copytree(one.source / "run", scratch / "copy", symlinks=True)
    assert len(list(one.target.glob("*.zip"))) == (1 if name == "run.zip" else 2)
    first, second = [record["digest"] for record in site.history() if record["name"] == name]
    assert first == second


def test_a_killed_connection(private_sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, private_sshd, **laws.slow({}, 2_000_000, 2))
    with half_or_whole(one.target / "run.zip") as witness, laws.lawful(site, one):
        expected = build(one, "run", 40, size=50_000)
        wait_until(lambda: laws.half_sent(one), 15, "it is half sent")
        assert private_sshd.kill_sessions()
        gone(one, "run", 25)
    witness.swear()
    assert inside(one.target / "run.zip") == expected
    assert log_of(site, "dtc_one").count("zipped run") == 1, "zipped anew although nothing has changed"


def test_a_stop_while_it_is_sent(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd, **laws.slow({}, 8_000_000, 30), **{"global": {"stop_timeout": 2}})
    with site.running():
        build(one, "run", 8, size=1_000_000)
        wait_until(lambda: laws.half_sent(one), 15, "it is half sent")
    assert len(tree(one.source / "run")) == 11
    assert not list(one.target.glob("*.zip"))
    nothing_of_ours(site, one)


def test_one_off(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = zips(scratch, sshd)
    expected = build(one, "run", 50)
    result = site.one_off()
    assert result.returncode == 0, result
    assert inside(one.target / "run.zip") == expected
    assert not os.listdir(one.source)
    nothing_of_ours(site, one)


@pytest.mark.slow
def test_killed_again_and_again(sshd: PrivateSshd, scratch: Path) -> None:
    """At random moments; each directory arrives in just one zip, and nothing is left anywhere."""
    seed = int(os.environ.get("MISTAMOVER_SEED") or secrets.randbelow(1 << 31))
    print(f"MISTAMOVER_SEED={seed}")
    chance = random.Random(seed)
    site, one = zips(scratch, sshd)
    moment = threading.Event()
    with site.running() as agent:
        expected = {}
        for number in range(12):
            expected[f"run{number}.zip"] = build(one, f"run{number}", 10, 200_000, digits)
            moment.wait(0.4 * chance.random())
            pid = stream_pid(site, "one", agent.pid)
            if pid is not None and number % 2:
                kill(pid)
        wait_until(lambda: not os.listdir(one.source), 60, "all is delivered")
        laws.settled(site, one)
    assert {path.name for path in one.target.glob("*.zip")} == set(expected)
    assert {name: inside(one.target / name) for name in expected} == expected
    laws.no_leftovers(one)
    nothing_of_ours(site, one)

"""Directory units: whole under their final name, or not there at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

import laws
from laws import contents, tree
from mistamover.testing.sshd import PrivateSshd
from support import Site, Stream, wait_until


def units(scratch: Path, sshd: PrivateSshd, **everywhere: Any) -> tuple[Site, Stream]:
    data_stream = {"transfer_unit": "directory", "settle_time": 0.5, "rescan_interval": 1}
    return laws.make(scratch, sshd, everywhere=everywhere, data_stream=data_stream)


def build(where: Path, name: str, files: int, size: int = 100) -> dict[bytes, str]:
    """Make a directory unit aside and rename it in; return its contents by full relative name."""
    aside = where.parent / f"building-{name}"
    result = {}
    for number in range(files):
        part = f"d{number % 3}/file {number}"
        result[f"{name}/{part}".encode()] = laws.put(aside / part, os.urandom(size))
    aside.rename(where / name)
    return result


def all_or_nothing(unit: Path, files: int) -> Callable[[], Iterator[str]]:
    def look() -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            top = os.lstat(unit)
            found = sum(len(names) for _, _, names in os.walk(unit))
            if found < files and os.lstat(unit).st_ino == top.st_ino:
                yield f"{unit.name} with {found} of {files} files"

    return look


def test_whole_or_not_at_all(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = units(scratch, sshd)
    with laws.Witness(all_or_nothing(one.target / "run1", 300)) as witness, laws.lawful(site, one):
        promised = build(one.source, "run1", 300)
        laws.arrived(one, promised)
        wait_until(lambda: not os.listdir(one.source), 10, "the unit goes")
    witness.swear()
    assert laws.public(one) == promised


def test_everything_in_it(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = units(scratch, sshd)
    unit = scratch / "building"
    for name in (
        b"plain",
        b".hidden",
        b"x.tmp",
        b"new\nline",
        b"\xff\xfe",
        b"-dash",
        b"#hash",
        b"back\\#101",
        b"L" * 255,
    ):
        laws.put(os.fsencode(unit) + b"/sub/" + name, name)
    (unit / "empty").mkdir()
    (unit / "empty").chmod(0o750)
    (unit / "dangling").symlink_to("nowhere")
    os.utime(unit / "dangling", ns=(10**18, 10**18), follow_symlinks=False)
    before = {os.fsencode("unit/") + name: entry for name, entry in tree(unit).items()}
    unit.rename(one.source / "unit")
    single = laws.put(one.source / "a file beside", b"file")
    with laws.lawful(site, one):
        wait_until(lambda: not os.listdir(one.source), 8, "all is delivered")
    after = tree(one.target)
    assert {n: e for n, e in after.items() if n.startswith(b"unit/")} == before
    assert after[b"a file beside"].content == single


def test_hard_links_in_a_unit(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = units(scratch, sshd)
    laws.put(scratch / "building/a", b"shared")
    os.link(scratch / "building/a", scratch / "building/b")
    (scratch / "building").rename(one.source / "unit")
    with laws.lawful(site, one):
        laws.arrived(one, {b"unit/a": laws.digest(b"shared"), b"unit/b": laws.digest(b"shared")}, timeout=8)
    assert (one.target / "unit/a").stat().st_ino == (one.target / "unit/b").stat().st_ino


def test_a_fifo_in_a_unit_is_not_destroyed(sshd: PrivateSshd, scratch: Path) -> None:
    """What cannot be sent is not removed."""
    site, one = units(scratch, sshd)
    laws.put(scratch / "building/a", b"a")
    os.mkfifo(scratch / "building/fifo")
    (scratch / "building").rename(one.source / "unit")
    with site.running():
        wait_until(lambda: (one.target / "unit/a").exists(), 10, "the file is delivered")
        laws.put(one.source / "other", b"other")
        wait_until(lambda: (one.target / "other").exists(), 10, "a later file is delivered")
        for number in range(8):
            laws.arrived(one, {b"n": laws.put(one.source / "n", b"%d" % number)})
    assert (one.source / "unit/fifo").exists(), "a FIFO that was never sent is gone"
    sent = sum(d["name"] == "unit" for d in site.history())
    assert sent <= 3, f"sent {sent} times"


def test_a_late_addition(sshd: PrivateSshd, scratch: Path) -> None:
    """What is added while the unit travels is not lost, and follows."""
    site, one = units(scratch, sshd, rsync_ssh={"bandwidth_limit": "1000"})
    with laws.Witness(all_or_nothing(one.target / "run", 30)) as witness, laws.lawful(site, one, timeout=15):
        promised = build(one.source, "run", 30, size=50_000)
        wait_until(lambda: laws.half_sent(one), 10, "it is half sent")
        promised[b"run/late"] = laws.put(one.source / "run/late", b"late")
        laws.arrived(one, promised)
    witness.swear()


def test_a_unit_that_still_grows_waits(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = units(scratch, sshd)
    with laws.lawful(site, one):
        (one.source / "run").mkdir()
        with open(one.source / "run/open", "wb") as file:
            promised = {b"run/done": laws.put(one.source / "run/done", b"done")}
            other = {b"other/x": laws.put(one.source / "other/x", b"x")}
            laws.arrived(one, other)
            assert not os.path.lexists(one.target / "run")
            file.write(b"end")
        promised[b"run/open"] = laws.digest(b"end")
        laws.arrived(one, promised)


def test_the_same_name_twice_merges(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = units(scratch, sshd)
    with laws.Witness(all_or_nothing(one.target / "run", 20)) as witness, laws.lawful(site, one):
        first = build(one.source, "run", 20)
        laws.arrived(one, first)
        wait_until(lambda: not os.path.lexists(one.source / "run"), 10, "the first goes")
        second = {b"run/more": laws.put(scratch / "again/more", b"more")}
        second[b"run/d0/file 0"] = laws.put(scratch / "again/d0/file 0", b"new version")
        (scratch / "again").rename(one.source / "run")
        laws.arrived(one, second)
        wait_until(lambda: not os.path.lexists(one.source / "run"), 10, "the second goes")
        assert laws.public(one) == {**first, **second}
    witness.swear()


def test_a_killed_connection_resumes(private_sshd: PrivateSshd, scratch: Path) -> None:
    site, one = units(scratch, private_sshd, rsync_ssh={"bandwidth_limit": "1500"})
    with laws.Witness(all_or_nothing(one.target / "run", 30)) as witness, laws.lawful(site, one):
        promised = build(one.source, "run", 30, size=100_000)
        wait_until(lambda: laws.half_sent(one), 10, "it is half sent")
        assert private_sshd.kill_sessions()
        laws.arrived(one, promised, timeout=15)
    witness.swear()
    assert laws.public(one) == promised


def test_a_killed_connection_while_it_merges_loses_nothing_at_the_target(
    private_sshd: PrivateSshd, scratch: Path
) -> None:
    """What lies at the target already was delivered and removed at the source: it must survive a broken merge."""
    site, one = units(scratch, private_sshd)
    there = {}
    for number in range(20_000):
        name = b"run/old%d/%d" % (number % 50, number)
        there[name] = laws.put(os.fsencode(one.target) + b"/" + name, b"")
    with site.running():
        promised = build(one.source, "run", 3)

        def merging() -> bool:
            return any(
                Path(name).name == "run" and laws.MARK in name for name, _ in _shallow(one.target / laws.MARK, 3)
            )

        wait_until(merging, 10, "the merge begins", every=0.001)
        for process in psutil.process_iter():
            # The machine dies, not only the connection.
            with contextlib.suppress(psutil.Error):
                if process.name() == "cp" and process.cwd() == str(one.target):
                    process.kill()
        private_sshd.kill_sessions()
        wait_until(lambda: not os.path.lexists(one.source / "run"), 20, "the unit is delivered")
    found = {os.path.relpath(os.path.join(d, n), one.target) for d, _, ns in os.walk(one.target / "run") for n in ns}
    missing = [name for name in there if name.decode() not in found]
    assert not missing, f"{len(missing)} of {len(there)} older files are gone from the target"
    assert set(promised) <= {name.encode() for name in found}


def _shallow(top: Path, depth: int) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError), os.scandir(top) as entries:
        for entry in entries:
            yield entry.path, depth
            if depth > 1 and entry.is_dir(follow_symlinks=False):
                yield from _shallow(Path(entry.path), depth - 1)


def test_mirror_of_units(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = units(scratch, sshd, rsync_ssh={"transfer_mode": "mirror"})
    with laws.lawful(site, one):
        promised = build(one.source, "run", 20)
        before = tree(one.source)
        wait_until(lambda: laws.public(one) == promised, 10, "the unit is there")
        assert tree(one.source) == before
        promised[b"run/added"] = laws.put(one.source / "run/added", b"added at the top")
        wait_until(lambda: laws.public(one) == promised, 10, "an addition at its top")
        promised[b"run/d1/deep"] = laws.put(one.source / "run/d1/deep", b"added deeper")
        wait_until(lambda: laws.public(one) == promised, 6, "an addition deeper in it")


def test_mirror_of_units_repeats_a_change_of_content(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = units(scratch, sshd, rsync_ssh={"transfer_mode": "mirror"})
    with laws.lawful(site, one):
        promised = build(one.source, "run", 3)
        wait_until(lambda: laws.public(one) == promised, 10, "the unit is there")
        promised[b"run/d0/file 0"] = laws.put(one.source / "run/d0/file 0", b"rewritten in place")
        wait_until(lambda: laws.public(one) == promised, 6, "the change")


def test_unit_one_off(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = units(scratch, sshd)
    promised = build(one.source, "run", 50)
    result = site.one_off()
    assert result.returncode == 0, result
    assert contents(one.target) == promised
    assert not os.listdir(one.source)
    assert len({record["first_seen"] for record in site.history()}) == 1, "its parts were seen when it was seen"

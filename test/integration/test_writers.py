"""Producers that misbehave: slow, late, impatient, gone; nothing is lost and nothing partial is ever seen."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

import laws
from laws import contents
from mistamover.testing.sshd import PrivateSshd
from support import Site, merged, wait_until

MIRROR = {"rsync_ssh": {"transfer_mode": "mirror"}}
SIZE = 3 << 20


class PowerlessSite(Site):
    """A site whose agent cannot read everything, as an agent of an ordinary user cannot."""

    def command(self, *words: str) -> list[str]:
        if os.geteuid() != 0:
            return super().command(*words)
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("root without setpriv(1) can read everything")
        return [setpriv, "--bounding-set", "-dac_override,-dac_read_search", "--", *super().command(*words)]


def marked(size: int, letter: bytes) -> bytes:
    """Return content that compression and chance cannot confuse with another version."""
    return letter * 32 + os.urandom(size - 64) + letter * 32


@laws.BOTH_WAYS
def test_a_writer_that_pauses_is_waited_for(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    site, one = laws.make(scratch, sshd, everywhere=way, data_stream={"rescan_interval": 0.5})
    final = one.target / "slow"
    with laws.Witness(laws.only_versions(final, b"first half, second half")) as witness, laws.lawful(site, one):
        with open(one.source / "slow", "wb") as file:
            file.write(b"first half, ")
            file.flush()
            for number in range(8):
                laws.arrived(one, {b"n%d" % number: laws.put(one.source / f"n{number}", b"n")})
            wait_until(lambda: "slow" in laws.waiting(site, one), 10, "status says that it waits")
            assert "open for writing" in site.ask("why", str(one.source / "slow")).stdout
            assert not final.exists()
            file.write(b"second half")
        laws.arrived(one, {b"slow": laws.digest(b"first half, second half")})
    witness.swear()


@pytest.mark.parametrize("mode", ["move", "mirror"])
def test_append_during_the_send(sshd: PrivateSshd, scratch: Path, mode: str) -> None:
    site, one = laws.make(
        scratch, sshd, everywhere=laws.slow({"rsync_ssh": {"transfer_mode": mode}}, SIZE, 1.5),
        data_stream={"rescan_interval": 1},
    )  # fmt: skip
    old = marked(SIZE, b"a")
    new = old + b"appended" * 10
    with laws.Witness(laws.only_versions(one.target / "f", old, new)) as witness, laws.lawful(site, one, timeout=20):
        laws.put(one.source / "f", old)
        wait_until(lambda: laws.half_sent(one), 10, "it is half sent")
        with open(one.source / "f", "ab") as file:
            file.write(b"appended" * 10)
        wait_until(lambda: laws.public(one).get(b"f") == laws.digest(new), 12, "the whole of it", every=0.1)
        laws.settled(site, one)
    witness.swear()
    assert os.path.exists(one.source / "f") == (mode == "mirror")


def test_rewrite_with_the_time_put_back_during_the_send(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, everywhere=laws.slow({}, SIZE, 1.5))
    old, new = marked(SIZE, b"o"), marked(SIZE, b"n")
    with laws.Witness(laws.only_versions(one.target / "f", old, new)) as witness, laws.lawful(site, one, timeout=20):
        laws.put(one.source / "f", old)
        before = os.stat(one.source / "f")
        wait_until(lambda: laws.half_sent(one), 10, "it is half sent")
        with open(one.source / "f", "r+b") as file:
            file.write(new)
        os.utime(one.source / "f", ns=(before.st_atime_ns, before.st_mtime_ns))
        laws.arrived(one, {b"f": laws.digest(new)}, timeout=12)
    witness.swear()


def test_replaced_by_another_inode_during_the_send(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, everywhere=laws.slow({}, SIZE, 1.5))
    old, new = marked(SIZE, b"o"), marked(SIZE, b"n")
    with laws.Witness(laws.only_versions(one.target / "f", old, new)) as witness, laws.lawful(site, one, timeout=20):
        laws.put(one.source / "f", old)
        before = os.stat(one.source / "f")
        laws.put(scratch / "aside", new)
        os.utime(scratch / "aside", ns=(before.st_atime_ns, before.st_mtime_ns))
        wait_until(lambda: laws.half_sent(one), 10, "it is half sent")
        os.replace(scratch / "aside", one.source / "f")
        laws.arrived(one, {b"f": laws.digest(new)}, timeout=12)
    witness.swear()


@pytest.mark.parametrize("how", ["ready", "travelling"])
def test_a_name_that_is_rotated_and_written_anew_while_it_waits_for_its_turn(
    sshd: PrivateSshd, scratch: Path, how: str
) -> None:
    """`mv app.log app.log.1`, and a new app.log is open for long: its beginning must not be seen at the target."""
    site, one = laws.make(scratch, sshd, everywhere=laws.slow({}, SIZE, 2.5), data_stream={"rescan_interval": 600})
    big = marked(SIZE, b"b")
    old, new = b"old log\n" * 50, b"new log, first line\nnew log, last line\n"
    final = one.target / "zz.log"
    promised = {b"big": laws.digest(big), b"zz.log.1": laws.digest(old), b"zz.log": laws.digest(new)}
    with laws.Witness(laws.only_versions(final, old, new)) as witness, laws.lawful(site, one, timeout=20):
        if how == "travelling":
            (one.source / ".stop").touch()
            laws.put(one.source / "big", big)
            laws.put(one.source / "zz.log", old)
            wait_until(lambda: {"big", "zz.log"} <= laws.waiting(site, one), 10, "both wait")
            (one.source / ".stop").unlink()
            wait_until(lambda: laws.half_sent(one), 10, "the batch is on its way")
        else:
            laws.put(one.source / "big", big)
            wait_until(lambda: laws.half_sent(one), 10, "the first batch is on its way")
            laws.put(one.source / "zz.log", old)
            wait_until(lambda: "zz.log" in laws.waiting(site, one), 10, "it is ready for the next")
        (one.source / "zz.log").rename(one.source / "zz.log.1")
        with open(one.source / "zz.log", "wb", buffering=0) as file:
            file.write(new[:20])
            wait_until(lambda: laws.public(one).get(b"zz.log.1"), 12, "the rotated file is there", every=0.1)
            laws.arrived(one, {b"m": laws.put(one.source / "m", b"later")})
            file.write(new[20:])
        laws.arrived(one, promised, timeout=8)
    witness.swear()


def test_taken_back_and_made_anew_while_it_waits_for_its_turn(sshd: PrivateSshd, scratch: Path) -> None:
    """Conservation when a name is withdrawn and comes again while a lane is busy."""
    site, one = laws.make(scratch, sshd, everywhere=laws.slow(MIRROR, SIZE, 3), data_stream={"rescan_interval": 600})
    with laws.lawful(site, one, timeout=15):
        laws.put(one.source / "big", marked(SIZE, b"b"))
        wait_until(lambda: laws.half_sent(one), 10, "the first batch is on its way")
        laws.put(one.source / "f", b"first")
        wait_until(lambda: "f" in laws.waiting(site, one), 10, "it is ready")
        (one.source / "f").unlink()
        wait_until(lambda: "f" not in laws.waiting(site, one), 10, "it was taken back")
        final = laws.put(one.source / "f", b"final")
        wait_until(lambda: contents(one.target).get(b"f") == final, 10, "the last one")


def looping(path: Path, stop: threading.Event, lines: list[bytes]) -> None:
    number = 0
    while not stop.wait(0.003):
        line = b"line %d of the looping writer\n" % number
        with open(path, "ab") as file:
            file.write(line)
        lines.append(line)
        number += 1


@laws.BOTH_WAYS
def test_a_looping_writer_loses_no_line_in_a_move(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    """Every appended line is in some version that was delivered, or still here."""
    site, one = laws.make(scratch, sshd, everywhere=way)
    lines: list[bytes] = []
    seen: set[bytes] = set()
    torn: list[bytes] = []
    stop = threading.Event()

    def watch() -> list[str]:
        try:
            data = (one.target / "log").read_bytes()
        except FileNotFoundError:
            return []
        found = data.splitlines(keepends=True)
        torn.extend(line for line in found if not line.endswith(b"\n"))
        seen.update(found)
        return []

    writer = threading.Thread(target=looping, args=(one.source / "log", stop, lines))
    with laws.lawful(site, one, timeout=15), laws.Witness(watch) as witness:
        # Each version is kept by a hard link as soon as it appears, so that none is overlooked.
        writer.start()
        try:
            wait_until(lambda: len(lines) > 400, 12, "400 lines")
        finally:
            stop.set()
            writer.join()
        wait_until(lambda: not (one.source / "log").exists(), 10, "the last version is delivered")
        watch()
    assert not torn and not witness.complaints
    history = [d for d in site.history() if d["name"] == "log"]
    delivered = sum(len(line) for line in lines)
    assert sum(d["size"] for d in history if not d.get("kept")) >= delivered - 0, (delivered, len(history))


@laws.BOTH_WAYS
def test_a_looping_writer_ends_equal_in_a_mirror(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    site, one = laws.make(
        scratch,
        sshd,
        everywhere=merged(way, MIRROR),
        data_stream={"rescan_interval": 1},
    )
    lines: list[bytes] = []
    stop = threading.Event()
    writer = threading.Thread(target=looping, args=(one.source / "log", stop, lines))

    def torn() -> list[str]:
        try:
            data = (one.target / "log").read_bytes()
        except FileNotFoundError:
            return []
        return [] if data == b"".join(lines[: data.count(b"\n")]) or not lines else [f"{data[-60:]!r}"]

    with laws.lawful(site, one, timeout=15):
        writer.start()
        try:
            wait_until(lambda: len(lines) > 300, 12, "300 lines")
        finally:
            stop.set()
            writer.join()
        assert not torn()
        wait_until(lambda: contents(one.target) and laws.public(one) == contents(one.source), 10, "both are equal")
    assert (one.source / "log").read_bytes() == b"".join(lines)


def test_a_file_that_vanishes(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, everywhere=laws.slow({}, SIZE, 1))
    with laws.lawful(site, one, timeout=15):
        (one.source / ".stop").touch()
        laws.put(one.source / "a", marked(SIZE, b"a"))
        for number in range(50):
            laws.put(one.source / f"z{number}", b"%d" % number)
        wait_until(lambda: "z49" in laws.waiting(site, one), 10, "all wait")
        (one.source / "z1").unlink()
        (one.source / ".stop").unlink()
        wait_until(lambda: laws.half_sent(one), 10, "the batch is on its way")
        (one.source / "z7").unlink(missing_ok=True)
        laws.arrived(one, {b"z%d" % n: laws.digest(b"%d" % n) for n in range(50) if n not in (1, 7)}, timeout=12)
        status = laws.settled(site, one)
        assert status["quarantined"] == 0


@pytest.mark.parametrize("retries", [0, 2])
def test_an_unreadable_file_ends_in_quarantine(sshd: PrivateSshd, scratch: Path, retries: int) -> None:
    quick = {"empty_directory_age": 0.5, "settle_time": 0.2, "rescan_interval": 3}
    site = PowerlessSite(scratch, sshd)
    one = site.add("one", data_stream=quick, outgoing={"retry_count": retries})
    with laws.lawful(site, one, timeout=15):
        promised = {b"good%d" % n: laws.put(one.source / f"good{n}", b"%d" % n) for n in range(20)}
        laws.put(one.source / "d/bad", b"unreadable")
        (one.source / "d/bad").chmod(0)
        laws.arrived(one, promised)
        wait_until(lambda: laws.snapshot(site, one).get("quarantined") == 1, 12, "it is in quarantine")
        assert not (one.source / "d/bad").exists()
        aside = one.source / "quarantine/d/bad"
        assert aside.exists() and "ermission" in (one.source / "quarantine/d/bad.reason").read_text()
        answer = site.ask("status")
        assert answer.returncode == 1
        # The operator mends it and puts it back.
        aside.chmod(0o644)
        aside.rename(one.source / "bad")
        laws.arrived(one, {b"bad": laws.digest(b"unreadable")})


@laws.BOTH_WAYS
def test_hard_links_beside_a_poisoned_file(sshd: PrivateSshd, scratch: Path, way: laws.Way) -> None:
    """The blame for one file must not fall on the others, hard links among them."""
    site, one = laws.make(scratch, sshd, everywhere=way, outgoing={"retry_count": 1})
    laws.put(one.target / "poison/inside", b"in the way")
    laws.put(one.source / "poison", b"poison")
    promised = {b"a": laws.put(one.source / "a", b"shared")}
    for name in ("b", "c"):
        os.link(one.source / "a", one.source / name)
        promised[name.encode()] = promised[b"a"]
    (one.source / "link").symlink_to("a")
    promised[b"link"] = b"a"
    with laws.lawful(site, one):
        wait_until(lambda: laws.snapshot(site, one).get("quarantined"), 10, "the poisoned one is in quarantine")
        laws.arrived(one, promised)
        assert laws.settled(site, one)["quarantined"] == 1
    assert sorted(os.listdir(one.source / "quarantine")) == ["poison", "poison.reason"]


def test_quarantine_of_a_name_twice(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd, outgoing={"retry_count": 0})
    name = "x" * 255
    laws.put(one.target / name / "inside", b"in the way")
    with laws.lawful(site, one, timeout=15):
        for number in (1, 2):
            laws.put(one.source / name, b"%d" % number)
            wait_until(lambda n=number: laws.snapshot(site, one).get("quarantined") == n, 10, "in quarantine")  # type: ignore[misc]
    found = contents(one.source / "quarantine")
    assert {laws.digest(b"1"), laws.digest(b"2")} <= set(found.values())
    assert subprocess.run(
        ["grep", "-rlE", "reason", one.source / "quarantine"], check=False, capture_output=True
    ).stdout

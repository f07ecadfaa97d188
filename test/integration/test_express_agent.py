"""The express way through the whole agent: ends that die, targets that allow little, and what goes which way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import laws
from agents import algorithms, ask_ledger, connections_of, kill, log_of, receivers_of, rsyncs_of
from mistamover.testing.sshd import PrivateSshd
from mistamover.transport.express import LARGEST
from support import Site, Stream, contents, wait_until

#: Seconds within which the next file is there, whatever has died while nothing was to be done.
SOON = 10


def idle(site: Site, one: Stream) -> bool:
    """Tell whether the stream says that nothing waits and nothing is under way."""
    now = laws.snapshot(site, one)
    return bool(now) and now["state"] == "IDLE" and not now["sending"] and now["waiting"] == 0


def gone_too_early(one: Stream, promised: dict[bytes, str]) -> laws.Witness:
    """Watch that nothing is removed at the source before its content is at its name in the target directory of now."""

    def look() -> Iterator[str]:
        for name, content in list(promised.items()):
            # In this order: what is not here any more must be there.
            if not os.path.lexists(os.fsencode(one.source) + b"/" + name):
                try:
                    with open(os.fsencode(one.target) + b"/" + name, "rb") as file:
                        found = laws.digest(file.read())
                except OSError as error:
                    found = str(error)
                if found != content:
                    yield f"{name!r} is gone, and at the target: {found}"

    return laws.Witness(look)


def assert_untroubled(site: Site, one: Stream, names: set[bytes]) -> None:
    """Assert that each name was delivered once, nothing is in quarantine, and no attempt was counted."""
    records = [record for record in site.history() if record["kind"] == "file"]
    times = Counter(os.fsencode(record["name"]) for record in records)
    assert times == Counter(names)
    assert {record["attempts"] for record in records} == {0}
    assert laws.settled(site, one)["quarantined"] == 0
    assert ask_ledger(site, one.name, "SELECT * FROM trouble") == []


# -- what dies while nothing is to be done ----------------------------------------------------


def cut_connection(site: Site, sshd: PrivateSshd, one: Stream) -> None:
    victims = connections_of(site)
    assert victims, "no connection stands"
    for victim in victims:
        assert kill(victim.pid)


def kill_sessions(site: Site, sshd: PrivateSshd, one: Stream) -> None:
    assert sshd.kill_sessions() > 0


def kill_receiver(site: Site, sshd: PrivateSshd, one: Stream) -> None:
    victims = receivers_of(site)
    assert victims, "no receiver runs"
    for victim in victims:
        assert kill(victim.pid)


def kill_warm_rsync(site: Site, sshd: PrivateSshd, one: Stream) -> None:
    victims = rsyncs_of(site)
    assert victims, "no rsync is kept warm"
    for victim in victims:
        kill(victim.pid)


def far_rsyncs(sshd: PrivateSshd) -> list[psutil.Process]:
    """Return the rsync processes that the server runs; one that waits for its first words does not say for whom."""
    found = []
    for process in psutil.Process(sshd.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "--server" in process.cmdline():
                found.append(process)
    return found


def kill_far_warm_rsync(site: Site, sshd: PrivateSshd, one: Stream) -> None:
    for victim in wait_until(lambda: far_rsyncs(sshd), 10, "an rsync is kept warm at the far end"):
        kill(victim.pid)


def replace_target(site: Site, sshd: PrivateSshd, one: Stream) -> None:
    one.target.rename(one.target.with_name("replaced"))
    one.target.mkdir()


@pytest.mark.parametrize(
    ("fault", "express"),
    [
        (cut_connection, True),
        (cut_connection, False),
        (kill_sessions, True),
        (kill_sessions, False),
        (kill_receiver, True),
        (kill_warm_rsync, False),
        (kill_far_warm_rsync, False),
        (replace_target, True),
        (replace_target, False),
    ],
)
def test_after_a_fault_while_idle_the_next_file_is_delivered_soon_and_costs_no_attempt(
    private_sshd: PrivateSshd, scratch: Path, fault: Callable[[Site, PrivateSshd, Stream], None], express: bool
) -> None:
    site, one = laws.make(scratch, private_sshd, everywhere={"rsync_ssh": {"express": express}})
    before, promised = {b"before": laws.put(one.source / "before", b"before")}, {}
    with laws.lawful(site, one), gone_too_early(one, promised) as witness:
        laws.arrived(one, before)
        wait_until(lambda: idle(site, one), 10, "nothing is to be done")
        assert len(receivers_of(site)) == (1 if express else 0)
        fault(site, private_sshd, one)
        promised[b"next"] = laws.put(one.source / "next", os.urandom(5000))
        laws.arrived(one, promised, timeout=SOON)
        more = {b"n%d" % number: laws.put(one.source / f"n{number}", os.urandom(1 << 10)) for number in range(20)}
        more[b"large"] = laws.put(one.source / "large", os.urandom(3 << 20))
        laws.arrived(one, more, timeout=SOON)
        promised.update(more)
        assert_untroubled(site, one, {*before, *promised})
    witness.swear()
    if fault is replace_target:
        assert contents(one.target) == promised
        assert set(laws.contents(one.target.with_name("replaced"))) == set(before)


def _in_the_middle(one: Stream, receivers: list[psutil.Process]) -> bool:
    """Stop the receivers if one has a half written file, and return True; let them go on if not."""
    if len(os.listdir(one.target / "d") if (one.target / "d").exists() else ()) < 100:
        return False
    for process in receivers:
        process.suspend()
    if any(laws.ours(name) for name in os.listdir(one.target / "d")):
        return True
    for process in receivers:
        process.resume()
    return False


def test_a_receiver_killed_in_the_middle_of_thousands_of_files_loses_and_leaves_nothing(
    sshd: PrivateSshd, scratch: Path
) -> None:
    site, one = laws.make(scratch, sshd)
    promised: dict[bytes, str] = {}
    with laws.lawful(site, one, timeout=20), gone_too_early(one, promised) as witness:
        laws.arrived(one, {b"warm": laws.put(one.source / "warm", b"up")})
        wait_until(lambda: len(receivers_of(site)) == 1, 10, "the receiver waits")
        victims = receivers_of(site)
        names = {f"d/{n}".encode(): laws.put(scratch / f"d/{n}", os.urandom(4000)) for n in range(3000)}
        (scratch / "d").rename(one.source / "d")
        promised.update(names)
        wait_until(lambda: _in_the_middle(one, victims), 20, "a file is half written", every=0.0005)
        assert len(os.listdir(one.target / "d")) < 3000, "too late to be in the middle"
        for victim in victims:
            kill(victim.pid)
        laws.arrived(one, promised, timeout=20)
        laws.settled(site, one, timeout=20)
        assert [name for name in os.listdir(one.target / "d") if laws.ours(name)] == []
        assert_untroubled(site, one, {b"warm", *promised})
    witness.swear()
    assert receivers_of(site) == []


# -- what goes which way ----------------------------------------------------------------------

#: What the far end needs, without python3.
_TOOLS = "bash chmod chrt cp env find mkdir nproc renice rm rmdir rsync sh sleep sync xargs"


@pytest.fixture
def without_python(tmp_path: Path) -> Iterator[PrivateSshd]:
    """A private sshd whose sessions find the needed tools, but no python3."""
    place, tools = tmp_path / "bare-sshd", tmp_path / "tools"
    tools.mkdir()
    for tool in _TOOLS.split():
        found = shutil.which(tool)
        if found is None:
            pytest.skip(f"there is no {tool} here")
        (tools / tool).symlink_to(found)
    with PrivateSshd(place, options=[f'SetEnv "HOME={place}/home" "PATH={tools}"']) as server:
        script = "echo $PATH; command -v rsync; command -v python3 || echo none"
        said = subprocess.run(server.ssh(script), capture_output=True, text=True, timeout=20, check=True)
        assert said.stdout.split() == [str(tools), f"{tools}/rsync", "none"]
        yield server


def test_without_python_at_the_target_all_goes_by_rsync_and_the_log_says_so_once(
    without_python: PrivateSshd, scratch: Path
) -> None:
    site, one = laws.make(scratch, without_python)
    with laws.lawful(site, one):
        for number in range(3):
            laws.arrived(one, {b"f%d" % number: laws.put(one.source / f"f{number}", b"x")})
        large = {b"large": laws.put(one.source / "large", os.urandom(3 << 20))}
        many = {b"d/%d" % number: laws.put(one.source / f"d/{number}", b"%d" % number) for number in range(300)}
        laws.arrived(one, {**large, **many})
        names = {b"f0", b"f1", b"f2", *large, *many}
        assert_untroubled(site, one, names)
        assert set(algorithms(site).values()) == {"xxh128"}
    assert log_of(site, "dtc_one").count("small files go by rsync as well (python3 there: ") == 1


def put_sparse(path: Path, size: int) -> str:
    """Given a path and a size, write a file that is a hole with a few bytes at its end; return its hash."""
    with open(path, "wb") as file:
        file.truncate(size)
        file.seek(size - 5)
        file.write(b"bytes")
    assert path.stat().st_blocks * 512 < size / 2, "this filesystem has no holes"
    return laws.digest(path.read_bytes())


def test_any_size_and_kind_arrives_as_it_was_by_the_way_that_keeps_it(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    (one.source / ".stop").touch()
    promised: dict[bytes, str | bytes] = {}
    sizes = {"empty": 0, "byte": 1, "largest": LARGEST, "above": LARGEST + 1}
    for name, size in sizes.items():
        promised[name.encode()] = laws.put(one.source / name, os.urandom(size))
    holes = {"hole": LARGEST, "big hole": 10 << 20}
    for name, size in holes.items():
        promised[name.encode()] = put_sparse(one.source / name, size)
    promised[b"a"] = laws.put(one.source / "a", b"shared")
    for name in ("b", "d/c"):
        (one.source / name).parent.mkdir(exist_ok=True)
        os.link(one.source / "a", one.source / name)
        promised[name.encode()] = promised[b"a"]
    for name, leads_to in {"link": "a", "d/dangling": "nowhere", "away": "/etc"}.items():
        (one.source / name).symlink_to(leads_to)
        promised[name.encode()] = leads_to.encode()
    with laws.lawful(site, one):
        (one.source / ".stop").unlink()
        laws.arrived(one, promised)
        by = algorithms(site)
    for name in holes:
        status = (one.target / name).stat()
        assert status.st_blocks * 512 < status.st_size / 2, f"{name} has been filled"
    assert len({(one.target / name).stat().st_ino for name in ("a", "b", "d/c")}) == 1
    assert (one.target / "a").stat().st_nlink == 3
    small = ("empty", "byte", "largest")
    assert {name: by[name] for name in (*small, "above", *holes)} == {
        **dict.fromkeys(small, "sha256"),
        **dict.fromkeys(("above", *holes), "xxh128"),
    }


def rsyncs_own_hash(path: Path, algorithm: str, scratch: Path) -> str:
    """Given a file and a hash that Python does not have, return what rsync says of a copy to an empty directory."""
    empty = scratch / f"empty-{path.name}"
    empty.mkdir()
    words = ["rsync", "-I", f"--checksum-choice={algorithm}", "--out-format=%C", str(path), f"{empty}/"]
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout.strip()


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "xxh128"])
def test_history_names_the_hash_that_confirmed_each_file_and_what_it_was(
    sshd: PrivateSshd, scratch: Path, algorithm: str
) -> None:
    site, one = laws.make(scratch, sshd, outgoing={"hash": algorithm})
    small, large = os.urandom(70_000), os.urandom(3 << 20)
    with laws.lawful(site, one):
        laws.arrived(one, {b"small": laws.put(one.source / "small", small)})
        laws.arrived(one, {b"large": laws.put(one.source / "large", large)})
        found = {record["name"]: (record["algorithm"], record["digest"]) for record in site.history()}
    if algorithm == "xxh128":
        own = rsyncs_own_hash(one.target / "large", algorithm, scratch)
        assert found == {"small": ("sha256", hashlib.sha256(small).hexdigest()), "large": (algorithm, own)}
    else:
        expected = {"small": hashlib.new(algorithm, small), "large": hashlib.new(algorithm, large)}
        assert found == {name: (algorithm, value.hexdigest()) for name, value in expected.items()}

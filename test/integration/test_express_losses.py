"""The express way through the agent: losses between and in the middle of batches, what travels, and where it is not."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import laws
from agents import alive, ask_ledger, processes_of
from mistamover.testing.sshd import PrivateSshd
from mistamover.transport.express import LARGEST
from support import Site, Stream, wait_until

#: Shown by the command line of the receiver: how it is started.
_BOOT = "exec(t)"


def drop(one: Stream, count: int = 1, *, prefix: str = "f", size: int = 100) -> dict[bytes, str | bytes]:
    """Put files where they are moved from."""
    return {
        b"%s%d" % (prefix.encode(), n): laws.put(one.source / f"{prefix}{n}", b"%d " % n + os.urandom(size))
        for n in range(count)
    }


def receivers(one: Stream) -> list[psutil.Process]:
    """Return the running receivers at the target of a stream."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            if words and words[0].endswith("python3") and any(_BOOT in word for word in words):
                held = [os.readlink(f"/proc/{process.pid}/fd/{n}") for n in os.listdir(f"/proc/{process.pid}/fd")]
                if os.fspath(one.target) in held:
                    found.append(process)
    return found


def far_rsyncs(server: PrivateSshd) -> list[psutil.Process]:
    """Return the rsyncs that a server runs."""
    found = []
    for process in psutil.Process(server.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words and words[0].endswith("rsync") and "--server" in words:
                found.append(process)
    return found


def kill(processes: list[psutil.Process]) -> None:
    """Kill all of them; there must be some."""
    assert processes
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(lambda: not any(alive(process.pid) for process in processes), 10, "they are gone")


def connections(site: Site) -> list[psutil.Process]:
    """Return the ssh processes that have logged in."""
    found = []
    for process in processes_of(site):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "-M" in process.cmdline():
                found.append(process)
    return found


@contextlib.contextmanager
def no_failure(site: Site, one: Stream, *, timeout: float = 15) -> Iterator[None]:
    """What happens within costs no attempt, no quarantine, and no failure of the target."""
    with laws.lawful(site, one, timeout=timeout):
        yield
        assert laws.settled(site, one, timeout=timeout)["quarantined"] == 0
        assert ask_ledger(site, one.name, "SELECT * FROM trouble") == []
    said = laws.logs(site)
    assert "tried again in" not in said, "it was no failure"
    assert " failed: " not in said, "an attempt was counted"


EXPRESS = pytest.mark.parametrize("express", [True, False], ids=["express", "rsync"])


def make(scratch: Path, sshd: PrivateSshd, *, express: bool = True, **more: Any) -> tuple[Site, Stream]:
    """Return a site with one stream that allows no failed attempt."""
    more.setdefault("outgoing", {})
    more["outgoing"] = {"retry_count": 0, **more["outgoing"]}
    return laws.make(scratch, sshd, everywhere={"rsync_ssh": {"express": express}}, **more)


# -- losses while nothing is under way --------------------------------------------------------


@EXPRESS
def test_the_connection_is_killed_while_idle(sshd: PrivateSshd, scratch: Path, express: bool) -> None:
    site, one = make(scratch, sshd, express=express)
    with no_failure(site, one):
        laws.arrived(one, drop(one))
        for number in range(3):
            kill(connections(site))
            laws.arrived(one, drop(one, prefix=f"later{number}-"), timeout=10)


@EXPRESS
def test_the_server_ends_the_sessions_while_idle(private_sshd: PrivateSshd, scratch: Path, express: bool) -> None:
    site, one = make(scratch, private_sshd, express=express)
    with no_failure(site, one):
        laws.arrived(one, drop(one))
        for number in range(3):
            assert private_sshd.kill_sessions()
            laws.arrived(one, drop(one, prefix=f"later{number}-"), timeout=10)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_receiver_is_killed_while_idle(sshd: PrivateSshd, scratch: Path, how: signal.Signals) -> None:
    site, one = make(scratch, sshd)
    with no_failure(site, one):
        laws.arrived(one, drop(one))
        before = connections(site)
        for number in range(3):
            for process in receivers(one):
                process.send_signal(how)
            wait_until(lambda: not receivers(one), 10, "it is gone")
            laws.arrived(one, drop(one, prefix=f"later{number}-"), timeout=10)
            assert receivers(one), "there is a new one"
        assert connections(site) == before


def test_the_warm_rsync_is_killed_at_the_target_while_idle(private_sshd: PrivateSshd, scratch: Path) -> None:
    site, one = make(scratch, private_sshd, express=False)
    with no_failure(site, one):
        laws.arrived(one, drop(one))
        for number in range(3):
            kill(wait_until(lambda: far_rsyncs(private_sshd), 10, "an rsync is kept warm"))
            laws.arrived(one, drop(one, prefix=f"later{number}-"), timeout=10)


@EXPRESS
@pytest.mark.parametrize("how", ["replaced", "removed", "a link elsewhere"])
def test_the_target_directory_is_another_one_while_idle(
    sshd: PrivateSshd, scratch: Path, express: bool, how: str
) -> None:
    """The next file must not be put into the old directory, and then be removed here."""
    site, one = make(scratch, sshd, express=express)
    old = scratch / "remote/old"
    with no_failure(site, one):
        laws.arrived(one, drop(one))
        for number in range(2):
            if how == "removed":
                shutil.rmtree(one.target)
            else:
                one.target.rename(f"{old}{number}")
            if how == "replaced":
                one.target.mkdir()
            elif how == "a link elsewhere":
                (scratch / f"remote/elsewhere{number}").mkdir()
                one.target.symlink_to(scratch / f"remote/elsewhere{number}")
            promised = drop(one, 3, prefix=f"later{number}-")
            laws.arrived(Stream(one.name, one.file, one.source, one.target.resolve()), promised, timeout=10)
            if how != "removed":
                assert not set(promised) & set(laws.contents(Path(f"{old}{number}")))
            if how == "a link elsewhere":
                break


# -- losses in the middle of a batch ----------------------------------------------------------


@contextlib.contextmanager
def in_the_middle(one: Stream, count: int) -> Iterator[dict[bytes, str | bytes]]:
    """Drop a batch of so many files, and stop the receivers while some of them are at the target."""
    (one.source / ".stop").touch()
    promised = drop(one, count, prefix="many", size=2000)
    stopped: list[psutil.Process] = []

    def some_are_there() -> bool:
        there = sum(name.startswith(b"many") for name in os.listdir(bytes(one.target)))
        if not there > 0:
            return False
        for process in receivers(one):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
                stopped.append(process)
        return True

    (one.source / ".stop").unlink()
    wait_until(some_are_there, 20, "some are there", every=0.001)
    try:
        yield promised
    finally:
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


@pytest.mark.parametrize("victim", ["receiver", "connection", "server"])
def test_a_loss_in_the_middle_of_thousands(private_sshd: PrivateSshd, scratch: Path, victim: str) -> None:
    """What was put in place and not yet confirmed is sent again; nothing is lost, doubled, or blamed."""
    site, one = make(scratch, private_sshd)
    with laws.lawful(site, one, timeout=15):
        laws.arrived(one, drop(one))
        with in_the_middle(one, 4000) as promised:
            assert os.listdir(one.source), "it is the middle"
            if victim == "receiver":
                kill(receivers(one))
            elif victim == "connection":
                kill(connections(site))
            else:
                assert private_sshd.kill_sessions()
        laws.arrived(one, promised, timeout=25)
        assert laws.settled(site, one)["quarantined"] == 0
        assert ask_ledger(site, one.name, "SELECT * FROM trouble") == []
    assert " failed: " not in laws.logs(site), "an attempt was counted"
    names = [name for (name,) in ask_ledger(site, one.name, "SELECT name FROM delivery WHERE kind = 'file'")]
    assert sorted(names) == sorted([*promised, b"f0"])


def test_the_target_directory_is_replaced_in_the_middle_of_thousands(sshd: PrivateSshd, scratch: Path) -> None:
    """What is removed here is in the new directory, or had arrived before that came."""
    site, one = make(scratch, sshd)
    old = scratch / "remote/old"
    with site.running():
        laws.arrived(one, drop(one))
        with in_the_middle(one, 3000) as promised:
            one.target.rename(old)
            # Whole by now, and about to be confirmed if they are not yet; what is put there from now on is not.
            arrived = set(os.listdir(os.fsencode(old)))
            one.target.mkdir()
        wait_until(lambda: not os.listdir(one.source), 25, "all are gone here")
        assert laws.settled(site, one)["quarantined"] == 0
    laws.no_leftovers(one)
    there = laws.public(one)
    lost = [name for name in promised if name not in there and name not in arrived]
    assert not lost, f"{len(lost)} were put into the directory that was there before: {lost[:5]}"
    assert all(there[name] == promised[name] for name in promised if name in there)


def _append(path: Path) -> None:
    # Not O_CREAT: what is gone here is at the target.
    with open(os.open(path, os.O_WRONLY | os.O_APPEND), "ab") as file:
        file.write(b"newest")


def _rewrite(path: Path) -> None:
    """As long as before, and with the time put back."""
    with open(path, "r+b") as file:
        before = os.stat(file.fileno())
        file.write(bytes(before.st_size - 6) + b"newest")
        file.flush()
        os.utime(file.fileno(), ns=(before.st_atime_ns, before.st_mtime_ns))


def _replace(path: Path) -> None:
    """By another file that is as long and as old, if it is still there."""
    before = path.stat()
    fresh = path.parent.with_name("fresh")
    fresh.write_bytes(bytes(before.st_size - 6) + b"newest")
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(path)


@pytest.mark.parametrize("write", [_append, _rewrite, _replace])
def test_a_writer_comes_in_the_middle_of_thousands(
    sshd: PrivateSshd, scratch: Path, write: Callable[[Path], None]
) -> None:
    """What is written to a file that travels is not lost, whatever the moment."""
    site, one = make(scratch, sshd)
    written = set()
    with laws.lawful(site, one, timeout=15):
        laws.arrived(one, drop(one))
        with in_the_middle(one, 3000) as promised:
            for number in range(0, 3000, 100):
                with contextlib.suppress(FileNotFoundError):
                    write(one.source / f"many{number}")
                    written.add(b"many%d" % number)
        wait_until(lambda: not os.listdir(one.source), 25, "all are gone here")
    assert written
    for name in promised:
        content = (one.target / os.fsdecode(name)).read_bytes()
        assert content.endswith(b"newest") == (name in written), name
    others = [name for name in promised if name not in written]
    there = laws.public(one)
    assert all(there[name] == promised[name] for name in others)


# -- what travels -----------------------------------------------------------------------------


@EXPRESS
def test_whatever_is_a_file_arrives_as_it_was(sshd: PrivateSshd, scratch: Path, express: bool) -> None:
    """Sizes about the largest that go the express way, none at all, links of both sorts, and holes."""
    site, one = make(scratch, sshd, express=express)
    aside = scratch / "data/aside"
    promised = {
        f"size{size}".encode(): laws.put(aside / f"size{size}", os.urandom(size))
        for size in (0, 1, 65535, 65536, LARGEST - 1, LARGEST, LARGEST + 1)
    }
    promised[b"d/linked"] = promised[b"d/other"] = promised[b"third"] = laws.put(aside / "d/linked", b"shared")
    os.link(aside / "d/linked", aside / "d/other")
    os.link(aside / "d/linked", aside / "third")
    for name, to in ((b"to a file", b"size1"), (b"to nothing", b"\xff nowhere"), (b"out", b"/etc/passwd")):
        os.symlink(to, bytes(aside) + b"/" + name)
        promised[name] = to
    for size in (65536, 300_000, LARGEST):
        with open(aside / f"hole{size}", "wb") as file:
            file.truncate(size)
            file.seek(size // 2)
            file.write(b"in the middle")
        promised[f"hole{size}".encode()] = laws.digest((aside / f"hole{size}").read_bytes())
        assert (aside / f"hole{size}").stat().st_blocks * 512 < size // 2
    (aside / "size1").chmod(0o4640)
    os.utime(aside / "size0", ns=(1, 1_234_567_891_234_567_891))
    before = laws.tree(aside)
    (one.source / ".stop").touch()
    for entry in os.listdir(aside):
        (aside / entry).rename(one.source / entry)
    with laws.lawful(site, one, timeout=15):
        (one.source / ".stop").unlink()
        laws.arrived(one, promised)
        assert laws.settled(site, one)["quarantined"] == 0
    found = laws.tree(one.target)
    assert {name: found[name] for name in promised} == {name: before[name] for name in promised}
    assert len({(one.target / name).stat().st_ino for name in ("d/linked", "d/other", "third")}) == 1
    for size in (65536, 300_000, LARGEST):
        assert (one.target / f"hole{size}").stat().st_blocks * 512 < size // 2, "holes stay holes"


@pytest.mark.parametrize(("wish", "small"), [("xxh128", "sha256"), ("md5", "md5"), ("sha1", "sha1")])
def test_history_says_by_which_hash_a_file_was_proven(sshd: PrivateSshd, scratch: Path, wish: str, small: str) -> None:
    site, one = make(scratch, sshd, outgoing={"hash": wish})
    contents = {"small": os.urandom(1000), "empty": b"", "large": os.urandom(LARGEST + 1)}
    with laws.lawful(site, one):
        laws.arrived(one, {name.encode(): laws.put(one.source / name, data) for name, data in contents.items()})
    records = {record["name"]: record for record in site.history()}
    for name, data in contents.items():
        algorithm = wish if name == "large" else small
        said = {key: value for key, value in records[name].items() if key in ("algorithm", "hash", "digest")}
        assert algorithm in said.values(), (name, said)
        if algorithm in hashlib.algorithms_available:
            assert hashlib.new(algorithm, data).hexdigest() in said.values(), (name, said)


# -- targets without it -----------------------------------------------------------------------


def few_tools(place: Path, *without: str) -> Path:
    """Return a directory with links to all programs of the system, but for those."""
    place.mkdir()
    for directory in ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            if not name.startswith(without) and not os.path.lexists(place / name):
                (place / name).symlink_to(f"{directory}/{name}")
    return place


def test_a_target_without_python_gets_everything_by_rsync(scratch: Path) -> None:
    tools = few_tools(scratch / "tools", "python", "pypy", "pyenv")
    home = scratch / "home"
    home.mkdir()
    options = [f'SetEnv "HOME={home}" "PATH={tools}"']
    with PrivateSshd(scratch / "sshd", options=options) as server:
        site, one = make(scratch, server)
        with no_failure(site, one):
            for number in range(3):
                laws.arrived(one, drop(one, 20, prefix=f"r{number}-"))
            assert not receivers(one)
        lines = [line for line in laws.logs(site).splitlines() if "small files go by rsync" in line]
        assert len(lines) == 1 and "not found" in lines[0], lines
        assert {record["algorithm"] for record in site.history()} == {"xxh128"}


@pytest.mark.parametrize("broken", ["exit 1", "kill -9 $$"])
def test_a_python_that_is_none(scratch: Path, broken: str) -> None:
    tools = few_tools(scratch / "tools", "python")
    (tools / "python3").write_text(f"#!/bin/sh\n{broken}\n")
    (tools / "python3").chmod(0o755)
    home = scratch / "home"
    home.mkdir()
    with PrivateSshd(scratch / "sshd", options=[f'SetEnv "HOME={home}" "PATH={tools}"']) as server:
        site, one = make(scratch, server)
        with no_failure(site, one):
            for number in range(2):
                laws.arrived(one, drop(one, 5, prefix=f"r{number}-"))
        assert len([line for line in laws.logs(site).splitlines() if "small files go by rsync" in line]) == 1


def test_a_login_shell_that_prints_noise(private_sshd: PrivateSshd, scratch: Path) -> None:
    """rsync does not stand it, but says so; the express way does."""
    if Path(pwd.getpwuid(os.geteuid()).pw_shell).name != "bash":
        pytest.skip("another shell reads no .bashrc here")
    noise = "echo 'Welcome to our host!'; echo 'mistamover receiver'; echo 'be quiet' >&2; printf 'no end of line\\n'\n"
    (private_sshd.home / ".bashrc").write_text(noise)
    site, one = make(scratch, private_sshd)
    with no_failure(site, one):
        for number in range(3):
            laws.arrived(one, drop(one, 20, prefix=f"r{number}-"))
        assert receivers(one)

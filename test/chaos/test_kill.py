"""A move goes on while one of its processes is killed, again and again, at random moments: nothing is lost or doubled.

The seed is printed; MISTAMOVER_SEED repeats a run, MISTAMOVER_KILLS changes the number of kills (default 20).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agents import alive, ask_ledger, end_all, log_of, none_left, processes_of, said_by, start, stream_pid, until_up
from mistamover.testing.sshd import PrivateSshd
from support import Agent, Site, Stream, contents, wait_until

KILLS = int(os.environ.get("MISTAMOVER_KILLS", "20"))
DIRECTORIES = 20
FILES = 100
SMALL, BIG = 4096, 1 << 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def chance() -> random.Random:
    """The chance of this test."""
    seed = int(os.environ.get("MISTAMOVER_SEED") or secrets.randbelow(1 << 31))
    print(f"MISTAMOVER_SEED={seed}")
    return random.Random(seed)


class Ordeal:
    """A site with one stream that is kept busy, and an agent that is replaced when it is killed."""

    def __init__(self, directory: Path, sshd: PrivateSshd, chance: random.Random) -> None:
        self.site = Site(
            directory,
            sshd,
            rsync_ssh={"bandwidth_limit": "6000"},
            **{"global": {"stop_timeout": 2}, "data_stream": {"empty_directory_age": 1}},
        )
        self.one: Stream = self.site.add("one")
        self.chance = chance
        self.agent: Agent = start(self.site)
        self.moment = threading.Event()
        self._changes = 0
        self.dropped: dict[bytes, str | bytes] = {}
        """Name and hash of every file."""

    def drop(self, number: int) -> None:
        """Put one directory's files where they are moved from: most are small, one is big; written in place."""
        directory = self.one.source / f"run {number:02}" / "out"
        directory.mkdir(parents=True)
        for file in range(FILES):
            size = BIG if file == FILES // 2 else SMALL
            content = self.chance.randbytes(size)
            name = f"run {number:02}/out/file {file}"
            self.dropped[os.fsencode(name)] = hashlib.sha256(content).hexdigest()
            (self.one.source / name).write_bytes(content)

    def some_time(self, most: float) -> None:
        """Let a random time pass: the moment of the next kill."""
        self.moment.wait(self.chance.random() * most)

    def hurry(self) -> None:
        """Have the master start a stream anew at once, as an operator can by changing its file."""
        self._changes += 1
        self.site.add("one", data_stream={"priority": 100 + self._changes})
        self.agent.reload()

    def files_here(self) -> list[str]:
        """Return what is left in the watched directory."""
        return [name for _, _, files in os.walk(self.one.source) for name in files]

    def state(self) -> str:
        """Return what can be said about an ordeal that does not end."""
        return (
            f"{len(self.files_here())} files here; {said_by(self.site, 'one')}; {log_of(self.site, 'dtc_one')[-3000:]}"
        )


@pytest.fixture
def ordeal(tmp_path: Path, sshd: PrivateSshd, chance: random.Random) -> Iterator[Ordeal]:
    """An ordeal that leaves no process behind."""
    made = Ordeal(tmp_path, sshd, chance)
    try:
        until_up(made.site, made.agent)
        yield made
    finally:
        made.agent.kill()
        end_all(made.site)


def kill(pid: int) -> bool:
    """Kill a process with SIGKILL; return whether it was there, after it has gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    wait_until(lambda: not alive(pid), 10, f"killed process {pid} is gone")
    return True


def kill_stream(ordeal: Ordeal, number: int) -> None:
    """Kill the stream's process; the first two times it comes back by itself, then the operator hurries."""
    pid = wait_until(lambda: stream_pid(ordeal.site, "one", ordeal.agent.pid), 20, "the stream is up")
    ordeal.some_time(0.5)
    kill(pid)
    if number >= 2:
        ordeal.hurry()


def kill_master(ordeal: Ordeal, number: int) -> None:
    """Kill the master; start another while the orphan still drains, or after it has gone."""
    pid = wait_until(lambda: stream_pid(ordeal.site, "one", ordeal.agent.pid), 30, "the stream is up")
    ordeal.some_time(0.5)
    ordeal.agent.process.kill()
    ordeal.agent.process.wait(10)
    if number % 3:
        wait_until(lambda: not alive(pid), 15, "the orphan has drained")
    ordeal.agent = start(ordeal.site)


def kill_rsync(ordeal: Ordeal, number: int) -> None:
    """Kill any rsync of this side: the one that sends, or the one that is kept warm."""
    ordeal.some_time(0.5)
    _kill_one_of(ordeal, lambda words: words[0].endswith("rsync") and "--server" not in words)


def kill_connection(ordeal: Ordeal, number: int) -> None:
    """Kill the master of the ssh connection; every other time the operator does not wait for the target's pause."""
    ordeal.some_time(0.5)
    _kill_one_of(ordeal, lambda words: words[0].endswith("ssh") and "-M" in words)
    if number % 2:
        ordeal.agent.reload()


def _kill_one_of(ordeal: Ordeal, wanted: Callable[[list[str]], bool]) -> None:
    def found() -> list[int]:
        pids: list[int] = []
        for process in processes_of(ordeal.site):
            with contextlib.suppress(psutil.NoSuchProcess):
                words = process.cmdline()
                if words and wanted(words):
                    pids.append(process.pid)
        return pids

    def killed() -> bool:
        pids = found()
        return bool(pids) and kill(ordeal.chance.choice(pids))

    wait_until(killed, 30, "there was a victim to kill")


@pytest.mark.parametrize("kill_victim", [kill_stream, kill_master, kill_rsync, kill_connection])
def test_nothing_is_lost_or_doubled(ordeal: Ordeal, kill_victim: Callable[[Ordeal, int], None]) -> None:
    began = time.monotonic()
    dropped = 0
    for number in range(KILLS):
        while dropped * KILLS < (number + 1) * DIRECTORIES and dropped < DIRECTORIES:
            ordeal.drop(dropped)
            dropped += 1
        kill_victim(ordeal, number)
    killed = time.monotonic()
    try:
        wait_until(lambda: not ordeal.files_here(), 60, "everything is moved")
    except AssertionError as error:
        raise AssertionError(f"{error}; {ordeal.state()}") from None
    wait_until(lambda: stream_pid(ordeal.site, "one", ordeal.agent.pid), 30, "the stream is up at the end")
    wait_until(lambda: not any(ordeal.one.source.iterdir()), 20, "emptied directories are gone")
    assert ordeal.agent.stop(30) == 0
    print(f"{KILLS} kills in {killed - began:.1f} s, all done after {time.monotonic() - began:.1f} s")
    none_left(ordeal.site)

    assert len(ordeal.dropped) == DIRECTORIES * FILES
    assert contents(ordeal.one.target) == ordeal.dropped
    _assert_nothing_of_ours(ordeal.one.target)
    _assert_ledger(ordeal, set(ordeal.dropped))


def _assert_nothing_of_ours(target: Path) -> None:
    names = [os.path.join(at, name) for at, dirs, files in os.walk(target) for name in (*dirs, *files)]
    assert [name for name in names if "/." in name] == []


def _assert_ledger(ordeal: Ordeal, names: set[bytes]) -> None:
    assert ask_ledger(ordeal.site, "one", "PRAGMA integrity_check") == [("ok",)]
    assert ask_ledger(ordeal.site, "one", "SELECT * FROM batch WHERE handed_over IS NULL") == []
    assert ask_ledger(ordeal.site, "one", "SELECT * FROM trouble") == []
    times = Counter(name for (name,) in ask_ledger(ordeal.site, "one", "SELECT name FROM delivery WHERE kind = 'file'"))
    assert set(times) == names
    assert {name: number for name, number in times.items() if number != 1} == {}

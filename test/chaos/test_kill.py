"""A move goes on while one of its processes is killed, again and again, at random moments: nothing is lost or doubled.

By rsync a limit of the bandwidth keeps the move busy.  The express way has none: there the files of each directory are
dropped in small bursts around the moment of a kill.

The seed is printed; MISTAMOVER_SEED repeats a run, MISTAMOVER_KILLS changes the number of kills (default 5).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from agents import (
    alive,
    ask_ledger,
    connections_of,
    end_all,
    kill,
    log_of,
    none_left,
    receivers_of,
    rsyncs_of,
    said_by,
    start,
    stream_pid,
    until_up,
)
from mistamover.model import StreamState
from mistamover.testing.sshd import PrivateSshd
from support import Agent, Site, Stream, contents, wait_until

KILLS = int(os.environ.get("MISTAMOVER_KILLS", "5"))
DIRECTORIES = 14
FILES = 100
SMALL, BIG = 4096, 1 << 20
#: Seconds over which the files of one directory are dropped on the express way, and the next kill comes at most.
SPREAD = 0.5
#: Files that come together then, on average.
BURST = 10
#: Looks for a victim after which more work is made, if there was none to be found.
LOOKS = 25

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def chance() -> random.Random:
    """The chance of this test."""
    seed = int(os.environ.get("MISTAMOVER_SEED") or secrets.randbelow(1 << 31))
    print(f"MISTAMOVER_SEED={seed}")
    return random.Random(seed)


class Ordeal:
    """A site with one stream that is kept busy, and an agent that is replaced when it is killed."""

    def __init__(self, directory: Path, sshd: PrivateSshd, chance: random.Random, *, express: bool) -> None:
        self.express = express
        self.site = Site(
            directory,
            sshd,
            rsync_ssh={"bandwidth_limit": None if express else "6000"},
            **{"global": {"stop_timeout": 2}, "data_stream": {"empty_directory_age": 1}},
        )
        self.one: Stream = self.site.add("one")
        self.chance = chance
        self.agent: Agent = start(self.site)
        self.moment = threading.Event()
        self.busy = 0
        """Kills that came while something was to be moved."""
        self.directories = 0
        """How many were dropped or announced."""
        self._changes = 0
        self._announced: list[int] = []
        self._droppers: list[threading.Thread] = []
        self.dropped: dict[bytes, str | bytes] = {}
        """Name and hash of every file."""

    def drop(self) -> None:
        """Put the next directory's files where they are moved from, or, on the express way, announce them.

        What is announced is dropped in small bursts when the moment of the next kill is near.
        """
        number = self.directories
        self.directories += 1
        if self.express:
            self._announced.append(number)
        else:
            self._write(number, random.Random(self.chance.random()), 0.0)

    def some_time(self) -> None:
        """Let a random time pass: the moment of the next kill, when something is under way if possible."""
        self._begin()
        self.moment.wait(self.chance.random() * SPREAD)
        wait_until(
            lambda: self.files_here() or not self._dropping(),
            30, "something is under way, or all is dropped", every=0.001,
        )  # fmt: skip
        self.busy += bool(self.files_here())

    def keep_going(self) -> None:
        """See to it that there is something to do and that the stream does it.

        When all is moved, more is dropped; a target's pause, which the last kills may have made long, is cut short.
        """
        if not self.files_here() and not self._dropping():
            self.drop()
            self._begin()
        last = said_by(self.site, "one")
        if last is not None and last.state is StreamState.UNREACHABLE:
            self.agent.reload()

    def _begin(self) -> None:
        for number in self._announced:
            words = (number, random.Random(self.chance.random()), SPREAD / FILES)
            self._droppers.append(threading.Thread(target=self._write, args=words))
            self._droppers[-1].start()
        self._announced.clear()

    def _dropping(self) -> bool:
        return any(dropper.is_alive() for dropper in self._droppers)

    def all_dropped(self) -> None:
        """Wait until everything that was announced is there."""
        for dropper in self._droppers:
            dropper.join(30)
            assert not dropper.is_alive(), "files are still being written"

    def _write(self, number: int, chance: random.Random, pause: float) -> None:
        """Write one directory's files in place: most are small, one is big; a pause for each, several at a time."""
        directory = self.one.source / f"run {number:02}" / "out"
        for file in range(FILES):
            size = BIG if file == FILES // 2 else SMALL
            content = chance.randbytes(size)
            name = f"run {number:02}/out/file {file}"
            self.dropped[os.fsencode(name)] = hashlib.sha256(content).hexdigest()
            while True:
                # An empty directory is removed once it is old enough; one that came and went is made again.
                with contextlib.suppress(FileNotFoundError):
                    directory.mkdir(parents=True, exist_ok=True)
                    (self.one.source / name).write_bytes(content)
                    break
            if pause and chance.random() < 1 / BURST:
                self.moment.wait(pause * BURST)

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
def ordeal(
    tmp_path: Path, sshd: PrivateSshd, chance: random.Random, request: pytest.FixtureRequest
) -> Iterator[Ordeal]:
    """An ordeal that leaves no process behind; its parameter is the way that the files go."""
    made = Ordeal(tmp_path, sshd, chance, express=request.param == "express")
    try:
        until_up(made.site, made.agent)
        yield made
    finally:
        made.agent.kill()
        end_all(made.site)


def kill_stream(ordeal: Ordeal, number: int) -> None:
    """Kill the stream's process; the first two times it comes back by itself, then the operator hurries."""
    pid = wait_until(lambda: stream_pid(ordeal.site, "one", ordeal.agent.pid), 20, "the stream is up")
    ordeal.some_time()
    kill(pid)
    if number >= 2:
        ordeal.hurry()


def kill_master(ordeal: Ordeal, number: int) -> None:
    """Kill the master; start another while the orphan still drains, or after it has gone."""
    pid = wait_until(lambda: stream_pid(ordeal.site, "one", ordeal.agent.pid), 30, "the stream is up")
    ordeal.some_time()
    ordeal.agent.process.kill()
    ordeal.agent.process.wait(10)
    if number % 3:
        wait_until(lambda: not alive(pid), 15, "the orphan has drained")
    ordeal.agent = start(ordeal.site)


def kill_rsync(ordeal: Ordeal, number: int) -> None:
    """Kill any rsync of this side: the one that sends, or the one that is kept warm."""
    ordeal.some_time()
    _kill_one_of(ordeal, rsyncs_of)


def kill_connection(ordeal: Ordeal, number: int) -> None:
    """Kill the master of the ssh connection; most times the operator does not wait for the target's pause."""
    if ordeal.express:
        # Not always in the middle of its login.
        wait_until(lambda: receivers_of(ordeal.site) or not ordeal.files_here(), 30, "the connection is used")
    ordeal.some_time()
    _kill_one_of(ordeal, connections_of)
    if number % (3 if ordeal.express else 2):
        ordeal.agent.reload()


def kill_receiver(ordeal: Ordeal, number: int) -> None:
    """Kill a receiver of the far end."""
    ordeal.some_time()
    _kill_one_of(ordeal, receivers_of)


def _kill_one_of(ordeal: Ordeal, found: Callable[[Site], list[psutil.Process]]) -> None:
    looks = itertools.count(1)

    def killed() -> bool:
        victims = found(ordeal.site)
        if not victims and next(looks) % LOOKS == 0:
            ordeal.keep_going()
        return bool(victims) and kill(ordeal.chance.choice(victims).pid)

    try:
        wait_until(killed, 60, "there was a victim to kill")
    except AssertionError as error:
        raise AssertionError(f"{error}; {ordeal.state()}") from None


@pytest.mark.parametrize(
    ("ordeal", "kill_victim"),
    [
        ("rsync", kill_stream),
        ("rsync", kill_master),
        ("rsync", kill_rsync),
        ("rsync", kill_connection),
        ("express", kill_stream),
        ("express", kill_master),
        ("express", kill_connection),
        ("express", kill_receiver),
    ],
    indirect=["ordeal"],
)
def test_nothing_is_lost_or_doubled(ordeal: Ordeal, kill_victim: Callable[[Ordeal, int], None]) -> None:
    began = time.monotonic()
    directories = KILLS if ordeal.express else DIRECTORIES
    for number in range(KILLS):
        while ordeal.directories * KILLS < (number + 1) * directories:
            ordeal.drop()
        kill_victim(ordeal, number)
    ordeal.all_dropped()
    killed = time.monotonic()
    try:
        wait_until(lambda: not ordeal.files_here(), 60, "everything is moved")
    except AssertionError as error:
        raise AssertionError(f"{error}; {ordeal.state()}") from None
    wait_until(lambda: stream_pid(ordeal.site, "one", ordeal.agent.pid), 30, "the stream is up at the end")
    wait_until(lambda: not any(ordeal.one.source.iterdir()), 20, "emptied directories are gone")
    assert ordeal.agent.stop(30) == 0
    print(f"{KILLS} kills in {killed - began:.1f} s, all done after {time.monotonic() - began:.1f} s")
    print(f"{ordeal.busy} of them came while there was something to be moved")
    assert ordeal.busy * 4 >= KILLS, "many kills came while nothing was to be done"
    none_left(ordeal.site)
    wait_until(lambda: not receivers_of(ordeal.site), 15, "no receiver is left")

    assert ordeal.directories >= directories
    assert len(ordeal.dropped) == ordeal.directories * FILES
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

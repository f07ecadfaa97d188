"""Writers that misbehave on the express way: nothing they write is lost, and nothing is seen in part."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

import laws
from agents import algorithms, ask_ledger, log_of, receivers_of
from mistamover.testing.sshd import PrivateSshd
from support import Site, Stream, wait_until


class Appender(threading.Thread):
    """Opens a file, appends a line and closes it, again and again; the file may be moved away at any time."""

    def __init__(self, path: Path, times: int, stop: threading.Event) -> None:
        super().__init__()
        self._path = path
        self._times = times
        self._stop_now = stop
        self._chance = random.Random(path.name)
        self.lines: list[bytes] = []

    def run(self) -> None:
        for number in range(self._times):
            line = b"%d of %s\n" % (number, os.fsencode(self._path.name))
            with open(self._path, "ab") as file:
                file.write(line)
            self.lines.append(line)
            # So that it meets a file that is new, is under way, is being removed, or has gone.
            if self._stop_now.wait(self._chance.choice((0.0, 0.001, 0.02, 0.1)) * self._chance.random()):
                return


def torn_logs(one: Stream, names: Sequence[str]) -> laws.Witness:
    """Watch that each file at the target holds whole lines, each later than the one before."""

    def look() -> Iterator[str]:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                data = (one.target / name).read_bytes()
                lines = data.splitlines(keepends=True)
                numbers = [int(line.split(b" ", 1)[0]) for line in lines if line.endswith(b" of %s\n" % name.encode())]
                if len(numbers) < len(lines) or numbers != sorted(set(numbers)):
                    yield f"{name}: torn: {data[:60]!r}..{data[-60:]!r}"

    return laws.Witness(look)


class Log:
    """All lines that were written under one name, to recognise the versions that were delivered."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = len(lines)
        self._whole = b"".join(lines)
        self._starts = [0, *itertools.accumulate(len(line) for line in lines)]

    def lines_of(self, size: int, digest: str, before: Sequence[Sequence[int]]) -> list[int]:
        """Given size and sha256 of a version and the lines of those before it, return its lines; none if unknown."""
        for number in range(self.lines):
            if self._digest(number, size) == digest:
                return self._from(number, size)
        # One that was rescued and then written to again: the beginning of an earlier one with a line or two more, and
        # what the writer wrote after it had written to another file of the same name.
        for early in reversed(before):
            for end in range(early[-1] + 1, min(early[-1] + 4, self.lines)):
                head = self._whole[self._starts[early[0]] : self._starts[end]]
                for number in range(end, self.lines) if len(head) < size else ():
                    if self._digest(number, size - len(head), head) == digest:
                        return [*range(early[0], end), *self._from(number, size - len(head))]
        return []

    def _digest(self, number: int, size: int, head: bytes = b"") -> str:
        return laws.digest(head + self._whole[self._starts[number] : self._starts[number] + size])

    def _from(self, number: int, size: int) -> list[int]:
        return list(range(number, self._starts.index(self._starts[number] + size)))


def assert_all_delivered(log: Log, versions: Sequence[tuple[int, str, bool]]) -> int:
    """Given a log, and size, sha256 and `kept` of its versions as they were delivered, assert that every line is in a
    version that counts; return how many began earlier than one that came before.

    A version that was removed here ends a file, and the writer began the next one.  One that was kept counts for
    nothing: another has to come.  One that a writer opened in the very moment of its removal comes again, later than
    what the writer has begun since.
    """
    missing = set(range(log.lines))
    known: list[list[int]] = []
    late: set[int] = set()
    for size, digest, kept in versions:
        found = log.lines_of(size, digest, known)
        assert found, f"a version of {size} bytes is nothing that was written"
        if any(found[0] < other[0] for other in known):
            late.add(found[0])
        known.append(found)
        if not kept:
            missing.difference_update(found)
    assert not missing, f"never delivered: {sorted(missing)[:20]} ({len(missing)}) of {log.lines} lines"
    return len(late)


def rescued(site: Site) -> tuple[int, int]:
    """Return how many files were opened in the very moment of their removal, and how many of them are here again."""
    said = log_of(site, "dtc_one")
    return said.count("opened for writing in the moment of its removal"), said.count("removal: it is here again")


def test_every_line_of_five_impatient_appenders_is_delivered(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    stop = threading.Event()
    names = [f"log{number}" for number in range(5)]
    appenders = [Appender(one.source / name, 400, stop) for name in names]
    with laws.lawful(site, one, timeout=20), torn_logs(one, names) as witness:
        for appender in appenders:
            appender.start()
        try:
            wait_until(lambda: not any(appender.is_alive() for appender in appenders), 30, "all lines are written")
        finally:
            stop.set()
            for appender in appenders:
                appender.join(10)
        wait_until(lambda: rescued(site)[0] == rescued(site)[1], 15, "what was opened in its removal is here again")
        wait_until(lambda: not any(name.startswith("log") for name in os.listdir(one.source)), 15, "all is moved")
        laws.settled(site, one, timeout=15)
        history = sorted(site.history(), key=lambda record: record["confirmed"])
        assert ask_ledger(site, "one", "SELECT * FROM trouble") == []
    witness.swear()
    rounds = late = 0
    for name, appender in zip(names, appenders, strict=True):
        # What was rescued when the name was taken has a number behind it.
        own = [record for record in history if record["name"].partition(".")[0] == name]
        assert {record["algorithm"] for record in own} == {"sha256"}
        versions = [(record["size"], record["digest"], bool(record["kept"])) for record in own]
        rounds += sum(not kept for _, _, kept in versions)
        late += assert_all_delivered(Log(appender.lines), versions)
    assert rounds > 10, "the stream hardly met the writers"
    assert late <= rescued(site)[1], f"{late} versions came late, and {rescued(site)[1]} were rescued"


def test_a_file_that_is_held_open_waits_and_then_goes_whole_beside_those_that_flow(
    sshd: PrivateSshd, scratch: Path
) -> None:
    site, one = laws.make(scratch, sshd, data_stream={"rescan_interval": 0.5})
    parts = [b"%d;" % number * 1000 for number in range(5)]
    whole = b"".join(parts)
    with laws.Witness(laws.only_versions(one.target / "held", whole)) as witness, laws.lawful(site, one):
        with open(one.source / "held", "wb", buffering=0) as file:
            for number, part in enumerate(parts):
                file.write(part)
                # The rescans see it as well, between the parts.
                laws.arrived(one, {f"n{number}".encode(): laws.put(one.source / f"n{number}", b"n")})
                wait_until(lambda: "held" in laws.waiting(site, one), 10, "status says that it waits")
            assert not os.path.lexists(one.target / "held")
        laws.arrived(one, {b"held": laws.digest(whole)})
        assert algorithms(site)["held"] == "sha256"
        assert laws.settled(site, one)["quarantined"] == 0
    witness.swear()


def versions_in_order(path: Path, *versions: bytes) -> laws.Witness:
    """Watch that a final name shows complete versions only, and none after a later one."""
    seen = [0]

    def look() -> Iterator[str]:
        with contextlib.suppress(FileNotFoundError):
            data = path.read_bytes()
            if data not in versions:
                yield f"{path.name}: {len(data)} bytes that are no version"
            elif versions.index(data) < seen[0]:
                yield f"{path.name}: version {versions.index(data)} after version {seen[0]}"
            else:
                seen[0] = versions.index(data)

    return laws.Witness(look)


def append(path: Path, new: bytes) -> None:
    with open(path, "ab") as file:
        file.write(new[file.tell() :])


def rewrite(path: Path, new: bytes) -> None:
    """Write other content of the same size, and put the time back."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(new)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path: Path, new: bytes) -> None:
    """Put another file of the same size and time under the name."""
    aside = path.parent.parent / "aside"
    aside.write_bytes(new)
    before = path.stat()
    os.utime(aside, ns=(before.st_atime_ns, before.st_mtime_ns))
    aside.replace(path)


def _stopped_half_way(site: Site, one: Stream) -> list[psutil.Process]:
    """Stop and return the receivers once the batch is half way; return nothing before."""
    if len(laws.public(one)) < 20:
        return []
    found = receivers_of(site)
    for process in found:
        process.suspend()
    return found


def _victims(one: Stream, names: Iterable[str]) -> dict[str, bytes]:
    """Return which files are to change: one that has arrived, the next to come, and the last."""
    arrived = {os.fsdecode(name) for name in laws.public(one)}
    here = sorted(name for name in names if os.path.lexists(one.source / name))
    there, coming = [name for name in here if name in arrived], [name for name in here if name not in arrived]
    assert there and len(coming) > 1, f"{len(arrived)} have arrived, {len(here)} are here: none to change"
    return dict.fromkeys((there[0], coming[0], coming[-1]), b"")


@pytest.mark.parametrize("change", [append, rewrite, replace])
def test_files_that_change_while_their_batch_is_under_way_arrive_in_their_last_version(
    sshd: PrivateSshd, scratch: Path, change: Callable[[Path, bytes], None]
) -> None:
    """The receiver is stopped half way, so that its pipe is full; one is there, one in the pipe, one not yet read."""
    size, count = 100_000, 800
    site, one = laws.make(scratch, sshd)
    old = {f"d/{number:03}": os.urandom(size) for number in range(count)}
    with laws.lawful(site, one, timeout=20), contextlib.ExitStack() as watching:
        laws.arrived(one, {b"warm": laws.put(one.source / "warm", b"up")})
        wait_until(lambda: len(receivers_of(site)) == 1, 10, "the receiver waits")
        for name, content in old.items():
            laws.put(scratch / name, content)
        (scratch / "d").rename(one.source / "d")
        stopped = wait_until(lambda: _stopped_half_way(site, one), 20, "the batch is half way", every=0.0005)
        try:
            new = _victims(one, old)
            for name in new:
                new[name] = old[name] + b"appended" if change is append else os.urandom(size)
            witnesses = [
                watching.enter_context(versions_in_order(one.target / name, old[name], new[name])) for name in new
            ]
            for name, content in new.items():
                change(one.source / name, content)
            for process in stopped:
                process.resume()
            promised = {name.encode(): laws.digest(content) for name, content in {**old, **new}.items()}
            laws.arrived(one, promised, timeout=20)
            laws.settled(site, one, timeout=15)
            wait_until(lambda: all(witness.looks > 20 for witness in witnesses), 10, "the witnesses have looked")
            watching.close()
        finally:
            for process in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
        for witness in witnesses:
            witness.swear()
        records = [record for record in site.history() if record["kind"] == "file"]
        assert {record["attempts"] for record in records} == {0}
        times = Counter(record["name"] for record in records if not record["kept"])
        assert times == Counter(["warm", *old])
        assert laws.settled(site, one)["quarantined"] == 0

"""Two agents with receipts: control files, receipts and thank-you files between a sender and an arrival monitor."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import laws
from agents import agent_of, end_all, start
from mistamover.files.names import MARK
from mistamover.handshake import messages
from mistamover.handshake.receipts import GIVEN, TAKEN, Book, first_broken
from mistamover.testing.sshd import PrivateSshd
from support import Agent, Site, Stream, wait_until

QUICK = {"empty_directory_age": 0.5, "settle_time": 0.3, "rescan_interval": 3}


class Pair:
    """A sender and a receiver, each with its own agent."""

    def __init__(self, scratch: Path, sshd: PrivateSshd, **outgoing: object) -> None:
        for name in ("a", "b"):
            (scratch / name).mkdir()
        self.there = Site(scratch / "b", sshd)
        self.data = scratch / "b" / "data" / "one"
        self.incoming = scratch / "b" / "incoming" / "one"
        self.there.add(
            "one",
            incoming={"require_arrival_monitor": True, "directory": self.incoming},
            outgoing={"transfer_protocol": "none"},
        )
        self.incoming.mkdir()
        self.here = Site(scratch / "a", sshd)
        settings = {
            "target_uses_arrival_monitor": True,
            "target_dir": self.incoming,
            "receipt_file_poll_interval": 0.2,
            "retry_count": 0,
            **outgoing,
        }
        self.one: Stream = self.here.add("one", data_stream=dict(QUICK), outgoing=settings)

    @contextlib.contextmanager
    def monitor(self) -> Iterator[Agent]:
        """Run the receiver's agent."""
        agent = start(self.there)
        try:
            wait_until(lambda: self.monitor_pid() is not None, 20, "the monitor is up")
            yield agent
            if agent.process.poll() is None:
                assert agent.stop(30) == 0, agent.said()
        finally:
            agent.kill()
            end_all(self.there)

    def monitor_pid(self) -> int | None:
        """Return the process of the arrival monitor, if it has shown itself."""
        report = json.loads((self.there.state / "master.json").read_text()) if self._reported() else {}
        for child in report.get("children", ()):
            if child["name"] == "arrivals one" and child["pid"] and self._shown():
                return int(child["pid"])
        return None

    def _reported(self) -> bool:
        return (self.there.state / "master.json").exists()

    def _shown(self) -> bool:
        return (self.there.state / "streams" / "one" / "arrivals.json").exists()

    def drop(self, names: dict[str, bytes]) -> None:
        for name, content in names.items():
            laws.put(self.one.source / name, content)

    def arrived(self, names: dict[str, bytes], timeout: float = 20) -> None:
        """Wait until all is in the receiver's directory, and gone here, and no message is left at either end."""
        wanted = {name.encode(): hashlib.sha256(content).hexdigest() for name, content in names.items()}

        def there() -> bool:
            found = laws.contents(self.data)
            return all(found.get(name) == content for name, content in wanted.items())

        wait_until(there, timeout, "all has been delivered")
        wait_until(lambda: not any(f for _, _, f in os.walk(self.one.source)), timeout, "all has gone here")

    def no_messages(self, timeout: float = 10) -> None:
        def left() -> list[bytes]:
            places = (self.incoming, self.one.source, self.data)
            names = [n for place in places for n in laws.tree(place)]
            # The place of the temporary files may stay behind a sender that was ended in a hurry, with nothing in it.
            names = [n for n in names if n != MARK or any(each.startswith(MARK + b"/") for each in names)]
            return [n for n in names if n.rpartition(b"/")[2].startswith(b".")]

        try:
            wait_until(lambda: not left(), timeout, "no dot-file is left")
        except AssertionError as error:
            raise AssertionError(f"{error}: {left()}") from None

    def books(self) -> tuple[list[bytes], list[bytes]]:
        """Return the names of the receipts that were taken and given; every seal must fit."""
        result = []
        for site, name in ((self.here, TAKEN), (self.there, GIVEN)):
            book = Book(site.state / "streams" / "one" / name, read_only=True)
            entries = list(book.entries())
            book.close()
            assert first_broken(entries) == (len(entries), None)
            result.append([entry.name for entry in entries])
        return result[0], result[1]


FILES = {
    "a": b"first",
    "b.dat": b"x" * 300_000,
    "sub/dir/c": b"third",
    "odd \xff'\"$".encode("latin-1").decode("latin-1"): b"4",
    "empty": b"",
}


@pytest.mark.parametrize("algorithm", ["md5", "sha256", "blake2b", "xxh128"])
def test_files_arrive_with_receipts(sshd: PrivateSshd, scratch: Path, algorithm: str) -> None:
    pair = Pair(scratch, sshd, checksum_algorithm=algorithm)
    with pair.monitor():
        with agent_of(pair.here):
            pair.drop(FILES)
            pair.arrived(FILES)
            wait_until(lambda: len(pair.books()[0]) == len(FILES), 10, "receipts are taken")
        pair.no_messages()
        said = pair.there.ask("status")
        assert f"{len(FILES)} delivered, 0 wait" in said.stdout
        assert said.returncode == 0
    assert "no process serves its arrivals" in pair.there.ask("status").stdout
    taken, given = pair.books()
    assert sorted(taken) == sorted(given) == sorted(name.encode() for name in FILES)


def test_nothing_goes_before_its_receipt(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd)
    with agent_of(pair.here):
        pair.drop({"f": b"content"})
        wait_until(lambda: (pair.incoming / ".f.stager-ctrl-bss").exists(), 10, "its control file is there")
        time.sleep(1)
        assert (pair.one.source / "f").exists()
        with pair.monitor():
            pair.arrived({"f": b"content"})
    pair.no_messages()


def test_a_directory_unit_arrives_whole(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd, checksum_algorithm="sha256")
    pair.one = pair.here.add(
        "one",
        data_stream={**QUICK, "transfer_unit": "directory"},
        outgoing={
            "target_uses_arrival_monitor": True, "target_dir": pair.incoming, "checksum_algorithm": "sha256",
            "receipt_file_poll_interval": 0.2,
        },
    )  # fmt: skip
    names = {f"unit/{n}/f{n}": os.urandom(1000) for n in range(20)}
    with pair.monitor(), agent_of(pair.here):
        prepared = scratch / "prepared"
        for name, content in names.items():
            laws.put(prepared / name, content)
        os.symlink("0/f0", prepared / "unit/link")
        (prepared / "unit/empty").mkdir()
        (prepared / "unit").rename(pair.one.source / "unit")
        wait_until(lambda: (pair.data / "unit").exists(), 20, "it has come")
        assert {n: c for n, c in laws.contents(pair.data).items() if n != b"unit/link"} == {
            name.encode(): hashlib.sha256(content).hexdigest() for name, content in names.items()
        }
        assert (pair.data / "unit/empty").is_dir() and (pair.data / "unit/link").is_symlink()
        wait_until(lambda: not (pair.one.source / "unit").exists(), 20, "it has gone")
    pair.no_messages()


def test_the_monitor_is_killed_again_and_again(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd)
    promised: dict[str, bytes] = {}
    with pair.monitor(), agent_of(pair.here):
        for number in range(5):
            files = {f"{number}/f{n}": os.urandom(500) for n in range(50)}
            promised |= files
            pair.drop(files)
            pid = wait_until(pair.monitor_pid, 20, "the monitor is up")
            time.sleep(0.1 * number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pair.arrived(promised, timeout=60)
        # Who was killed last has to be there again to take the thank-you files, and both are needed until it has.
        wait_until(pair.monitor_pid, 40, "the monitor is up")
        wait_until(lambda: not [n for n in laws.tree(pair.incoming) if n.endswith(b"-bss")], 40, "all was thanked for")
    pair.no_messages()
    taken, given = pair.books()
    assert set(taken) == set(given) == {name.encode() for name in promised}


def test_a_monitor_killed_behind_a_receipt_gives_no_second_one_that_nobody_awaits(
    sshd: PrivateSshd, scratch: Path
) -> None:
    pair = Pair(scratch, sshd)
    digest = hashlib.md5(b"good").hexdigest()
    control = f"_start_stager_ctrl_data_\nf\n4\n{digest}\n.f.1.00.stager-rcpt-bss\n_end_stager_ctrl_data_\n"
    receipt = pair.incoming / ".f.1.00.stager-rcpt-bss"
    with pair.monitor():
        laws.put(pair.incoming / "f", b"good")
        laws.put(pair.incoming / ".f.stager-ctrl-bss", control.encode())
        wait_until(receipt.exists, 20, "it has its receipt")
    # As if it had been killed before it removed the control file; its sender has thanked meanwhile.
    laws.put(pair.incoming / ".f.stager-ctrl-bss", control.encode())
    thanks = messages.compose_thanks(b".f.1.00.stager-rcpt-bss")
    laws.put(pair.incoming / os.fsdecode(messages.parse_receipt(receipt.read_bytes()).thanks), thanks)
    with pair.monitor():
        pair.no_messages()
    assert (pair.data / "f").read_bytes() == b"good"


def test_data_that_are_not_as_announced_are_not_delivered(sshd: PrivateSshd, scratch: Path) -> None:
    """An old sender gets no receipt then: on a bad one it would remove its source."""
    pair = Pair(scratch, sshd)
    digest = hashlib.md5(b"good").hexdigest()
    with pair.monitor():
        (pair.incoming / "f").write_bytes(b"evil")
        control = f"_start_stager_ctrl_data_\nf\n4\n{digest}\n.f.1.00.stager-rcpt-bss\n_end_stager_ctrl_data_\n"
        laws.put(pair.incoming / ".f.stager-ctrl-bss", control.encode())
        time.sleep(1)
        assert not (pair.data / "f").exists()
        assert (pair.incoming / "f").read_bytes() == b"evil"
        assert not (pair.incoming / ".f.1.00.stager-rcpt-bss").exists()
        # Now it comes as announced, control file first, as older senders push it.
        (pair.incoming / ".f.XXXXXX").write_bytes(b"good")
        (pair.incoming / ".f.XXXXXX").rename(pair.incoming / "f")
        wait_until(lambda: (pair.data / "f").exists(), 10, "it is delivered")
        wait_until(lambda: (pair.incoming / ".f.1.00.stager-rcpt-bss").exists(), 10, "it has its receipt")
        assert (
            (pair.incoming / ".f.1.00.stager-rcpt-bss")
            .read_bytes()
            .startswith(f"_start_stager_receipt_data_\nf\n0\n4\n{digest}\n.f.".encode())
        )


def test_a_sender_of_ours_is_told_and_sends_again(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd, checksum_algorithm="sha256", retry_count=5)
    content = os.urandom(1000)
    with agent_of(pair.here):
        pair.drop({"f": content})
        wait_until(lambda: list(pair.incoming.glob(".*.stager-ctrl-bss")), 10, "its control file is there")
        (pair.incoming / "f").write_bytes(b"x" * 1000)
        with pair.monitor():
            pair.arrived({"f": content}, timeout=30)
    pair.no_messages()


def test_incoming_on_another_filesystem_loses_the_data(sshd: PrivateSshd, scratch: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == scratch.stat().st_dev:
        pytest.skip("there is no second filesystem to write to")
    pair = Pair(scratch, sshd)
    place = shm / f"mistamover-{os.getpid()}"
    place.mkdir()
    try:
        pair.data.rmdir()
        pair.data.symlink_to(place)
        with pair.monitor(), agent_of(pair.here):
            pair.drop(FILES)
            pair.arrived(FILES)
        assert not [n for n in os.listdir(place) if n.startswith(".")]
    finally:
        for directory, _, files in os.walk(place, topdown=False):
            for name in files:
                os.unlink(os.path.join(directory, name))
            os.rmdir(directory)
    pair.no_messages()


def test_a_chain_of_three_one_of_them_killed_and_started_again(sshd: PrivateSshd, scratch: Path) -> None:
    """A delivers to B, B to C, with receipts on both hops; B dies in between."""
    (scratch / "c").mkdir()
    end = Site(scratch / "c", sshd)
    incoming = scratch / "c" / "incoming" / "one"
    end.add(
        "one",
        incoming={"require_arrival_monitor": True, "directory": incoming},
        outgoing={"transfer_protocol": "none"},
    )
    incoming.mkdir()
    pair = Pair(scratch, sshd)
    pair.there.add(
        "one",
        data_stream=dict(QUICK),
        incoming={"require_arrival_monitor": True, "directory": pair.incoming},
        outgoing={
            "target_uses_arrival_monitor": True,
            "target_dir": incoming,
            "receipt_file_poll_interval": 0.2,
            "checksum_algorithm": "sha256",
        },
    )
    promised: dict[bytes, str | bytes] = {}

    def all_there() -> bool:
        found = laws.contents(end.directory / "data/one")
        return all(found.get(name) == content for name, content in promised.items())

    last = start(end)
    try:
        with agent_of(pair.here):
            for number in range(3):
                middle = start(pair.there)
                try:
                    wait_until(lambda: pair.monitor_pid() is not None, 20, "the middle is up")
                    for file in range(100):
                        name = f"{number}/f{file}"
                        promised[name.encode()] = laws.put(pair.one.source / name, os.urandom(200))
                    wait_until(lambda: len(laws.contents(end.directory / "data/one")) > 10, 30, "something is through")
                finally:
                    middle.kill()
                    end_all(pair.there)
            middle = start(pair.there)
            wait_until(all_there, 60, "all is at the end")
            wait_until(lambda: not any(f for _, _, f in os.walk(pair.one.source)), 30, "nothing is left here")
            wait_until(lambda: not any(f for _, _, f in os.walk(pair.data)), 30, "nothing is left in the middle")
        pair.no_messages()
        assert middle.stop(30) == 0
    finally:
        last.kill()
        end_all(end)
        end_all(pair.there)


def test_a_directory_that_travels_as_a_zip_has_a_receipt(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd)
    pair.one = pair.here.add(
        "one",
        data_stream={**QUICK, "transfer_unit": "directory"},
        outgoing={"target_uses_arrival_monitor": True, "target_dir": pair.incoming, "always_zip": True},
    )
    with pair.monitor():
        with agent_of(pair.here):
            laws.put(scratch / "prepared/unit/sub/f", b"content")
            (scratch / "prepared/unit").rename(pair.one.source / "unit")
            wait_until(lambda: (pair.data / "unit.zip").exists(), 20, "it has come")
            wait_until(lambda: not (pair.one.source / "unit").exists(), 20, "it has gone")
        pair.no_messages()
    with zipfile.ZipFile(pair.data / "unit.zip") as archive:
        assert archive.read("unit/sub/f") == b"content"
    assert pair.books() == ([b"unit.zip"], [b"unit.zip"])

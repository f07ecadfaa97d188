"""Arrival monitors among peers, operators and disks that do what they must not: no receipt without the data on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import secrets
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import laws
from agents import agent_of, end_all, master_report, start, stream_pid, until_up
from integration.test_handshake import Pair
from mistamover.config.settings import MonitorSettings
from mistamover.errors import LedgerError
from mistamover.handshake import lists, messages
from mistamover.handshake.lists import ControlList
from mistamover.handshake.messages import Checksum, Control
from mistamover.handshake.monitor import Monitor
from mistamover.handshake.receipts import GIVEN, Book, Intent
from mistamover.testing.sshd import PrivateSshd
from small_disks import SmallDisk, mounted
from support import wait_until

CTRL, THANKS = ".stager-ctrl-bss", ".stager-thanks-bss"
NOW = 2_000_000_000.0
"""Later than the files of the test: everything is ripe."""


def sha256(content: bytes) -> Checksum:
    return Checksum(algorithm="sha256", digest=hashlib.sha256(content).hexdigest())


class Place:
    """A monitor without its process, and what a peer does to its incoming directory."""

    def __init__(self, top: Path, book: Path | None = None) -> None:
        self.incoming, self.data = top / "incoming", top / "data"
        for directory in (self.incoming, self.data):
            directory.mkdir(exist_ok=True)
        settings = MonitorSettings(
            directory=self.incoming,
            control_suffix=CTRL,
            thanks_suffix=THANKS,
            stop_file=".stop",
            receipt_retention=7 * 86400.0,
        )
        self.book = Book(book or top / GIVEN)
        self.monitor = Monitor(settings, self.data, self.book)
        self.monitor.start()

    def announce(self, item: bytes, content: bytes, *, listed: bool) -> str:
        """Put a control file, by itself or as a list; return the name of its receipt."""
        if listed:
            receipt = b".mistamover-list-00.1.00.rcpt"
            entry = lists.Entry(name=item, size=len(content), checksum=sha256(content))
            whole, name = lists.compose_control(ControlList(receipt=receipt, entries=(entry,))), b"mistamover-list-00"
        else:
            receipt, name = b"." + item + b".1.00.rcpt", item
            checksum = Checksum(algorithm="md5", digest=hashlib.md5(content).hexdigest())
            control = Control(item=item, size=len(content), checksum=checksum, receipt=receipt)
            whole = messages.compose_control(control)
        laws.put(os.fsencode(self.incoming) + b"/." + name + CTRL.encode(), whole)
        return receipt.decode()

    def look(self, now: float = NOW) -> None:
        """Look at everything that is there."""
        self.monitor.note(os.listdir(os.fsencode(self.incoming)))
        self.monitor.round(now)

    def receipt(self) -> bytes:
        """Return the only receipt; empty if there is none."""
        found = [path.read_bytes() for path in self.incoming.glob(".*rcpt")]
        assert len(found) <= 1
        return found[0] if found else b""

    def says_delivered(self, item: bytes) -> bool:
        """Whether a receipt says that an item has arrived."""
        content = self.receipt()
        if content.startswith(b"_start_mistamover"):
            return all(answer.name != item for answer in lists.parse_receipt(content).wrong)
        return bool(content) and messages.parse_receipt(content).status is messages.Status.OK


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.monitor.stop()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    """A filesystem of its own for the data directory."""
    (tmp_path / "data").mkdir()
    with mounted(tmp_path / "data") as disk:
        yield disk


both_kinds = pytest.mark.parametrize("listed", [False, True], ids=["single", "list"])


# -- disks ------------------------------------------------------------------------------------


@both_kinds
def test_a_full_disk_and_an_operator_who_clears_the_incoming_directory(
    small: SmallDisk, place: Place, listed: bool
) -> None:
    """`rm incoming/*` leaves the control file, which is no proof that its data were delivered."""
    content = os.urandom(3_000_000)
    small.leave(1)
    (place.incoming / "f").write_bytes(content)
    place.announce(b"f", content, listed=listed)
    place.look()
    assert not place.says_delivered(b"f")
    assert list(place.data.iterdir()) == [small.ballast], "half of it has been left"
    (place.incoming / "f").unlink()
    for path in place.incoming.glob(".*rcpt"):
        path.unlink()
    place.announce(b"f", content, listed=listed)
    place.look()
    assert not place.says_delivered(b"f")
    if listed:
        (answer,) = lists.parse_receipt(place.receipt()).wrong
        assert answer.status is messages.Status.NO_SUCH_FILE
        (place.incoming / ".mistamover-list-00.1.00.rcpt").unlink()
    small.leave(8)
    (place.incoming / "f").write_bytes(content)
    place.announce(b"f", content, listed=listed)
    place.look()
    assert place.says_delivered(b"f")
    assert (place.data / "f").read_bytes() == content


@both_kinds
def test_a_read_only_data_directory(small: SmallDisk, place: Place, listed: bool) -> None:
    (place.incoming / "f").write_bytes(b"content")
    place.announce(b"f", b"content", listed=listed)
    subprocess.run(["mount", "-o", "remount,ro", small.path], check=True)
    place.look()
    assert not place.says_delivered(b"f")
    assert (place.incoming / "f").exists()
    subprocess.run(["mount", "-o", "remount,rw", small.path], check=True)
    for path in place.incoming.glob(".*rcpt"):
        path.unlink()
    place.announce(b"f", b"content", listed=listed)
    place.look()
    assert place.says_delivered(b"f")


def test_a_directory_on_a_full_disk_does_not_cost_the_one_before(small: SmallDisk, place: Place) -> None:
    for number, size in enumerate((1_000_000, 3_000_000)):
        content = os.urandom(size)
        laws.put(place.incoming / "unit/f", content)
        small.leave(2 - number)
        entries_hash = _tree_hash(place.incoming, b"unit")
        control = Control(item=b"unit", size=size, checksum=entries_hash, receipt=b".unit.%d.00.rcpt" % number)
        laws.put(place.incoming / f".unit{CTRL}", messages.compose_control(control))
        place.look()
        if number == 0:
            first = content
    assert (place.data / "unit/f").read_bytes() == first
    assert (place.incoming / "unit/f").stat().st_size == 3_000_000
    assert sorted(path.name for path in place.data.iterdir()) == ["ballast", "unit"]


def _tree_hash(root: Path, name: bytes) -> Checksum:
    from mistamover.files import digests
    from mistamover.watch.scan import manifest

    entries = manifest(os.fsencode(root), name)
    digest, _ = digests.of_tree(os.fsencode(root), name, entries, "sha256")
    return Checksum(algorithm="sha256", digest=digest, tree=True)


def test_no_room_for_the_book(small: SmallDisk, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    place = Place(tmp_path / "elsewhere", book=small.path / GIVEN)
    try:
        list(place.book.entries())
        small.leave(0)
        (place.incoming / "f").write_bytes(b"content")
        place.announce(b"f", b"content", listed=False)
        with pytest.raises(LedgerError):
            place.look()
        assert not place.says_delivered(b"f")
        small.leave(8)
        place.look(NOW + 20)
        assert place.says_delivered(b"f")
    finally:
        place.monitor.stop()


# -- crashes ----------------------------------------------------------------------------------


@both_kinds
@pytest.mark.parametrize("found", ["nothing", "half", "zeros", "whole"])
def test_what_was_about_to_be_delivered_before_a_crash(place: Place, listed: bool, found: str) -> None:
    """After a loss of power the rename or the content may not be there: only what is whole has a receipt."""
    content = b"content" * 1000
    checksum = str(sha256(content)) if listed else hashlib.md5(content).hexdigest()
    noted = b".mistamover-list-00.stager-ctrl-bss" if listed else b"f"
    place.book.intend([Intent(name=noted, size=len(content), checksum=checksum, mtime_ns=5)])
    there = {"half": content[:3500], "zeros": bytes(len(content)), "whole": content}
    if found in there:
        (place.data / "f").write_bytes(there[found])
    place.announce(b"f", content, listed=listed)
    place.look()
    assert place.says_delivered(b"f") is (found == "whole")
    assert len(list(place.book.entries())) == (found == "whole")


# -- peers ------------------------------------------------------------------------------------


@both_kinds
@pytest.mark.parametrize("item", [b".stop", b".g.stager-ctrl-bss", b".g.stager-thanks-bss", b".mistamover-arrivals"])
def test_what_is_never_data_is_not_delivered(place: Place, listed: bool, item: bytes) -> None:
    """A stop file in the stream's directory would stop the stream."""
    laws.put(os.fsencode(place.incoming) + b"/" + item, b"content")
    place.announce(item, b"content", listed=listed)
    place.look()
    assert not os.listdir(place.data)
    assert not place.says_delivered(item)


def lists_of_a_villain() -> Iterator[bytes]:
    good = str(sha256(b"victim"))
    receipt = b".mistamover-list-x.1.00.rcpt"
    begin, end = b"_start_mistamover_ctrl_list_\n", b"_end_mistamover_ctrl_list_\n"
    for name in (b"../victim", b"/etc/passwd", b"a/../../victim", b"vic\0tim", b"", b".", b"d//f", b"d/", b"x" * 256):
        yield begin + receipt + b"\n6 " + good.encode() + b" " + name + b"\n" + end
    for wanted in (b"../victim", b"victim", b"/tmp/victim", b".victim", b".mistamover-list-/../victim", b"a\0b"):
        yield begin + wanted + b"\n6 " + good.encode() + b" victim\n" + end
    line = b"6 %s " % good.encode()
    yield begin + receipt + b"\n" + b"".join(line + b"n%d\n" % n for n in range(20_002)) + end
    yield begin + receipt + b"\n" + line + b"victim\n" + line + b"victim\n" + end
    yield begin + receipt + b"\n" + line + b"victim\n"
    yield begin + receipt + b"\n" + line + b"victim\n" + end[:-1]
    yield begin + receipt + b"\n6 victim\n" + end
    yield begin + receipt + b"\n-6 " + good.encode() + b" victim\n" + end
    yield begin + receipt + b"\n6 sha256:12 victim\n" + end
    yield begin + end
    yield begin
    yield begin + b"x" * (17 << 20)


@pytest.mark.parametrize("depth", [10, 1_100, 1_000_000])
def test_paths_of_any_depth_harm_nobody(place: Place, depth: int) -> None:
    name = b"d/" * depth + b"f"
    place.announce(name, b"content", listed=True)
    if depth < 2_000:
        subprocess.run(["mkdir", "-p", name.rpartition(b"/")[0]], cwd=place.incoming, check=True)
        laws.put(os.fsencode(place.incoming) + b"/" + name, b"content")
    place.look()
    place.look(NOW + 20)
    assert place.says_delivered(name) is (depth < 2_000)
    subprocess.run(["rm", "-rf", place.incoming, place.data], check=True)


def test_hostile_lists_touch_nothing(place: Place) -> None:
    for victim in (place.incoming.parent / "victim", place.data / "victim", place.incoming / "victim"):
        victim.write_bytes(b"victim")
    (place.incoming / "d").symlink_to(place.incoming.parent)
    before = {path: path.lstat().st_ino for path in place.incoming.parent.rglob("victim")}
    number = 0
    for number, content in enumerate(lists_of_a_villain()):
        laws.put(place.incoming / f".mistamover-list-{number}{CTRL}", content)
    os.mkfifo(place.incoming / f".mistamover-list-fifo{CTRL}")
    (place.incoming / f".mistamover-list-link{CTRL}").symlink_to(place.incoming.parent / "victim")
    (place.incoming / f".mistamover-list-directory{CTRL}").mkdir()
    place.look()
    place.look(NOW + 20)
    assert number > 20
    assert {path: path.lstat().st_ino for path in place.incoming.parent.rglob("victim")} == before
    assert os.listdir(place.data) == ["victim"]
    assert sorted(os.listdir(place.incoming)) == [f".mistamover-list-directory{CTRL}", "d", "victim"]
    assert not list(place.book.entries())
    # By a good list through a link that leads out: answered, and not followed.
    place.announce(b"d/victim", b"victim", listed=True)
    place.look()
    assert not place.says_delivered(b"d/victim")
    assert {path: path.lstat().st_ino for path in place.incoming.parent.rglob("victim")} == before


def test_thanks_for_what_is_no_receipt_or_the_receipt_of_another(place: Place) -> None:
    (place.incoming / "f").write_bytes(b"content")
    receipt = place.announce(b"f", b"content", listed=False)
    place.look()
    for number, name in enumerate((b".precious", b".f.1.00.rcpt", b"../x", b".", b"")):
        laws.put(place.incoming / f".t{number}{THANKS}", messages.compose_thanks(name))
    (place.incoming / ".precious").write_bytes(b"data")
    place.look()
    place.look(NOW + 20)
    assert os.listdir(place.incoming) == [".precious"]
    # Who has not seen his receipt asks again, and has another one; it is not delivered a second time.
    (place.data / "f").unlink()
    place.announce(b"f", b"content", listed=False)
    place.look(NOW + 40)
    assert (place.incoming / receipt).exists()
    assert not os.listdir(place.data)


@both_kinds
@pytest.mark.parametrize("moment", [0, 1, 2**31, 4_000_000_000])
@pytest.mark.parametrize("clock", [1_000.0, NOW, 2e10])
def test_times_of_the_past_and_of_the_future(place: Place, listed: bool, moment: int, clock: float) -> None:
    """A clock that was wrong, there or here, delays nothing that is whole, and no receipt is lost by it at once."""
    (place.incoming / "f").write_bytes(b"content")
    os.utime(place.incoming / "f", (moment, moment))
    place.announce(b"f", b"content", listed=listed)
    for path in place.incoming.glob(f".*{CTRL}"):
        os.utime(path, (moment, moment))
    place.look(clock)
    assert place.says_delivered(b"f")
    assert (place.data / "f").stat().st_mtime == moment


# -- as processes -----------------------------------------------------------------------------


def test_the_data_directory_is_full_for_a_while(sshd: PrivateSshd, scratch: Path) -> None:
    """On a disk of its own, with both agents: nobody is blamed, and all of it comes when there is room."""
    pair = Pair(scratch, sshd, checksum_algorithm="sha256")
    with mounted(pair.data) as disk, pair.monitor(), agent_of(pair.here):
        disk.leave(2)
        files = {f"d/f{number}": os.urandom(400_000) for number in range(12)}
        pair.drop(files)
        wait_until(lambda: laws.snapshot(pair.here, pair.one).get("state") == "UNREACHABLE", 20, "it waits")
        promised = {os.fsencode(name): laws.digest(content) for name, content in files.items()}
        kept = {**laws.contents(pair.data), **laws.contents(pair.one.source)}
        assert {name: kept.get(name) for name in promised} == promised
        assert "input or output error" in str(laws.snapshot(pair.here, pair.one)["hold"])
        disk.leave(12)
        disk.ballast.unlink()
        pair.arrived(files, timeout=40)
        assert laws.of(pair.here, pair.one)["in_quarantine"] == 0


def test_directories_that_go_away_and_come_back(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd, checksum_algorithm="sha256")
    with pair.monitor(), agent_of(pair.here):
        pid = pair.monitor_pid()
        pair.data.rename(scratch / "away")
        pair.drop({"f": b"content"})
        wait_until(lambda: "cannot be delivered" in laws.logs(pair.there), 20, "it cannot be delivered")
        assert (pair.one.source / "f").exists()
        (scratch / "away").rename(pair.data)
        pair.arrived({"f": b"content"}, timeout=30)
        pair.incoming.rename(scratch / "away")
        pair.incoming.mkdir()
        os.kill(pid or 0, signal.SIGHUP)
        pair.drop({"g": b"content"})
        pair.arrived({"g": b"content"}, timeout=30)
        assert pair.monitor_pid() == pid
    assert "Traceback" not in laws.logs(pair.there)


def test_one_directory_that_cannot_be_served_hides_no_other(sshd: PrivateSshd, scratch: Path) -> None:
    """Deeper than any path can be."""
    pair = Pair(scratch, sshd)
    handle = os.open(pair.incoming, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=handle)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(handle)
    content = b"content"
    for name in ("a", "z"):
        laws.put(pair.incoming / name / "f", content)
        control = Control(
            item=b"f",
            size=7,
            checksum=Checksum(algorithm="md5", digest=hashlib.md5(content).hexdigest()),
            receipt=b".f.1.00.rcpt",
        )
        laws.put(pair.incoming / name / f".f{CTRL}", messages.compose_control(control))
    with pair.monitor():
        wait_until(lambda: (pair.data / "a/f").exists() and (pair.data / "z/f").exists(), 10, "both are delivered")
        wait_until(lambda: "cannot be read" in laws.logs(pair.there), 10, "it is told")
    assert laws.logs(pair.there).count("nothing in it is taken") == 1
    subprocess.run(["rm", "-rf", pair.incoming], check=True)


def test_a_control_file_that_was_taken_away_does_not_wait_for_ever(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd)
    control = Control(item=b"f", size=7, checksum=sha256(b"content"), receipt=b".f.1.00.rcpt")
    laws.put(pair.incoming / f".f{CTRL}", messages.compose_control(control))
    with pair.monitor() as agent:
        wait_until(lambda: "0 delivered, 1 wait" in pair.there.ask("status").stdout, 10, "it waits", every=0.2)
        (pair.incoming / f".f{CTRL}").unlink()
        os.kill(pair.monitor_pid() or agent.pid, signal.SIGHUP)
        wait_until(lambda: "0 delivered, 0 wait" in pair.there.ask("status").stdout, 10, "nothing waits", every=0.2)


def test_why_says_what_is_waited_for(sshd: PrivateSshd, scratch: Path) -> None:
    """By stream and name, by path, and by the control file; before, while and after it comes."""
    pair = Pair(scratch, sshd)
    whole = b"content"

    def why(path: Path | str, words: str, code: int = 0) -> None:
        said = pair.there.ask("why", str(path))
        assert words in said.stdout + said.stderr, said
        assert said.returncode == code

    control = Control(item=b"f", size=7, checksum=sha256(whole), receipt=b".f.1.00.rcpt")
    laws.put(pair.incoming / f".f{CTRL}", messages.compose_control(control))
    why(pair.incoming / "f", "WAIT: it is not taken in yet: no process serves the arrivals of this stream")
    why(pair.incoming / "other", "nothing is known of it", 1)
    why(pair.incoming, "is where others deliver to stream one", 2)
    with pair.monitor():
        for path in ("one:f", pair.data / "f", pair.incoming / "f", pair.incoming / f".f{CTRL}"):
            why(path, "WAIT: it is not taken in yet: f: the data are not there yet.")
        (pair.incoming / "g").write_bytes(b"x")
        why("one:g", "no control file has come for it")
        (pair.incoming / ".f.AbCdEf").write_bytes(whole)
        (pair.incoming / ".f.AbCdEf").rename(pair.incoming / "f")
        wait_until(lambda: (pair.data / "f").exists(), 10, "it is delivered")
        wait_until(lambda: not (pair.incoming / f".f{CTRL}").exists(), 10, "it has its receipt")
        (pair.data / "f").unlink()
        why("one:f", "TAKEN IN at ")
        answer = json.loads(pair.there.ask("why", "--json", "one:f").stdout)
        assert (answer["known"], answer["arrival"]["reason"]) == (True, None)
        assert answer["arrival"]["receipt_given_at"] > 1e9
        # A list that names it waits while its data cannot be delivered.
        (pair.data / "h").mkdir()
        (pair.incoming / "h").write_bytes(whole)
        control = Control(item=b"h", size=7, checksum=sha256(whole), receipt=b".h.1.00.rcpt")
        laws.put(pair.incoming / f".h{CTRL}", messages.compose_control(control))
        wait_until(lambda: "Is a directory" in pair.there.ask("why", "one:h").stdout, 10, "it says why", every=0.2)


def test_a_single_run_that_cannot_write_its_book_down_says_so(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd)
    laws.put(pair.incoming / "f", b"content")
    control = Control(item=b"f", size=7, checksum=sha256(b"content"), receipt=b".f.1.00.rcpt")
    laws.put(pair.incoming / f".f{CTRL}", messages.compose_control(control))
    state = pair.there.state / "streams/one"
    state.mkdir(parents=True)
    (state / GIVEN).write_bytes(b"this is no database" * 100)
    done = pair.there.one_off()
    assert done.returncode == 1
    assert "one: arrivals: 0 delivered, 0 wait; see " in done.stderr
    assert (pair.incoming / "f").exists()
    (state / GIVEN).unlink()
    done = pair.there.one_off()
    assert (done.returncode, done.stderr) == (0, "")
    assert "one: arrivals: 1 delivered, 0 wait" in done.stdout
    assert (pair.data / "f").exists()


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_both_ends_are_killed_again_and_again(sshd: PrivateSshd, scratch: Path, algorithm: str) -> None:
    """The stream, the monitor and the masters, at random moments; then every receipt fits its file and its seal."""
    seed = int(os.environ.get("MISTAMOVER_SEED") or secrets.randbelow(1 << 31))
    print(f"MISTAMOVER_SEED={seed}")
    chance = random.Random(seed)
    pair = Pair(scratch, sshd, checksum_algorithm=algorithm, retry_count=10)
    moment, promised = threading.Event(), {}
    agents = {site: start(site) for site in (pair.there, pair.here)}
    try:
        for number in range(8):
            files = {f"{number}/f{n}": chance.randbytes(500) for n in range(40)}
            promised |= files
            pair.drop(files)
            moment.wait(1.2 * chance.random())
            site = chance.choice((pair.there, pair.here))
            pid = pair.monitor_pid() if site is pair.there else stream_pid(site, "one")
            if chance.random() < 0.3:
                agents[site].kill()
                end_all(site)
                agents[site] = start(site)
            elif pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        pair.arrived(promised, timeout=90)
        wait_until(pair.monitor_pid, 40, "the monitor is up")
        until_up(pair.here, agents[pair.here], timeout=40)
        pid = agents[pair.there].pid
        wait_until(lambda: (last := master_report(pair.there)) and last.pid == pid, 40, "the receiver is up")
        for agent in agents.values():
            assert agent.stop(30) == 0
    finally:
        for site, agent in agents.items():
            agent.kill()
            end_all(site)
    for site in agents:
        verified = site.run("receipts", "verify", "-c", str(site.global_ini))
        assert verified.returncode == 0, verified.stdout + verified.stderr
    taken, given = pair.books()
    assert set(taken) <= set(given) == {name.encode() for name in promised}
    assert not laws.contents(pair.one.source)


def test_two_monitors_in_one_directory_are_refused(sshd: PrivateSshd, scratch: Path) -> None:
    pair = Pair(scratch, sshd)
    pair.there.add(
        "two",
        incoming={"require_arrival_monitor": True, "directory": pair.incoming},
        outgoing={"transfer_protocol": "none"},
    )
    refused = pair.there.one_off()
    assert refused.returncode == 2
    for word in ("ds_one.ini", "ds_two.ini", '"one"', str(pair.incoming)):
        assert word in refused.stderr

"""Sessions over one ssh that has logged in: what they carry, and how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.errors import LinkError, SessionRefused
from mistamover.links.link import OwnLink
from mistamover.links.mux import LOST, Session
from mistamover.testing.sshd import PrivateSshd
from support import TOP, wait_until
from unit.links.ways import living, login_to

MUCH = 10 << 20


class Shared:
    """An ssh that has logged in, and where its socket is."""

    def __init__(self, place: Path, server: PrivateSshd) -> None:
        self.directory = place
        self.link = OwnLink(login_to(server), place, name="c")
        self.link.open()
        self.socket = next(name for name in os.listdir(place) if name.startswith("c") and "." not in name)
        self.pid = int((place / "c.pid").read_text().split()[0])

    def run(self, command: str, *, subsystem: bool = False) -> Session:
        return Session(self.directory, f"./{self.socket}", command, subsystem=subsystem)


@pytest.fixture(scope="module")
def shared(sshd: PrivateSshd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """A connection that is not to be killed."""
    made = Shared(tmp_path_factory.mktemp("mux"), sshd)
    yield made
    made.link.close()


@pytest.fixture
def doomed(sshd: PrivateSshd, tmp_path: Path) -> Iterator[Shared]:
    """A connection that may be killed."""
    made = Shared(tmp_path / "run", sshd)
    yield made
    made.link.close()


@contextlib.contextmanager
def running(session: Session) -> Iterator[Session]:
    try:
        yield session
    finally:
        session.close()


def all_of(handle: int) -> bytes:
    """Read to the end."""
    return b"".join(iter(lambda: os.read(handle, 1 << 16), b""))


def test_output_errors_and_status_arrive_apart(shared: Shared) -> None:
    with running(shared.run("echo out; echo err >&2; exit 7")) as session:
        assert session.read_line(10) == b"out"
        assert session.read_line(10) is None
        assert session.last_words(10) == "err"
        assert session.wait(10) == 7
        assert session.poll() == 7
    assert session.poll() == 7, "still known after it is closed"


@pytest.mark.parametrize("status", [0, 1, 127, 254, 255])
def test_every_status_arrives(shared: Shared, status: int) -> None:
    with running(shared.run(f"exit {status}")) as session:
        assert session.wait(10) == status


def test_a_command_that_is_killed_by_a_signal_has_not_ended_well(shared: Shared) -> None:
    with running(shared.run("kill -9 $$")) as session:
        assert session.wait(10) not in (None, 0)


def test_a_command_that_does_not_end_is_waited_for_no_longer_than_asked(shared: Shared) -> None:
    with running(shared.run("exec cat")) as session:
        began = time.monotonic()
        assert session.poll() is None
        assert session.wait(0.2) is None
        assert session.read_line(0.2) is None
        assert session.last_words(0.2) == ""
        # It never ends: a wait without a bound would hang here.
        assert time.monotonic() - began > 0.5


def test_the_end_of_the_input_is_seen(shared: Shared) -> None:
    with running(shared.run("cat; echo end")) as session:
        session.write(b"line one\nline two\n")
        session.finish_input()
        session.finish_input()
        assert all_of(session.stdout) == b"line one\nline two\nend\n"
        assert session.wait(10) == 0


def test_bytes_are_not_looked_at(shared: Shared) -> None:
    """No escape character, no terminal."""
    data = b"\n~.\n~?\n\r\x03\x04\x1a\0" + bytes(range(256))
    with running(shared.run("exec cat")) as session:
        session.write(data)
        session.finish_input()
        assert all_of(session.stdout) == data


def test_a_subsystem_is_no_command(shared: Shared) -> None:
    with running(shared.run("sftp", subsystem=True)) as session:
        session.write(struct.pack(">IBI", 5, 1, 3))
        (size,) = struct.unpack(">I", _exactly(session.stdout, 4))
        kind, version = struct.unpack_from(">BI", _exactly(session.stdout, size))
        assert (kind, version) == (2, 3)


def test_an_unknown_subsystem_is_refused_or_ends(shared: Shared) -> None:
    try:
        session = shared.run("no-such-subsystem", subsystem=True)
    except LinkError:
        return
    with running(session):
        assert session.wait(10) not in (None, 0)


def _exactly(handle: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(handle, size - len(data))
        assert chunk
        data += chunk
    return data


def test_much_passes_in_both_directions_at_once(shared: Shared) -> None:
    data = os.urandom(MUCH)
    with running(shared.run("exec cat")) as session:

        def feed() -> None:
            session.write(data)
            session.finish_input()

        feeder = threading.Thread(target=feed)
        feeder.start()
        came = all_of(session.stdout)
        feeder.join(30)
        assert came == data
        assert session.wait(10) == 0


def test_who_takes_nothing_is_not_fed_for_ever(shared: Shared) -> None:
    with running(shared.run("exec sleep 20")) as session:
        with pytest.raises(TimeoutError):
            session.write(bytes(MUCH), timeout=0.5)
        assert session.poll() is None, "it was not waited for to its end"


def test_writing_to_a_command_that_has_ended_fails(shared: Shared) -> None:
    with running(shared.run("exit 3")) as session:
        assert session.wait(10) == 3
        with pytest.raises(OSError):
            session.write(bytes(MUCH), timeout=10)


def test_who_reads_meets_the_end_when_another_thread_aborts(shared: Shared) -> None:
    with running(shared.run("exec cat")) as session:
        threading.Timer(0.2, session.abort).start()
        assert session.read_line(10) is None
        assert session.wait(10) == LOST


def test_acts_at_the_end_are_done_once(shared: Shared) -> None:
    done: list[int] = []
    session = shared.run("exit 0")
    session.at_end(done.append, 1)
    session.at_end(done.append, 2)
    session.close()
    session.close()
    assert sorted(done) == [1, 2]
    assert (session.stdin, session.stdout, session.stderr) == (-1, -1, -1)


def test_no_descriptor_is_left_open(shared: Shared, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    theirs = len(os.listdir(f"/proc/{shared.pid}/fd"))
    for _ in range(5):
        shared.run("exec cat").close()
        with pytest.raises(LinkError):
            Session(tmp_path, "missing", "true")
    assert len(os.listdir("/proc/self/fd")) == before
    wait_until(lambda: len(os.listdir(f"/proc/{shared.pid}/fd")) <= theirs, 10, "ssh has closed its ends as well")


# -- who says no ------------------------------------------------------------------------------


def test_a_server_that_allows_no_further_session_is_told_from_a_lost_one(tmp_path: Path) -> None:
    with PrivateSshd(tmp_path / "sshd", options=["MaxSessions 1"]) as server:
        shared = Shared(tmp_path / "run", server)
        try:
            with running(shared.run("exec cat")) as session:
                before = len(os.listdir("/proc/self/fd"))
                with pytest.raises(SessionRefused, match="no further session"):
                    shared.run("true")
                assert len(os.listdir("/proc/self/fd")) == before
                session.write(b"well\n")
                assert session.read_line(10) == b"well"
        finally:
            shared.link.close()


def test_no_socket_nobody_behind_it_or_no_directory(tmp_path: Path) -> None:
    for directory, name in ((tmp_path, "missing"), (tmp_path / "missing", "x")):
        with pytest.raises(LinkError):
            Session(directory, name, "true")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(tmp_path / "dead"))
    with pytest.raises(LinkError):
        Session(tmp_path, "dead", "true")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LinkError):
        Session(tmp_path, "file", "true")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0\0",
        b"\xff" * 64,
        struct.pack("!II", 4, 7),
        struct.pack("!III", 8, 1, 4),
        struct.pack("!III", 8, 1, 4) + struct.pack("!II", 4, 0x80000002),
        struct.pack("!III", 8, 1, 4) + struct.pack("!IIII", 12, 0x80000003, 1, 1 << 30),
    ],
)
def test_who_is_no_ssh_is_found_out(tmp_path: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(tmp_path / "other"))
        listener.listen()

        def play() -> None:
            client, _ = listener.accept()
            with client:
                client.sendall(answer)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(10)
                with contextlib.suppress(OSError):
                    while client.recv(4096):
                        pass

        player = threading.Thread(target=play)
        player.start()
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(LinkError):
            Session(tmp_path, "other", "true")
        player.join(10)
        assert len(os.listdir("/proc/self/fd")) <= before


def test_the_length_of_the_directory_does_not_matter(sshd: PrivateSshd, tmp_path: Path) -> None:
    deep = tmp_path / "/".join(["d" * 60] * 4)
    shared = Shared(deep, sshd)
    try:
        with running(shared.run("echo here")) as session:
            assert session.read_line(10) == b"here"
    finally:
        shared.link.close()


# -- ends -------------------------------------------------------------------------------------


def test_when_ssh_is_killed_every_session_is_lost(doomed: Shared) -> None:
    sessions = [doomed.run("exec cat") for _ in range(3)]
    try:
        os.kill(doomed.pid, signal.SIGKILL)
        assert [session.wait(10) for session in sessions] == [LOST] * 3
        assert sessions[0].read_line(10) is None
        assert sessions[1].last_words(10) == ""
        with pytest.raises(OSError):
            sessions[2].write(bytes(MUCH), timeout=10)
        with pytest.raises(LinkError):
            doomed.run("true")
        wait_until(lambda: not doomed.link.alive, 10, "ssh has ended")
    finally:
        for session in sessions:
            session.close()


def test_when_the_server_is_gone_every_session_is_lost(private_sshd: PrivateSshd, tmp_path: Path) -> None:
    shared = Shared(tmp_path / "run", private_sshd)
    try:
        with running(shared.run("exec cat")) as session:
            assert private_sshd.kill_sessions()
            assert session.wait(10) == LOST
            wait_until(lambda: not shared.link.alive, 10, "ssh ends")
    finally:
        shared.link.close()


_CLIENT = """
import sys, time
from pathlib import Path
from mistamover.links.mux import Session
session = Session(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
print(session.read_line(20).decode(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("command", ["echo $$; exec cat", "echo $$; while echo x; do sleep 0.05; done"])
def test_the_far_command_ends_with_the_process_that_asked_for_it(shared: Shared, command: str) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, shared.directory, f"./{shared.socket}", command],
        env={**os.environ, "PYTHONPATH": str(TOP / "lib")},
        stdout=subprocess.PIPE,
    )
    try:
        assert client.stdout is not None
        far = int(client.stdout.readline())
        assert living(far)
    finally:
        client.kill()
        client.wait()
        assert client.stdout is not None
        client.stdout.close()
    wait_until(lambda: not living(far), 10, "the far command has ended")
    with running(shared.run("echo well")) as session:
        assert session.read_line(10) == b"well", "the connection and the others go on"

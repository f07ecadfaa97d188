"""The process that keeps connections, as streams meet it: with a real server behind it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mistamover.errors import LinkError
from mistamover.links import messages
from mistamover.links.link import start
from mistamover.links.messages import Answer
from mistamover.links.mux import LOST, Session
from mistamover.links.process import end
from mistamover.links.shared import SharedLink, Turn, is_kept
from mistamover.links.turns import Request
from mistamover.testing.sshd import PrivateSshd
from mistamover.transport.rsync_run import REFUSED
from support import wait_until
from unit.links.ways import Keeper, living, login_to


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A running one."""
    with Keeper(tmp_path) as made:
        yield made


def test_what_a_predecessor_left_that_was_killed_while_it_started_is_ended(sshd: PrivateSshd, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir(mode=0o700)
    orphan = start(login_to(sshd), tmp_path / "links", "./s1")
    try:
        with Keeper(tmp_path):
            assert orphan.wait(10) == -signal.SIGKILL
    finally:
        end(orphan)


@contextlib.contextmanager
def open_sessions(*links: SharedLink, each: int = 1) -> Iterator[list[Session]]:
    """Open so many sessions of each link, all of which answer; close them at the end."""
    sessions: list[Session] = []
    try:
        for link in links:
            sessions += [link.session("exec cat") for _ in range(each)]
        for session in sessions:
            echo(session)
        yield sessions
    finally:
        for session in sessions:
            session.close()


def echo(session: Session) -> None:
    """A session answers."""
    session.write(b"well\n")
    assert session.read_line(20) == b"well"


def turn(stream: str, *, target: str = "t", weight: float = 1, cost: float = 1) -> Request:
    return Request(target=target, stream=stream, weight=weight, cost=cost)


# -- connections ------------------------------------------------------------------------------


def test_two_who_ask_share_one_connection(keeper: Keeper, sshd: PrivateSshd) -> None:
    with open_sessions(keeper.link(login_to(sshd)), keeper.link(login_to(sshd)), each=3):
        assert len(keeper.connections()) == 1


def test_two_who_ask_while_it_is_still_connecting_share_it(keeper: Keeper, sshd: PrivateSshd) -> None:
    links = [keeper.link(login_to(sshd)) for _ in range(5)]
    threads = [threading.Thread(target=link.open) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with open_sessions(*links):
        assert len(keeper.connections()) == 1


def test_who_logs_in_in_another_way_has_another_connection(keeper: Keeper, sshd: PrivateSshd) -> None:
    with open_sessions(keeper.link(login_to(sshd)), keeper.link(login_to(sshd, ciphers="aes256-ctr"))):
        assert len(keeper.connections()) == 2


def test_the_eleventh_session_has_a_second_connection(keeper: Keeper, sshd: PrivateSshd) -> None:
    link = keeper.link(login_to(sshd))
    with open_sessions(link, each=10):
        assert len(keeper.connections()) == 1
        with open_sessions(link):
            assert len(keeper.connections()) == 2


def test_closing_gives_the_place_back(keeper: Keeper, sshd: PrivateSshd) -> None:
    link = keeper.link(login_to(sshd))
    for _ in range(4):
        with open_sessions(link, each=10):
            assert len(keeper.connections()) == 1
        # The holder hears of the closing, in order, before it hears the next question.


def test_a_stream_that_is_killed_gives_its_places_back(keeper: Keeper, sshd: PrivateSshd) -> None:
    login = login_to(sshd)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            asking = [messages.ask(keeper.directory, login) for _ in range(10)]
            answers = [messages.answer(each, 30) for each in asking if each is not None]
            if len(answers) == 10:
                os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    with open_sessions(keeper.link(login), each=10):
        assert len(keeper.connections()) == 1


@pytest.mark.parametrize("most", [1, 3])
def test_a_server_that_allows_fewer_sessions_is_believed(keeper: Keeper, tmp_path: Path, most: int) -> None:
    with PrivateSshd(tmp_path / "sshd", options=[f"MaxSessions {most}"]) as server:
        link = keeper.link(login_to(server))
        with open_sessions(link, each=2 * most):
            assert len(keeper.connections()) == 2
            with open_sessions(link):
                assert len(keeper.connections()) == 3
            # None that is full is tried a second time.
            assert server.log.read_text(errors="replace").count("no more sessions") <= 2


def rsync(link: SharedLink, keeper: Keeper, place: Path, number: int) -> subprocess.CompletedProcess[bytes]:
    """Send one of the files by rsync over a shared connection."""
    with link.rsync_shell() as shell:
        return subprocess.run(
            ["rsync", "-e", shell, place / f"file{number}", f"127.0.0.1:{place / 'target'}/"],
            cwd=keeper.run_dir,
            capture_output=True,
            timeout=30,
            check=False,
        )


@pytest.mark.parametrize("slow_login", [False, True])
@pytest.mark.parametrize("most", [1, 2])
def test_rsync_finds_a_place_where_sessions_are_few(
    keeper: Keeper, tmp_path: Path, most: int, slow_login: bool
) -> None:
    (tmp_path / "target").mkdir()
    with PrivateSshd(tmp_path / "sshd", options=[f"MaxSessions {most}"]) as server:
        if slow_login:
            (server.home / ".bashrc").write_text("sleep 0.3\n")
        link = keeper.link(login_to(server))
        with open_sessions(link):
            for number in range(3):
                (tmp_path / f"file{number}").write_bytes(b"x")
                done = rsync(link, keeper, tmp_path, number)
                for _ in range(10):
                    # A session that was tried before counts until sshd has come round to forgetting it.
                    if REFUSED not in done.stderr:
                        break
                    done = rsync(link, keeper, tmp_path, number)
                assert done.returncode == 0, done.stderr
    assert len(os.listdir(tmp_path / "target")) == 3


def test_an_unused_connection_ends_after_a_while(tmp_path: Path, sshd: PrivateSshd) -> None:
    with Keeper(tmp_path, idle=0.5) as keeper:
        link = keeper.link(login_to(sshd))
        with open_sessions(link):
            (first,) = keeper.connections()
            threading.Event().wait(1.2)
            assert keeper.connections() == [first], "not while it is used"
        wait_until(lambda: not keeper.connections(), 10, "it has ended")
        with open_sessions(link):
            assert keeper.connections() != [first]


def test_a_connection_that_is_used_again_in_time_stays(tmp_path: Path, sshd: PrivateSshd) -> None:
    with Keeper(tmp_path, idle=1.0) as keeper:
        link = keeper.link(login_to(sshd))
        with open_sessions(link):
            (first,) = keeper.connections()
        with open_sessions(link) as sessions:
            threading.Event().wait(1.5)
            echo(sessions[0])
            assert keeper.connections() == [first]


# -- logins that fail -------------------------------------------------------------------------


def test_a_login_that_fails_is_answered_with_the_reason_and_a_hint(keeper: Keeper, private_sshd: PrivateSshd) -> None:
    private_sshd.stop()
    link = keeper.link(login_to(private_sshd))
    with pytest.raises(LinkError, match=r"cannot connect to 127\.0\.0\.1: .*refused.*is sshd running"):
        link.open()
    private_sshd.start()
    with open_sessions(link):
        assert len(keeper.connections()) == 1


def test_the_one_who_keeps_connections_survives_many_failing_logins(keeper: Keeper, private_sshd: PrivateSshd) -> None:
    """A descriptor that was closed comes again under the same number."""
    private_sshd.stop()
    link = keeper.link(login_to(private_sshd))
    for _ in range(6):
        with pytest.raises(LinkError, match="refused"):
            link.open()
    private_sshd.start()
    with open_sessions(link, keeper.link(login_to(private_sshd, ciphers="aes256-ctr"))):
        assert len(keeper.connections()) == 2
    assert "Traceback" not in keeper.said()


def test_all_who_wait_for_a_login_hear_that_it_failed(keeper: Keeper) -> None:
    login = login_to(None)
    asking = [messages.ask(keeper.directory, login) for _ in range(4)]
    for each in asking:
        assert each is not None
        with each:
            answer = messages.answer(each, 20)
            assert answer is not None and "refused" in answer.error and not answer.socket


def test_a_server_that_says_nothing_is_given_up(keeper: Keeper, private_sshd: PrivateSshd) -> None:
    login = dataclasses.replace(login_to(private_sshd, connect_timeout=30), patience=1.5)
    private_sshd.pause()
    try:
        asking, answer = keeper.ask(login, timeout=15)
        with asking:
            assert answer is not None and "no answer" in answer.error
        wait_until(lambda: not keeper.connections(), 10, "the attempt is ended")
    finally:
        private_sshd.resume()


def test_who_does_not_wait_for_the_login_harms_nobody(keeper: Keeper, private_sshd: PrivateSshd) -> None:
    login = login_to(private_sshd)
    private_sshd.pause()
    try:
        for _ in range(3):
            keeper.send(messages.question(login)).close()
    finally:
        private_sshd.resume()
    with open_sessions(keeper.link(login)):
        assert len(keeper.connections()) == 1


def test_without_ssh_the_answer_says_what_to_install(keeper: Keeper, sshd: PrivateSshd) -> None:
    with pytest.raises(LinkError, match="openssh-client"):
        keeper.link(login_to(sshd, ssh=("no-such-ssh",))).open()
    with open_sessions(keeper.link(login_to(sshd))):
        pass


# -- losses -----------------------------------------------------------------------------------


def test_when_it_is_killed_sessions_are_lost_and_nobody_is_there(keeper: Keeper, sshd: PrivateSshd) -> None:
    link = keeper.link(login_to(sshd))
    with open_sessions(link, each=2) as sessions:
        assert is_kept(keeper.directory)
        (connection,) = keeper.connections()
        keeper.process.kill()
        assert [session.wait(10) for session in sessions] == [LOST, LOST]
        wait_until(lambda: not living(connection.pid), 10, "its connection has ended with it")
        assert not is_kept(keeper.directory)
        with pytest.raises(LinkError, match="gone"):
            link.session("true")
        assert messages.ask(keeper.directory, turn("a")) is None
        assert Turn.ask(keeper.directory, turn("a")) is None


def test_who_waits_when_it_is_killed_hears_of_it(keeper: Keeper, private_sshd: PrivateSshd) -> None:
    private_sshd.pause()
    try:
        link = keeper.link(login_to(private_sshd))
        threading.Timer(0.5, keeper.process.kill).start()
        with pytest.raises(LinkError, match="gone"):
            link.open()
    finally:
        private_sshd.resume()


def test_when_it_is_asked_to_end_its_connections_end(keeper: Keeper, sshd: PrivateSshd) -> None:
    with open_sessions(keeper.link(login_to(sshd))) as sessions:
        (connection,) = keeper.connections()
        keeper.process.terminate()
        assert keeper.process.wait(10) == 0
        assert sessions[0].wait(10) == LOST
        assert not living(connection.pid)
    assert [name for name in os.listdir(keeper.directory) if name != "socket"] == []


def test_when_a_connection_is_killed_the_next_one_who_asks_gets_a_new_one(keeper: Keeper, sshd: PrivateSshd) -> None:
    one, other = keeper.link(login_to(sshd)), keeper.link(login_to(sshd, ciphers="aes256-ctr"))
    with open_sessions(one, each=2) as sessions, open_sessions(other) as others:
        (first,) = [c for c in keeper.connections() if "Ciphers=aes256-ctr" not in c.cmdline()]
        for _ in range(3):
            first.kill()
            assert sessions[-1].wait(10) == LOST
            with contextlib.suppress(LinkError):
                # The very moment after the loss: either told that it is lost, or a new one.
                one.session("true").close()
            sessions.append(one.session("exec cat"))
            echo(sessions[-1])
            (first,) = [c for c in keeper.connections() if "Ciphers=aes256-ctr" not in c.cmdline()]
        echo(others[0])
        assert len(keeper.connections()) == 2


# -- strangers --------------------------------------------------------------------------------

_LOGIN = json.loads(login_to(None).to_json())
_TURN = {"target": "t", "stream": "s", "weight": 1.0, "cost": 1.0}


def login_with(key: str, value: object) -> bytes:
    return json.dumps({"login": json.dumps({**_LOGIN, key: value})}).encode()


GARBAGE: dict[str, bytes] = {
    "bytes": b"\xff\xfe\0",
    "null": b"null",
    "a list": b'["login"]',
    "deep": b"[" * 60000,
    "deep inside": json.dumps({"login": "[" * 50000}).encode(),
    "long": b'{"login": "' + b"x" * 100000 + b'"}',
    "no program": login_with("program", []),
    "empty program": login_with("program", [""]),
    "numbers": login_with("program", [1]),
    "a directory": login_with("program", ["/"]),
    "no program at all": login_with("program", ["/etc/passwd"]),
    "options": login_with("options", [None]),
    "zero in options": login_with("options", ["a\0b"]),
    "zero in the host": login_with("host", "a\0b"),
    "host": login_with("host", 7),
    "surrogates": login_with("host", "\ud800"),
    "configuration": login_with("configuration", 7),
    "surrogates in the configuration": login_with("configuration", "\ud800"),
    "patience": login_with("patience", "long"),
    "no patience": login_with("patience", None),
    "endless patience": login_with("patience", float("inf")),
    "no time": login_with("patience", float("nan")),
    "options too long": login_with("options", ["x" * 60000]),
    "much of nothing": json.dumps({"turn": {**_TURN, "cost": "much"}}).encode(),
    "weight": json.dumps({"turn": {**_TURN, "weight": None}}).encode(),
    "no number": json.dumps({"turn": {**_TURN, "cost": float("nan")}}).encode(),
    "target": json.dumps({"turn": {**_TURN, "target": []}}).encode(),
    "stream": json.dumps({"turn": {**_TURN, "stream": {}}}).encode(),
}


@pytest.fixture(scope="module")
def asked_anything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    """One keeper that outlives every question."""
    with Keeper(tmp_path_factory.mktemp("keeper")) as made:
        yield made


@pytest.mark.parametrize("name", GARBAGE)
def test_a_question_that_makes_no_sense_does_no_harm(asked_anything: Keeper, name: str) -> None:
    keeper = asked_anything
    with contextlib.suppress(OSError), keeper.send(GARBAGE[name]) as asking:
        asking.settimeout(3)
        with contextlib.suppress(TimeoutError):
            asking.recv(messages.LONGEST)
    # It still answers others.
    asking, answer = keeper.ask(turn("a", target="after"), timeout=10)
    with asking:
        assert answer == Answer(turn=True)
    assert keeper.process.poll() is None
    assert "Traceback" not in keeper.said()


def test_strangers_who_say_nothing_hang_up_or_ask_again(keeper: Keeper, sshd: PrivateSshd) -> None:
    question = messages.question(login_to(sshd))
    silent = [keeper.send() for _ in range(50)]
    keeper.send().close()
    keeper.send(messages.FULL).close()
    keeper.send(question).close()
    keeper.send(question, messages.FULL).close()
    keeper.send(messages.question(turn("a")), messages.FULL).close()
    twice = keeper.send(question, question, messages.question(turn("a")), messages.question(turn("a")))
    try:
        with open_sessions(keeper.link(login_to(sshd)), each=3):
            pass
        twice.close()
        # Every turn was given back.
        asking = [keeper.ask(turn("b"), timeout=10) for _ in range(4)]
        try:
            assert [answer for _, answer in asking] == [Answer(turn=True)] * 4
        finally:
            for each, _ in asking:
                each.close()
    finally:
        for each in (*silent, twice):
            each.close()


def test_only_the_user_gets_in(keeper: Keeper) -> None:
    assert keeper.directory.stat().st_mode & 0o777 == 0o700


# -- turns ------------------------------------------------------------------------------------


class Turning:
    """Turns that are asked for in a test, and given up at its end."""

    def __init__(self, keeper: Keeper) -> None:
        self._directory = keeper.directory
        self._all: list[Turn] = []

    def ask(self, stream: str, **more: Any) -> Turn:
        """Ask for a turn."""
        made = Turn.ask(self._directory, turn(stream, **more))
        assert made is not None
        self._all.append(made)
        return made

    def close(self) -> None:
        """Give all of them up."""
        for each in self._all:
            each.close()


def is_ours(each: Turn, timeout: float = 10) -> bool:
    """Tell whether it is our turn by then."""
    return bool(select.select([each], [], [], timeout)[0])


@pytest.fixture
def turning(keeper: Keeper) -> Iterator[Turning]:
    """Who asks for turns."""
    made = Turning(keeper)
    yield made
    made.close()


def test_turns_are_given_to_four_at_a_time_and_passed_on_by_closing(turning: Turning) -> None:
    turns = [turning.ask(f"s{number}") for number in range(6)]
    assert all(is_ours(each) for each in turns[:4])
    assert not any(is_ours(each, 0.2) for each in turns[4:])
    turns[0].close()
    assert is_ours(turns[4]) and not is_ours(turns[5], 0.2)
    assert is_ours(turning.ask("s9", target="other")), "another target"


def test_a_turn_that_is_not_waited_for_any_more_holds_nobody_up(turning: Turning) -> None:
    held = [turning.ask(f"s{number}") for number in range(4)]
    assert all(is_ours(each) for each in held)
    for _ in range(10):
        given_up = turning.ask("gone")
        assert not is_ours(given_up, 0)
        given_up.close()
    waiting = turning.ask("waiting")
    assert not is_ours(waiting, 0.1)
    held[0].close()
    assert is_ours(waiting)


def test_when_it_is_killed_nobody_has_to_wait_for_a_turn(keeper: Keeper, turning: Turning) -> None:
    turns = [turning.ask(f"s{number}") for number in range(5)]
    assert not is_ours(turns[4], 0.2)
    keeper.process.kill()
    assert is_ours(turns[4])


def test_a_question_is_answered_while_a_login_is_under_way(keeper: Keeper, private_sshd: PrivateSshd) -> None:
    private_sshd.pause()
    try:
        waiting = keeper.send(messages.question(login_to(private_sshd)))
        asking, answer = keeper.ask(turn("a"), timeout=5)
        with waiting, asking:
            assert answer == Answer(turn=True)
            waiting.settimeout(0.1)
            with pytest.raises(TimeoutError):
                waiting.recv(messages.LONGEST)
    finally:
        private_sshd.resume()


def test_a_socket_of_another_kind_is_not_taken_for_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(tmp_path / "socket"))
        other.listen()
        assert not is_kept(tmp_path)

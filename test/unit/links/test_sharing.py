"""Many users of the process that keeps connections, all at once: those that come together, and those that just go."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.links import messages
from mistamover.links.holder import TURNS_AT_ONCE
from mistamover.links.messages import Answer
from mistamover.links.mux import LOST, Session
from mistamover.links.pool import MOST_SESSIONS
from mistamover.links.shared import SharedLink
from mistamover.links.turns import Request
from mistamover.testing.sshd import PrivateSshd
from unit.links.ways import Keeper, closing_all, login_to

#: Seconds within which anything here happens.
LIMIT = 20.0

#: Opens as many sessions as asked, says so, and waits to be killed.  Arguments: the directory, the login, the number.
_USER = """
import sys
from pathlib import Path
from mistamover.links.login import Login
from mistamover.links.shared import SharedLink
place = Path(sys.argv[1])
link = SharedLink(Login.from_json(sys.argv[2]), place, place)
sessions = [link.session("exec cat") for _ in range(int(sys.argv[3]))]
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    with Keeper(tmp_path) as made:
        yield made


def works(session: Session) -> bool:
    """Tell whether a session that runs cat answers."""
    session.write(b"x\n")
    return session.read_line(LIMIT) == b"x"


def test_given_streams_that_open_at_the_same_moment_when_they_work_then_there_is_one_connection(
    keeper: Keeper, sshd: PrivateSshd
) -> None:
    links = [keeper.link(login_to(sshd)) for _ in range(5)]
    sessions: list[Session] = []

    def come(link: SharedLink) -> None:
        link.open()
        sessions.append(link.session("exec cat"))
        sessions.append(link.session("exec cat"))

    threads = [threading.Thread(target=come, args=(link,), daemon=True) for link in links]
    with closing_all(links), closing_all(sessions):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)

        assert len(sessions) == 10
        assert all(works(session) for session in sessions)
        (connection,) = keeper.connections()
        assert connection.ppid() == keeper.process.pid


def test_given_a_user_that_is_killed_when_others_want_its_places_then_they_get_them_on_the_same_connection(
    keeper: Keeper, sshd: PrivateSshd
) -> None:
    words = [sys.executable, "-c", _USER, str(keeper.directory), login_to(sshd).to_json(), str(MOST_SESSIONS)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        assert user.stdout.readline() == b"open\n"
        (before,) = keeper.connections()
        user.kill()
        user.wait(LIMIT)

    sessions: list[Session] = []
    with contextlib.closing(keeper.link(login_to(sshd))) as link, closing_all(sessions):
        sessions += [link.session("exec cat") for _ in range(MOST_SESSIONS)]

        assert all(works(session) for session in sessions)
        assert [connection.pid for connection in keeper.connections()] == [before.pid]


def test_given_users_who_go_before_they_are_answered_when_others_ask_then_they_are_served(
    keeper: Keeper, sshd: PrivateSshd
) -> None:
    wishes = [login_to(sshd), Request(target="t", stream="s", weight=1.0, cost=1.0)]
    for _ in range(30):
        for wish in wishes:
            asking = messages.ask(keeper.directory, wish)
            assert asking is not None
            asking.close()

    with contextlib.ExitStack() as asked:
        for _ in range(TURNS_AT_ONCE):
            asking, answer = keeper.ask(wishes[1], LIMIT)
            asked.enter_context(asking)
            assert answer == Answer(turn=True)
    with (
        contextlib.closing(keeper.link(login_to(sshd))) as link,
        contextlib.closing(link.session("exec cat")) as session,
    ):
        assert works(session)


def test_given_users_when_it_is_asked_to_end_then_nothing_of_its_connections_is_left(
    keeper: Keeper, sshd: PrivateSshd
) -> None:
    ways = (login_to(sshd), login_to(sshd, ciphers="aes128-ctr"))
    with contextlib.ExitStack() as used:
        sessions = []
        for way in ways:
            link = used.enter_context(contextlib.closing(keeper.link(way)))
            sessions.append(used.enter_context(contextlib.closing(link.session("exec cat"))))
        connections = keeper.connections()
        assert len(connections) == 2

        keeper.process.send_signal(signal.SIGTERM)

        assert keeper.process.wait(LIMIT) == 0
        assert [session.wait(LIMIT) for session in sessions] == [LOST, LOST]
        assert not [connection for connection in connections if connection.is_running()]
        assert [path.name for path in keeper.directory.iterdir() if path.name != "socket"] == []


def test_given_a_directory_with_a_long_name_when_connections_are_kept_there_then_they_work(
    tmp_path: Path, sshd: PrivateSshd
) -> None:
    with (
        Keeper(tmp_path / ("d" * 100) / ("e" * 100)) as keeper,
        contextlib.closing(keeper.link(login_to(sshd))) as link,
    ):
        with contextlib.closing(link.session("exec cat")) as session:
            assert works(session)
        with link.rsync_shell() as shell:
            words = [*shell.split(), "host", "echo there"]
            said = subprocess.run(words, cwd=keeper.run_dir, capture_output=True, timeout=LIMIT, check=False)
            assert said.stdout == b"there\n", said.stderr

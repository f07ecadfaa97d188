"""A connection of one's own, where the server allows few sessions, and when something fails."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mistamover.errors import LinkError
from mistamover.links.link import OwnLink
from mistamover.links.mux import LOST
from mistamover.testing.sshd import PrivateSshd
from mistamover.transport.rsync_run import REFUSED
from support import wait_until
from unit.links.ways import living, login_to


@contextlib.contextmanager
def opened(place: Path, server: PrivateSshd) -> Iterator[OwnLink]:
    link = OwnLink(login_to(server), place / "run", name="c")
    link.open()
    try:
        yield link
    finally:
        link.close()


def rsync(place: Path, shell: str, *, number: int) -> subprocess.CompletedProcess[bytes]:
    """Send a file as the transport does, from the run directory, with the given remote shell."""
    (place / f"file{number}").write_bytes(b"content %d" % number)
    words = ["rsync", "-e", shell, "--", str(place / f"file{number}"), f"127.0.0.1:{place / 'target'}/"]
    done: subprocess.CompletedProcess[bytes] = wait_until(
        # A session that was tried before counts until sshd has come round to forgetting it: then nothing was sent.
        lambda: None if REFUSED in (ended := _run(place, words)).stderr else ended, 30, "the server has room for it",
    )  # fmt: skip
    return done


def _run(place: Path, words: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(words, cwd=place / "run", capture_output=True, timeout=30, check=False)


def ssh_processes(place: Path) -> list[int]:
    """Return the connections that are kept in a directory."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if "-M" in words and process.cwd() == os.fspath(place / "run") and living(process.pid):
                found.append(process.pid)
    return found


@pytest.mark.parametrize("slow_login", [False, True])
@pytest.mark.parametrize("sessions", [1, 2, 3])
def test_few_sessions_on_a_connection_are_enough_for_a_session_and_rsyncs(
    tmp_path: Path, sessions: int, slow_login: bool
) -> None:
    """Where one connection is full another one is made; no session that is over is in the way of the next."""
    (tmp_path / "target").mkdir()
    with PrivateSshd(tmp_path / "sshd", options=[f"MaxSessions {sessions}"]) as server:
        if slow_login:
            # What a login shell reads may take its time: a session that was given up lives on for so long.
            (server.home / ".bashrc").write_text("sleep 0.3\n")
        with opened(tmp_path, server) as link, contextlib.closing(link.session("exec cat")) as control:
            for number in range(3):
                with link.rsync_shell() as shell:
                    done = rsync(tmp_path, shell, number=number)
                    assert done.returncode == 0, done.stderr
                control.write(b"well\n")
                assert control.read_line(10) == b"well"
            assert len(ssh_processes(tmp_path)) <= 2
        assert ssh_processes(tmp_path) == []
    assert sorted(os.listdir(tmp_path / "target")) == ["file0", "file1", "file2"]


def test_an_rsync_beside_one_that_is_kept_warm_on_connections_of_one_session(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()

    def is_there(server: PrivateSshd) -> bool:
        far = psutil.Process(server.pid).children(recursive=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            return any("--server" in process.cmdline() for process in far)
        return False

    with (
        PrivateSshd(tmp_path / "sshd", options=["MaxSessions 1"]) as server,
        opened(tmp_path, server) as link,
        contextlib.closing(link.session("exec cat")),
        link.rsync_shell() as first,
    ):
        words = ["rsync", "--files-from=-", "-e", first, "--", f"{tmp_path}/", f"127.0.0.1:{tmp_path / 'target'}/"]
        with subprocess.Popen(words, cwd=tmp_path / "run", stdin=subprocess.PIPE) as warm:
            wait_until(lambda: is_there(server), 20, "it waits at both ends")
            with link.rsync_shell() as second:
                done = rsync(tmp_path, second, number=2)
                assert done.returncode == 0, done.stderr
            warm.communicate(b"file2\n", timeout=20)
        assert warm.returncode == 0


def test_a_session_is_counted_until_it_is_closed(private_sshd: PrivateSshd, tmp_path: Path) -> None:
    with opened(tmp_path, private_sshd) as link:
        for _ in range(3):
            sessions = [link.session("exec cat") for _ in range(5)]
            for session in sessions:
                session.write(b"x\n")
                assert session.read_line(10) == b"x"
                session.close()
        assert len(ssh_processes(tmp_path)) == 1


def test_opening_twice_is_one_connection_and_after_a_loss_it_is_another(sshd: PrivateSshd, tmp_path: Path) -> None:
    with opened(tmp_path, sshd) as link:
        (first,) = ssh_processes(tmp_path)
        link.open()
        assert ssh_processes(tmp_path) == [first]
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not link.alive, 10, "the loss is seen")
        with pytest.raises(LinkError):
            link.session("true")
        link.open()
        session = link.session("echo again")
        assert session.read_line(10) == b"again"
        session.close()
        assert ssh_processes(tmp_path) != [first]


def test_abort_ends_every_session(sshd: PrivateSshd, tmp_path: Path) -> None:
    with opened(tmp_path, sshd) as link:
        session = link.session("exec cat")
        link.abort()
        assert session.wait(10) == LOST
        session.close()


def test_what_a_killed_predecessor_left_is_ended(sshd: PrivateSshd, tmp_path: Path) -> None:
    with opened(tmp_path, sshd):
        (orphan,) = ssh_processes(tmp_path)
        with opened(tmp_path, sshd) as link:
            wait_until(lambda: not living(orphan), 10, "the orphan has ended")
            session = link.session("echo well")
            assert session.read_line(10) == b"well"
            session.close()


def test_what_a_predecessor_left_that_was_killed_while_it_started_is_ended(sshd: PrivateSshd, tmp_path: Path) -> None:
    with opened(tmp_path, sshd):
        (orphan,) = ssh_processes(tmp_path)
        (tmp_path / "run/c.pid").write_text("./c1\n")
        with opened(tmp_path, sshd):
            wait_until(lambda: not living(orphan), 10, "the orphan has ended")
            assert len([each for each in ssh_processes(tmp_path) if living(each)]) == 1


def test_the_number_of_another_process_is_not_killed(sshd: PrivateSshd, tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "run").mkdir()
        for noted in (f"{bystander.pid} 12345\n", f"{bystander.pid}\n", "garbage", "", "-1 0\n"):
            (tmp_path / "run/c.pid").write_text(noted)
            with opened(tmp_path, sshd):
                assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_login_that_fails_tells_why(private_sshd: PrivateSshd, tmp_path: Path) -> None:
    private_sshd.stop()
    link = OwnLink(login_to(private_sshd), tmp_path / "run", name="c")
    with pytest.raises(LinkError, match=r"cannot connect to 127\.0\.0\.1: .*refused.*is sshd running"):
        link.open()
    assert not link.alive and ssh_processes(tmp_path) == []
    private_sshd.start()
    link.open()
    assert link.alive
    link.close()
    link.close()


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(private_sshd: PrivateSshd, tmp_path: Path) -> None:
    private_sshd.pause()
    try:
        link = OwnLink(login_to(private_sshd, connect_timeout=1), tmp_path / "run", name="c")
        with pytest.raises(LinkError, match="cannot connect"):
            link.open()
    finally:
        private_sshd.resume()
    assert ssh_processes(tmp_path) == []


def test_a_host_that_is_not_known_is_not_believed(sshd: PrivateSshd, tmp_path: Path) -> None:
    config = tmp_path / "config"
    empty = shlex.quote(str(tmp_path / "none"))
    config.write_text(f"Host *\n    UserKnownHostsFile {empty}\n" + sshd.ssh_config.read_text())
    link = OwnLink(login_to(sshd, ssh_config=config), tmp_path / "run", name="c")
    with pytest.raises(LinkError, match=r"Host key verification failed.*ssh-keyscan"):
        link.open()


def test_without_ssh_it_says_what_to_install(sshd: PrivateSshd, tmp_path: Path) -> None:
    link = OwnLink(login_to(sshd, ssh=("no-such-ssh",)), tmp_path / "run", name="c")
    with pytest.raises(LinkError, match="openssh-client"):
        link.open()

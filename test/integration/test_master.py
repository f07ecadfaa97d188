"""The master: it watches over streams, follows the configuration, and ends in order, whatever happens to whom."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from agents import (
    agent_of,
    alive,
    ask_ledger,
    end_all,
    log_of,
    master_report,
    none_left,
    said_by,
    start,
    stream_pid,
    until_up,
)
from mistamover.report import mastership
from mistamover.testing.sshd import PrivateSshd
from support import Agent, Site, Stream, contents, wait_until

BIG = 8 << 20
SLOW = {"bandwidth_limit": "1000"}


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[Site]:
    made = Site(tmp_path, sshd)
    yield made
    end_all(made)


def deliver(stream: Stream, name: str = "f") -> None:
    """Prove that a stream works."""
    (stream.source / name).write_bytes(name.encode())
    wait_until(lambda: (stream.target / name).exists() and not (stream.source / name).exists(), 15, f"{name} is moved")


def child(site: Site, name: str) -> mastership.ChildReport | None:
    """Return what the master says of a stream."""
    report = master_report(site)
    return next((each for each in report.children if each.name == name), None) if report else None


def until_log(site: Site, words: str, component: str = "mistamover_ctl") -> None:
    wait_until(lambda: words in log_of(site, component), 15, f"{component}.log says: {words}")


def in_flight(site: Site, stream: Stream) -> int:
    """Drop a big file, wait until it is on its way, and return the pid of the stream."""
    (stream.source / "big").write_bytes(os.urandom(BIG))
    wait_until(lambda: (s := said_by(site, stream.name)) and s.sending == 1, 15, "the big file is on its way")
    last = said_by(site, stream.name)
    assert last is not None
    return last.pid


# -- streams come and go ----------------------------------------------------------------------


def test_streams_come_change_stop_and_go_alone(site: Site) -> None:
    one, two = site.add("one"), site.add("two")
    with agent_of(site) as agent:
        before = until_up(site, agent)
        three = site.add("three")
        until_up(site, agent, "three")
        deliver(three)

        site.add("two", data_stream={"priority": 7})
        changed = wait_until(
            lambda: (pid := stream_pid(site, "two", agent.pid)) and pid != before["two"] and pid, 15, "two is new"
        )
        deliver(two)

        site.add("two", data_stream={"status": "STOPPED"})
        wait_until(lambda: not alive(changed), 15, "two has stopped")
        (two.source / "later").write_bytes(b"x")
        site.remove("three")
        wait_until(lambda: (c := child(site, "three")) is None or c.pid is None, 15, "three has stopped")
        assert (two.source / "later").exists()

        site.add("two")
        wait_until(lambda: (two.target / "later").exists(), 15, "two runs again")
        deliver(one)
        assert stream_pid(site, "one", agent.pid) == before["one"]
    none_left(site)


def test_removed_and_added_again_it_runs_again(site: Site) -> None:
    site.add("one")
    with agent_of(site) as agent:
        first = until_up(site, agent)["one"]
        site.remove("one")
        wait_until(lambda: not alive(first), 15, "one has stopped")
        deliver(site.add("one"))
        assert agent.process.poll() is None


def test_a_stream_that_was_stopped_shows_so(site: Site) -> None:
    site.add("one", data_stream={"status": "STOPPED"})
    two = site.add("two")
    agent = start(site)
    until_up(site, agent, "two")
    deliver(two)
    states = {stream["name"]: stream["state"] for stream in site.status()["streams"]}
    assert states["one"] == "STOPPED" and states["two"] != "DOWN"
    assert agent.stop() == 0


# -- mistakes in files ------------------------------------------------------------------------


def test_a_broken_file_keeps_the_last_good_one_and_says_so(site: Site) -> None:
    one, two = site.add("one"), site.add("two")
    with agent_of(site) as agent:
        before = until_up(site, agent)
        site.add("one", rsync_ssh={"transfer_mode": "teleport"})
        until_log(site, "teleport")
        wait_until(lambda: (r := master_report(site)) and r.problems, 10, "the problem is published")
        report = master_report(site)
        assert report is not None and any("ds_one.ini" in problem for problem in report.problems)
        assert "last good configuration stays" in log_of(site, "mistamover_ctl")
        for stream in (one, two):
            deliver(stream)
        assert until_up(site, agent) == before
        assert log_of(site, "mistamover_ctl").count("teleport") == 1
        assert "teleport" in site.ask("status").stdout + site.ask("status").stderr

        site.add("one")
        until_log(site, "in order again")
        wait_until(lambda: (r := master_report(site)) and not r.problems, 10, "no problem any more")
        assert until_up(site, agent) == before


def test_a_broken_global_file_changes_nothing(site: Site) -> None:
    one = site.add("one")
    with agent_of(site) as agent:
        before = until_up(site, agent)
        site.global_ini.write_text("[global\nwhat")
        until_log(site, "global.ini")
        deliver(one)
        site.global_ini.unlink()
        agent.reload()
        deliver(one, "g")
        site.write_global()
        until_log(site, "in order again")
        assert until_up(site, agent) == before


def test_a_new_stream_that_is_broken_starts_when_it_is_mended(site: Site) -> None:
    one = site.add("one")
    with agent_of(site) as agent:
        before = until_up(site, agent)["one"]
        two = site.add("two", outgoing={"transfer_protocol": "pigeon"})
        until_log(site, "pigeon")
        deliver(one)
        site.add("two")
        until_up(site, agent, "two")
        deliver(two)
        assert stream_pid(site, "one", agent.pid) == before


def test_hangup_reads_at_once(site: Site) -> None:
    site.write_global(**{"global": {"general_poll_interval": 3600}})
    one = site.add("one")
    with agent_of(site) as agent:
        before = until_up(site, agent)["one"]
        two = site.add("two")
        agent.reload()
        until_up(site, agent, "two")
        deliver(two)
        deliver(one)
        assert stream_pid(site, "one", agent.pid) == before


# -- ends -------------------------------------------------------------------------------------


def test_stop_drains_what_is_in_flight(tmp_path: Path, sshd: PrivateSshd) -> None:
    site = Site(tmp_path, sshd, rsync_ssh={"bandwidth_limit": "4000"}, **{"global": {"stop_timeout": 30}})
    one = site.add("one")
    with agent_of(site) as agent:
        in_flight(site, one)
        (one.source / "late").write_bytes(b"x")
        assert agent.stop(30) == 0
    assert (one.target / "big").stat().st_size == BIG
    assert not (one.source / "big").exists()
    assert ask_ledger(site, "one", "SELECT count(*) FROM batch WHERE handed_over IS NULL") == [(0,)]
    none_left(site)


def test_stop_gives_up_in_time_what_takes_too_long(tmp_path: Path, sshd: PrivateSshd) -> None:
    site = Site(tmp_path, sshd, rsync_ssh={"bandwidth_limit": "200"}, **{"global": {"stop_timeout": 2}})
    one = site.add("one")
    with agent_of(site) as agent:
        in_flight(site, one)
        assert agent.stop(12) == 0
    assert (one.source / "big").stat().st_size == BIG
    assert not (one.target / "big").exists()
    none_left(site)


def test_second_stop_kills(tmp_path: Path, sshd: PrivateSshd) -> None:
    site = Site(tmp_path, sshd, rsync_ssh={"bandwidth_limit": "200"}, **{"global": {"stop_timeout": 100}})
    one = site.add("one")
    with agent_of(site) as agent:
        pid = in_flight(site, one)
        agent.process.terminate()
        wait_until(lambda: (c := child(site, "one")) and c.state == "STOPPING", 10, "it is stopping")
        assert alive(pid)
        assert agent.stop(10) == 0
    assert (one.source / "big").stat().st_size == BIG
    none_left(site)


def test_a_stopping_master_does_not_spin(tmp_path: Path, sshd: PrivateSshd) -> None:
    site = Site(tmp_path, sshd, rsync_ssh={"bandwidth_limit": "200"}, **{"global": {"stop_timeout": 9}})
    one, _two = site.add("one"), site.add("two")
    with agent_of(site) as agent:
        pids = until_up(site, agent)
        in_flight(site, one)
        os.kill(pids["two"], signal.SIGKILL)
        wait_until(lambda: (c := child(site, "two")) and c.state == "BACKOFF", 10, "two pauses")
        agent.process.terminate()
        wait_until(lambda: (c := child(site, "one")) and c.state == "STOPPING", 10, "it is stopping")
        process, used = psutil.Process(agent.pid), [0.0]

        def ended() -> bool:
            if agent.process.poll() is None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    used.append(sum(process.cpu_times()[:2]))
            return agent.process.poll() is not None

        used[0] = sum(process.cpu_times()[:2])
        wait_until(ended, 30, "the master has ended")
    assert max(used) - used[0] < 1.0, f"{max(used) - used[0]:.1f} s of processor time to wait for a stream"


def test_second_instance_says_who_holds_it(site: Site) -> None:
    one = site.add("one")
    with agent_of(site) as agent:
        for words in ([], ["--one-off"], ["--daemon"]):
            second = site.run(*words, str(site.global_ini))
            assert (second.returncode, f"process {agent.pid}" in second.stderr) == (1, True), second.stderr
            assert str(site.state) in second.stderr
        deliver(one)


def test_nothing_is_left_of_a_killed_instance(site: Site) -> None:
    one = site.add("one")
    agent = start(site)
    until_up(site, agent)
    agent.kill()
    with agent_of(site):
        deliver(one)


def test_a_killed_stream_comes_back_alone(site: Site) -> None:
    one, two = site.add("one"), site.add("two")
    with agent_of(site) as agent:
        before = until_up(site, agent)
        os.kill(before["one"], signal.SIGKILL)
        until_log(site, "was killed by SIGKILL; starting it again in 0.2 s")
        wait_until(lambda: (p := stream_pid(site, "one", agent.pid)) and p != before["one"], 15, "one is back")
        deliver(one)
        deliver(two)
        assert stream_pid(site, "two", agent.pid) == before["two"]
        last = child(site, "one")
        assert last is not None and last.restarts == 1


def test_orphans_drain_and_a_new_master_takes_over(tmp_path: Path, sshd: PrivateSshd) -> None:
    site = Site(tmp_path, sshd, rsync_ssh={"bandwidth_limit": "4000"}, **{"global": {"stop_timeout": 10}})
    one = site.add("one")
    agent = start(site)
    until_up(site, agent)
    orphan = in_flight(site, one)
    agent.process.kill()
    agent.process.wait(10)
    with agent_of(site) as second:
        assert stream_pid(site, "one", second.pid) != orphan
        wait_until(lambda: not alive(orphan), 10, "the orphan has ended")
        wait_until(lambda: not (one.source / "big").exists(), 15, "the big file is moved")
        deliver(one)
    names = ask_ledger(site, "one", "SELECT CAST(name AS TEXT) FROM delivery")
    assert sorted(names) == [("big",), ("f",)]
    none_left(site)


def test_a_complete_stream_is_not_started_again(site: Site) -> None:
    one, two = site.add("one", data_stream={"completion_file": "DONE"}), site.add("two")
    with agent_of(site) as agent:
        pid = until_up(site, agent)["one"]
        deliver(one)
        (one.source / "last").write_bytes(b"x")
        (one.source / "DONE").touch()
        wait_until(lambda: (c := child(site, "one")) and c.state == "ENDED", 20, "one has ended")
        assert not alive(pid)
        assert contents(one.target).keys() == {b"f", b"last", b"DONE"}
        assert {s["name"]: s["state"] for s in site.status()["streams"]}["one"] == "COMPLETE"
        agent.reload()
        deliver(two)
        last = child(site, "one")
        assert last is not None and (last.state, last.restarts) == ("ENDED", 0)


# -- log files --------------------------------------------------------------------------------


def test_log_files_survive_rotation(site: Site) -> None:
    one = site.add("one")
    with agent_of(site) as agent:
        deliver(one)
        for component in ("mistamover_ctl", "dtc_one"):
            log = site.logs / f"{component}.log"
            assert re.match(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] [A-Z]+ \(pid=\d+\) ", log.read_text())
            log.rename(log.with_suffix(".log.1"))
        deliver(one, "g")
        until_log(site, "delivered 1 units", "dtc_one")
        site.add("two")
        until_up(site, agent, "two")
        site.remove("two")
        until_log(site, "stream two: stopping it")


def test_names_in_logs_are_one_harmless_line(site: Site) -> None:
    one = site.add("one", outgoing={"retry_count": 1})
    with agent_of(site):
        (one.target / "evil\n[2026-11-22 10:15:00] ERROR").mkdir()
        (one.target / "evil\n[2026-11-22 10:15:00] ERROR" / "full").touch()
        (one.source / "evil\n[2026-11-22 10:15:00] ERROR").write_bytes(b"x")
        until_log(site, "quarantined", "dtc_one")
    start_of_line = re.compile(r"\[[-0-9 :]{19}\] [A-Z]+ \(pid=\d+\) \S")
    assert [line for line in log_of(site, "dtc_one").splitlines() if not start_of_line.match(line)] == []


# -- daemon -----------------------------------------------------------------------------------


def daemon(site: Site) -> Agent:
    """Start the daemon and return it as far as a foreign process can be had."""
    done = site.run("--daemon", str(site.global_ini))
    assert done.returncode == 0, done.stderr
    pid_file = site.state / "mistamover.pid"

    def new() -> str | None:
        text = pid_file.read_text() if pid_file.exists() else ""
        return text if text.strip() and alive(int(text)) else None

    text = wait_until(new, 10, "the pid file of the daemon")
    assert re.fullmatch(r"\d+\n", text)
    return Agent(_Foreign(int(text)), site.directory / "agent.out")  # type: ignore[arg-type]


class _Foreign:
    """As much of a Popen as the helpers need, for a process that is not our child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode = None

    def poll(self) -> int | None:
        return None if alive(self.pid) else 0


def test_daemon_leaves_the_terminal_and_ends_in_order(site: Site) -> None:
    one = site.add("one")
    agent = daemon(site)
    until_up(site, agent)
    assert agent.pid not in (os.getpid(), os.getppid())
    process = psutil.Process(agent.pid)
    assert process.terminal() is None
    assert os.getsid(agent.pid) != os.getsid(0)
    assert {os.readlink(f"/proc/{agent.pid}/fd/{n}") for n in (0, 1, 2)} == {"/dev/null"}
    deliver(one)
    two = site.add("two")
    until_up(site, agent, "two")
    deliver(two)

    again = site.run("--daemon", str(site.global_ini))
    assert (again.returncode, str(agent.pid) in again.stderr) == (1, True)

    os.kill(agent.pid, signal.SIGTERM)
    wait_until(lambda: not alive(agent.pid), 20, "the daemon has ended")
    assert not (site.state / "mistamover.pid").exists()
    none_left(site)
    assert "stopped" in log_of(site, "mistamover_ctl")


def test_daemon_with_a_wrong_configuration_fails_in_sight(site: Site) -> None:
    site.add("one", rsync_ssh={"transfer_mode": "teleport"})
    done = site.run("--daemon", str(site.global_ini))
    assert (done.returncode, "teleport" in done.stderr) == (2, True)
    none_left(site)


def test_daemon_by_relative_paths_reads_its_configuration_again(site: Site) -> None:
    one = site.add("one")
    done = subprocess.run(
        site.command("--daemon", "global.ini"), cwd=site.conf, env=site.environment(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: (s := said_by(site, "one")) and alive(s.pid), 15, "one is up")
    two = site.add("two")
    wait_until(lambda: (s := said_by(site, "two")) and alive(s.pid), 15, "two is up")
    deliver(one)
    deliver(two)
    report = master_report(site)
    assert report is not None
    os.kill(report.pid, signal.SIGTERM)
    wait_until(lambda: not alive(report.pid), 20, "the daemon has ended")


def test_a_daemon_that_was_killed_hinders_nobody(site: Site) -> None:
    one = site.add("one")
    agent = daemon(site)
    until_up(site, agent)
    pid = said_by(site, "one")
    os.kill(agent.pid, signal.SIGKILL)
    wait_until(lambda: not alive(agent.pid) and pid and not alive(pid.pid), 20, "all is dead")
    second = daemon(site)
    until_up(site, second)
    deliver(one)
    os.kill(second.pid, signal.SIGTERM)
    wait_until(lambda: not alive(second.pid), 20, "the daemon has ended")

"""Streams that log in at the same place in the same way have a connection together, and survive its losses."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import laws
from agents import agent_of, alive, ask_ledger, log_of, none_left, processes_of, stream_pid, until_up
from mistamover.testing.sshd import PrivateSshd
from support import Agent, Site, Stream, wait_until


class Streams:
    """A site with some streams to one server, and an agent that serves them."""

    def __init__(self, site: Site, agent: Agent) -> None:
        self.site, self.agent = site, agent
        self.all = list(site.streams.values())
        self.promised: dict[str, dict[bytes, str | bytes]] = {one.name: {} for one in self.all}
        self._round = 0

    def drop(self, *streams: Stream, count: int = 5, size: int = 100) -> None:
        """Put files where they are moved from: of every stream, or of those given."""
        self._round += 1
        for one in streams or self.all:
            for number in range(count):
                name = f"r{self._round}/f{number}"
                content = b"%s %s " % (one.name.encode(), name.encode()) + os.urandom(size)
                self.promised[one.name][name.encode()] = laws.put(one.source / name, content)

    def arrived(self, *streams: Stream, timeout: float = 15) -> None:
        """Wait until all that was dropped is delivered."""
        for one in streams or self.all:
            try:
                laws.arrived(one, self.promised[one.name], timeout)
            except AssertionError as error:
                raise AssertionError(f"{one.name}: {error}; {laws.snapshot(self.site, one)}") from None

    def connections(self) -> list[psutil.Process]:
        """Return the ssh processes that have logged in."""
        return [p for p, words in self._running() if words[0].endswith("ssh") and "-M" in words]

    def keeper(self) -> psutil.Process | None:
        """Return the process that keeps shared connections."""
        return next((p for p, words in self._running() if words[0] == "mistamover: links"), None)

    def _running(self) -> Iterator[tuple[psutil.Process, list[str]]]:
        for process in processes_of(self.site):
            with contextlib.suppress(psutil.NoSuchProcess):
                if words := process.cmdline():
                    yield process, words

    def trouble(self) -> list[tuple[str, ...]]:
        """Return the names for which an attempt was counted."""
        return [row for one in self.all for row in ask_ledger(self.site, one.name, "SELECT * FROM trouble")]


@contextlib.contextmanager
def streams_of(
    scratch: Path, sshd: PrivateSshd, count: int, *, different: bool = False, **everywhere: dict[str, object]
) -> Iterator[Streams]:
    """Run an agent with so many streams; at the end every law must hold for each."""
    site = Site(scratch, sshd, **everywhere)
    quick = {"empty_directory_age": 0.5, "settle_time": 0.3, "rescan_interval": 3}
    for number in range(count):
        own = {"rsync_ssh": {"ciphers": "aes256-ctr"}} if different and number else {}
        # An attempt that was counted would show at once.
        site.add(f"s{number}", data_stream=quick, outgoing={"retry_count": 0}, **own)
    with agent_of(site) as agent:
        made = Streams(site, agent)
        yield made
        for one in made.all:
            assert laws.settled(site, one, timeout=15)["quarantined"] == 0
        assert not made.trouble()
    for one in made.all:
        laws.no_leftovers(one)
        names = [name for (name,) in ask_ledger(site, one.name, "SELECT name FROM delivery WHERE kind = 'file'")]
        assert sorted(names) == sorted(made.promised[one.name])
    assert "Traceback" not in laws.logs(site), laws.logs(site)[-3000:]
    none_left(site)


@pytest.mark.parametrize("count", [2, 3])
def test_streams_deliver_over_one_connection(sshd: PrivateSshd, scratch: Path, count: int) -> None:
    with streams_of(scratch, sshd, count) as streams:
        for _ in range(3):
            streams.drop()
            streams.arrived()
        streams.drop(count=2, size=2 << 20)
        streams.arrived()
        (shared,) = streams.connections()
        keeper = streams.keeper()
        assert keeper is not None and shared.ppid() == keeper.pid


def test_one_stream_alone_keeps_its_own_connection(sshd: PrivateSshd, scratch: Path) -> None:
    with streams_of(scratch, sshd, 1) as streams:
        streams.drop()
        streams.arrived()
        (own,) = streams.connections()
        assert streams.keeper() is None
        assert own.ppid() == stream_pid(streams.site, "s0")


def test_streams_with_other_settings_do_not_share(sshd: PrivateSshd, scratch: Path) -> None:
    with streams_of(scratch, sshd, 2, different=True) as streams:
        streams.drop()
        streams.arrived()
        assert streams.keeper() is None
        assert {c.ppid() for c in streams.connections()} == {stream_pid(streams.site, f"s{n}") for n in (0, 1)}


def test_of_three_streams_two_share_and_the_third_does_not(sshd: PrivateSshd, scratch: Path) -> None:
    with streams_of(scratch, sshd, 2) as streams:
        other = streams.site.add("other", rsync_ssh={"ciphers": "aes256-ctr"})
        streams.agent.reload()
        until_up(streams.site, streams.agent)
        streams.all.append(other)
        streams.promised["other"] = {}
        streams.drop()
        streams.arrived()
        found = streams.connections()
        assert len(found) == 2
        assert sum("Ciphers=aes256-ctr" in process.cmdline() for process in found) == 1


def test_a_stream_that_gets_company_goes_on(sshd: PrivateSshd, scratch: Path) -> None:
    with streams_of(scratch, sshd, 1) as streams:
        streams.drop()
        streams.arrived()
        streams.all.append(streams.site.add("late", data_stream={"empty_directory_age": 0.5}))
        streams.promised["late"] = {}
        streams.agent.reload()
        until_up(streams.site, streams.agent)
        for _ in range(2):
            streams.drop()
            streams.arrived()
        assert streams.keeper() is not None
        # The connection that the first had alone is not cut for that; when it is lost, both share.
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in streams.connections():
                if process.ppid() == stream_pid(streams.site, "s0"):
                    process.kill()
        streams.drop()
        streams.arrived()
        wait_until(lambda: len(streams.connections()) == 1, 10, "both share one connection")


def _connection(streams: Streams) -> None:
    for process in streams.connections():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _keeper(streams: Streams) -> None:
    keeper = wait_until(streams.keeper, 10, "somebody keeps connections")
    keeper.kill()
    wait_until(lambda: not alive(keeper.pid), 10, "it is gone")


def _stream(streams: Streams) -> None:
    pid = wait_until(lambda: stream_pid(streams.site, "s0"), 20, "the stream is up")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), 10, "it is gone")


VICTIMS = pytest.mark.parametrize("kill", [_connection, _keeper, _stream])


@VICTIMS
def test_a_loss_while_all_are_idle_is_not_noticed(
    sshd: PrivateSshd, scratch: Path, kill: Callable[[Streams], None]
) -> None:
    with streams_of(scratch, sshd, 3) as streams:
        streams.drop()
        streams.arrived()
        for _ in range(2):
            kill(streams)
            streams.drop(*streams.all[1:])
            streams.arrived(*streams.all[1:], timeout=10)
            streams.drop(streams.all[0])
            streams.arrived(timeout=15)
        failures = [one.name for one in streams.all if "tried again in" in log_of(streams.site, f"dtc_{one.name}")]
        assert not failures, "a loss while idle costs a reconnect, not a failure"


@VICTIMS
def test_a_loss_while_all_are_busy_costs_no_file_and_no_attempt(
    sshd: PrivateSshd, scratch: Path, kill: Callable[[Streams], None]
) -> None:
    with streams_of(scratch, sshd, 3) as streams:
        streams.drop()
        streams.arrived()
        stop = threading.Event()

        def produce() -> None:
            while not stop.wait(0.01):
                streams.drop(count=20)

        producer = threading.Thread(target=produce)
        producer.start()
        try:
            for _ in range(3):
                stop.wait(0.7)
                kill(streams)
        finally:
            stop.set()
            producer.join(10)
        streams.arrived(timeout=30)


def test_a_killed_stream_does_not_delay_the_others(sshd: PrivateSshd, scratch: Path) -> None:
    with streams_of(scratch, sshd, 3) as streams:
        streams.drop()
        streams.arrived()
        (before,) = streams.connections()
        _stream(streams)
        streams.drop(*streams.all[1:])
        streams.arrived(*streams.all[1:])
        assert before in streams.connections(), "the connection is not cut for that"
        streams.drop()
        streams.arrived(timeout=15)


def test_the_server_goes_and_comes_back(private_sshd: PrivateSshd, scratch: Path) -> None:
    with streams_of(scratch, private_sshd, 3) as streams:
        streams.drop()
        streams.arrived()
        private_sshd.stop()
        streams.drop()
        wait_until(
            lambda: all(laws.snapshot(streams.site, one).get("state") == "UNREACHABLE" for one in streams.all),
            10,
            "all say that they do not reach it",
        )
        assert "refused" in str(laws.snapshot(streams.site, streams.all[0]))
        private_sshd.start()
        streams.arrived(timeout=15)


@pytest.mark.parametrize("most", [1, 3])
def test_a_server_that_allows_few_sessions(scratch: Path, most: int) -> None:
    with (
        PrivateSshd(scratch / "sshd", options=[f"MaxSessions {most}"]) as server,
        streams_of(scratch, server, 2) as streams,
    ):
        for size in (100, 2 << 20):
            streams.drop(count=3, size=size)
            streams.arrived(timeout=20)


def test_the_one_who_keeps_connections_hangs(sshd: PrivateSshd, scratch: Path) -> None:
    """What is open goes on; the agent can still be stopped."""
    with streams_of(scratch, sshd, 2) as streams:
        streams.drop()
        streams.arrived()
        keeper = streams.keeper()
        assert keeper is not None
        keeper.suspend()
        streams.drop()
        streams.arrived()
        for one in streams.all:
            laws.settled(streams.site, one, timeout=15)
        assert streams.agent.stop(25) == 0


def test_where_nobody_can_keep_connections_each_stream_has_its_own(sshd: PrivateSshd, scratch: Path) -> None:
    """What is shared is a convenience: that it fails ends neither the agent nor a stream."""
    (scratch / "state").mkdir()
    (scratch / "state/links").write_bytes(b"in the way")
    with streams_of(scratch, sshd, 2) as streams:
        streams.drop()
        streams.arrived()
        assert len(streams.connections()) == 2
        (scratch / "state/links").unlink()


def test_the_master_is_killed_and_another_one_takes_over(sshd: PrivateSshd, scratch: Path) -> None:
    site = Site(scratch, sshd)
    for name in ("s0", "s1"):
        site.add(name, data_stream={"empty_directory_age": 0.5}, outgoing={"retry_count": 0})
    for number in range(3):
        with agent_of(site) as agent:
            streams = Streams(site, agent)
            for one in streams.all:
                for file in range(50):
                    name = f"{number}/{file}"
                    streams.promised[one.name][name.encode()] = laws.put(one.source / name, os.urandom(100))
            agent.process.kill()
            agent.process.wait(10)
    with agent_of(site) as agent:
        streams = Streams(site, agent)
        streams.drop(count=3)
        streams.arrived()
        wait_until(lambda: not any(f for one in streams.all for _, _, f in os.walk(one.source)), 15, "all is moved")
        for one in streams.all:
            assert laws.settled(site, one)["quarantined"] == 0
            assert len(laws.public(one)) == 153
    none_left(site)

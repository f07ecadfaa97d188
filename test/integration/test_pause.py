"""A pause lasts until it is ended, whatever is restarted; what is on its way is finished, and nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import laws
from agents import agent_of, end_all, log_of, said_by, stream_pid
from mistamover.testing.sshd import PrivateSshd
from receivers import Mailbox, mail_server
from support import Site, Stream, free_port, wait_until


@pytest.fixture
def made(scratch: Path, sshd: PrivateSshd) -> Iterator[tuple[Site, Stream]]:
    # What comes at once does not come by a rescan.
    site, one = laws.make(scratch, sshd, data_stream={"rescan_interval": 60})
    yield site, one
    end_all(site)


def say(site: Site, command: str, *words: str) -> subprocess.CompletedProcess[str]:
    done = site.run(command, "-c", str(site.global_ini), *words)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done


def state(site: Site) -> str | None:
    last = said_by(site, "one")
    return last.state.value if last is not None else None


def quiet(seconds: float = 1.0) -> None:
    """Let pass what would be more than enough to deliver a file."""
    threading.Event().wait(seconds)


def drop(one: Stream, *names: str) -> dict[bytes, str | bytes]:
    return {name.encode(): laws.put(one.source / name, name.encode() * 100) for name in names}


def test_nothing_is_sent_until_it_is_resumed_at_once(made: tuple[Site, Stream]) -> None:
    site, one = made
    with laws.lawful(site, one):
        laws.arrived(one, drop(one, "before"))
        done = say(site, "pause", "one", "--reason", "the target is moved")
        assert "paused since" in done.stdout and "(the target is moved)" in done.stdout
        promised = drop(one, "a", "b/c", "d")
        wait_until(lambda: laws.snapshot(site, one).get("waiting") == 3, 10, "what comes is seen")
        quiet()
        assert set(laws.public(one)) == {b"before"}
        assert state(site) == "PAUSED"
        status = say(site, "status", "one").stdout
        assert "one: paused since" in status and "resume with: mistamover resume one" in status
        assert laws.of(site, one)["paused"]["reason"] == "the target is moved"
        again = say(site, "pause", "one", "--reason", "another")
        assert "already paused since" in again.stdout and "(the target is moved)" in again.stdout
        say(site, "resume", "one")
        laws.arrived(one, promised, timeout=10)
        assert say(site, "resume", "one").stdout == "one: it was not paused\n"


@pytest.mark.parametrize("served", [True, False], ids=["up", "down"])
def test_why_says_who_has_paused(made: tuple[Site, Stream], served: bool) -> None:
    site, one = made
    say(site, "pause", "one", "--json")
    drop(one, "f")
    if served:
        with agent_of(site):
            wait_until(lambda: laws.snapshot(site, one).get("waiting") == 1, 10, "it is seen")
            text, record = site.ask("why", "one:f").stdout, json.loads(site.ask("why", "--json", "one:f").stdout)
    else:
        text, record = site.ask("why", "one:f").stdout, json.loads(site.ask("why", "--json", "one:f").stdout)
    codes = [reason["code"] for reason in record["reasons"]]
    assert "paused" in codes and ("down" in codes) is not served
    assert codes.count("paused") == 1 and "stop-there" not in codes
    assert "paused since" in text.lower() and "resume with: mistamover resume one" in text
    assert record["otherwise"]["action"] == "send"


def test_it_outlives_every_process(made: tuple[Site, Stream]) -> None:
    site, one = made
    say(site, "pause", "one")
    promised = drop(one, "a")
    for _ in range(2):
        with laws.lawful(site, one, waiting=1):
            quiet()
            assert not laws.public(one)
            assert state(site) == "PAUSED"
        assert "one: paused since" in site.ask("status").stdout
    with site.running() as agent:
        agent.kill()
    say(site, "resume", "one")
    with laws.lawful(site, one):
        laws.arrived(one, promised)


def test_a_batch_under_way_is_finished(scratch: Path, sshd: PrivateSshd) -> None:
    size = 3_000_000
    site, one = laws.make(scratch, sshd, everywhere=laws.slow({}, size))
    try:
        with laws.lawful(site, one):
            (scratch / "big").write_bytes(os.urandom(size))
            big = {b"big": laws.digest((scratch / "big").read_bytes())}
            (scratch / "big").rename(one.source / "big")
            wait_until(lambda: laws.snapshot(site, one).get("sending") == 1, 10, "it is on its way")
            say(site, "pause", "one")
            later = drop(one, "later")
            laws.arrived(one, dict(big), timeout=15)
            quiet()
            assert set(laws.public(one)) == {b"big"}
            say(site, "resume", "one")
            laws.arrived(one, {**big, **later})
    finally:
        end_all(site)


def test_a_one_off_run_leaves_a_paused_stream_and_says_so(made: tuple[Site, Stream]) -> None:
    site, one = made
    say(site, "pause", "one")
    empty = site.one_off()
    assert empty.returncode == 0 and "one: paused since" in empty.stderr
    promised = drop(one, "a")
    done = site.one_off()
    assert done.returncode == 1
    assert "one: paused since" in done.stderr and "not delivered: a: paused since" in done.stderr
    laws.somewhere(one, promised)
    assert not laws.public(one)
    say(site, "resume", "one")
    assert site.one_off().returncode == 0


def test_a_paused_stream_sleeps(made: tuple[Site, Stream]) -> None:
    """Also with much that waits and is due to be looked at."""
    site, one = made
    with laws.lawful(site, one, waiting=200):
        say(site, "pause", "one")
        drop(one, *(f"f{number}" for number in range(200)))
        wait_until(lambda: laws.snapshot(site, one).get("waiting") == 200, 10, "all are seen")
        pid = stream_pid(site, "one")
        assert pid is not None
        quiet(1)
        process = psutil.Process(pid)
        before = process.cpu_times()
        quiet(3)
        after = process.cpu_times()
        assert after.user + after.system - before.user - before.system < 0.3


def test_no_alert_is_sent_because_of_a_pause(scratch: Path, sshd: PrivateSshd) -> None:
    box, port = Mailbox(), free_port()
    email = {"from": "a@example.org", "recipient": "me@example.org", "threshold": "ERROR", "after": 0.5}
    site, one = laws.make(
        scratch,
        sshd,
        everywhere={"email": {**email, "smarthost": "127.0.0.1", "port": port}, "logging": {"email_timer": 1}},
    )
    try:
        with mail_server(port, box), laws.lawful(site, one, waiting=1):
            say(site, "pause", "one")
            drop(one, "f")
            wait_until(lambda: state(site) == "PAUSED", 10, "it is paused")
            quiet(5)
            assert box.mails == []
            assert "ERROR" not in log_of(site, "dtc_one")
    finally:
        end_all(site)


def test_a_stream_that_has_never_run_can_be_paused_and_wrong_words_are_refused(made: tuple[Site, Stream]) -> None:
    site, one = made
    wrong = site.run("pause", "-c", str(site.global_ini), "on")
    assert wrong.returncode == 2 and "did you mean one?" in wrong.stderr
    assert site.run("pause", "-c", str(site.global_ini)).returncode == 2
    say(site, "pause", "one")
    promised = drop(one, "f")
    with laws.lawful(site, one, waiting=1):
        quiet()
        laws.somewhere(one, promised)
        assert not laws.public(one)

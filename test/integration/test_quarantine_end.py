"""The end of a quarantine with a real agent: units go back or away, whether it runs or not, whoever dies."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import laws
from agents import end_all, kill, said_by, start, state_of, stream_pid, until_up
from mistamover.stream import requests
from mistamover.stream.alarm import ring
from mistamover.stream.requests import Meant, Request, Verb
from mistamover.testing.sshd import PrivateSshd
from small_disks import mounted
from support import Site, Stream, wait_until

ODD = [b"plain", b"with blank", b"-n", b"new\nline", b"\xff\xfe", b"deep/er/file"]

RUNS = pytest.mark.parametrize("runs", [True, False], ids=["up", "down"])


@pytest.fixture
def made(scratch: Path, sshd: PrivateSshd) -> Iterator[tuple[Site, Stream]]:
    """A site whose stream gives up at the first failure."""
    site, one = laws.make(scratch, sshd, outgoing={"retry_count": 1})
    yield site, one
    end_all(site)


def ask(site: Site, verb: str, *words: str | bytes) -> subprocess.CompletedProcess[str]:
    return site.run("quarantine", verb, "-c", str(site.global_ini), *map(os.fsdecode, words))


def listed(site: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ask(site, "list", "--json").stdout.splitlines()]


def obstruct(one: Stream, name: bytes) -> Path:
    """Put something into the target that a file of the name cannot replace; return it."""
    way = Path(os.fsdecode(os.fsencode(one.target) + b"/" + name))
    laws.put(way / "in the way", b"x")
    return way


def clear(way: Path) -> None:
    (way / "in the way").unlink()
    way.rmdir()


def quarantine(site: Site, one: Stream, *names: bytes) -> dict[bytes, str | bytes]:
    """Have files quarantined by the running agent, because their names are taken; make room for them then."""
    ways = [obstruct(one, name) for name in names]
    promised = {name: laws.put(os.fsencode(one.source) + b"/" + name, b"content of " + name) for name in names}
    wait_until(lambda: laws.snapshot(site, one).get("quarantined") == len(names), 15, "all are in quarantine")
    for way in ways:
        clear(way)
    return dict(promised)


def meant(one: Stream, *names: bytes) -> tuple[Meant, ...]:
    return tuple(Meant(name, os.fsencode(aside(one, name))) for name in names)


def aside(one: Stream, name: bytes) -> Path:
    return Path(os.fsdecode(os.fsencode(one.source) + b"/quarantine/" + name))


@RUNS
def test_every_name_is_put_back_and_delivered(made: tuple[Site, Stream], runs: bool) -> None:
    site, one = made
    with laws.lawful(site, one):
        promised = quarantine(site, one, *ODD)
        if runs:
            done = ask(site, "retry", "--json", "--", "one", *ODD)
            laws.arrived(one, promised)
    if not runs:
        done = ask(site, "retry", "--json", "--", "one", *ODD)
        laws.somewhere(one, promised)
        assert not list((one.source / "quarantine").rglob("*"))
        with laws.lawful(site, one):
            laws.arrived(one, promised)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["outcome"], record["done"]) for record in records] == [("retried", True)] * len(ODD), done
    assert done.returncode == 0
    assert listed(site) == []
    assert said_by(site, "one") is not None


def test_all_is_put_back_at_one_word_and_counted_once(made: tuple[Site, Stream]) -> None:
    site, one = made
    with laws.lawful(site, one):
        promised = quarantine(site, one, b"a", b"b", b"c")
        assert (aside(one, b"a.reason")).read_text().count("mistamover quarantine retry one a\n") == 1
        done = ask(site, "retry", "--all")
        assert (done.returncode, done.stderr, done.stdout.count("put back as")) == (0, "", 3)
        laws.arrived(one, promised)
        wait_until(lambda: laws.snapshot(site, one).get("delivered") == 3, 10, "they are counted")
        last = laws.settled(site, one)
        assert (last["seen"], last["delivered"], last["quarantined"]) == (3, 3, 0)
        assert laws.of(site, one)["well"]
    assert ask(site, "retry", "--all").stdout == "Nothing is in quarantine.\n"


@RUNS
def test_a_name_that_is_taken_is_refused_and_nothing_is_lost(made: tuple[Site, Stream], runs: bool) -> None:
    site, one = made
    words = ("retry", "one", "f")
    # What waits there does not leave meanwhile.
    with laws.lawful(site, one, waiting=1):
        quarantine(site, one, b"f")
        assert site.run("pause", "-c", str(site.global_ini), "one").returncode == 0
        laws.put(one.source / "f", b"a new one")
        wait_until(lambda: laws.snapshot(site, one).get("waiting") == 1, 10, "it waits")
        if runs:
            done = ask(site, *words)
    if not runs:
        done = ask(site, *words)
    assert done.returncode == 1
    assert f"{one.source}/f is taken" in done.stderr
    assert aside(one, b"f").read_bytes() == b"content of f"
    assert (one.source / "f").read_bytes() == b"a new one"
    assert [record["name"] for record in listed(site)] == ["f"]


def test_two_of_one_name_are_both_known_and_go_back_one_after_the_other(made: tuple[Site, Stream]) -> None:
    site, one = made
    with laws.lawful(site, one):
        way = obstruct(one, b"f")
        for number in (1, 2):
            laws.put(one.source / "f", b"version %d" % number)
            wait_until(lambda n=number: laws.snapshot(site, one).get("quarantined") == n, 15, "it is in quarantine")
        assert [record["name"] for record in listed(site)] == ["f", "f"]
        clear(way)
        both = ask(site, "retry", "one", "f")
        assert both.returncode == 2 and str(aside(one, b"f.1")) in both.stderr
        for version, place in ((b"version 1", aside(one, b"f")), (b"version 2", aside(one, b"f.1"))):
            assert ask(site, "retry", str(place)).returncode == 0
            laws.arrived(one, {b"f": laws.digest(version)})
        assert listed(site) == []
        wait_until(lambda: laws.snapshot(site, one).get("delivered") == 2, 10, "they are counted")


@RUNS
@pytest.mark.parametrize("verb", ["retry", "release"])
def test_across_filesystems(scratch: Path, sshd: PrivateSshd, runs: bool, verb: str) -> None:
    (scratch / "disk").mkdir()
    with mounted(scratch / "disk") as disk:
        site, one = laws.make(scratch, sshd, outgoing={"retry_count": 1, "quarantine_dir": f"{disk.path}/q"})
        elsewhere = scratch / "elsewhere"
        elsewhere.mkdir()
        words = (verb, "one", "d/f") if verb == "retry" else (verb, "one", "d/f", "--to", str(elsewhere))
        try:
            with laws.lawful(site, one):
                promised = quarantine(site, one, b"d/f")
                assert (disk.path / "q/d/f").exists()
                if runs:
                    done = ask(site, *words)
            if not runs:
                done = ask(site, *words)
            assert (done.returncode, done.stderr) == (0, "")
            assert list((disk.path / "q").iterdir()) == []
            if verb == "retry":
                with laws.lawful(site, one):
                    laws.arrived(one, promised)
            else:
                assert (elsewhere / "d/f").read_bytes() == b"content of d/f"
        finally:
            end_all(site)


@RUNS
def test_released_units_are_counted_and_explained(made: tuple[Site, Stream], runs: bool, scratch: Path) -> None:
    site, one = made
    elsewhere = scratch / "elsewhere"
    elsewhere.mkdir()

    def release() -> None:
        stays, goes = ask(site, "release", "one", "stays"), ask(site, "release", "goes", "--to", str(elsewhere))
        assert (stays.returncode, stays.stderr, goes.returncode, goes.stderr) == (0, "", 0, "")

    with laws.lawful(site, one):
        quarantine(site, one, b"stays", b"goes")
        if runs:
            release()
            last = wait_until(lambda: (s := laws.snapshot(site, one))["released"] == 2 and s, 10, "they are counted")
            assert (last["seen"], last["quarantined"], last["delivered"]) == (2, 0, 0)
    if not runs:
        release()
    assert (elsewhere / "goes").read_bytes() == b"content of goes"
    assert aside(one, b"stays").read_bytes() == b"content of stays"
    assert listed(site) == []
    assert (laws.of(site, one)["in_quarantine"], laws.of(site, one)["history_released"]) == (0, 2)
    for path in ("one:stays", f"{aside(one, b'stays')}", "one:goes"):
        answer = site.ask("why", path)
        assert answer.returncode == 0
        assert "eleased by " in answer.stdout and "could not make way" in answer.stdout, answer.stdout
    record = json.loads(site.ask("why", "--json", "one:goes").stdout)
    assert record["releases"][0]["where"] == {"name": f"{elsewhere}/goes"}


def test_what_a_mirror_has_released_is_not_sent_until_it_changes(scratch: Path, sshd: PrivateSshd) -> None:
    site, one = laws.make(
        scratch,
        sshd,
        everywhere={"rsync_ssh": {"transfer_mode": "mirror"}},
        outgoing={"retry_count": 1},
        data_stream={"rescan_interval": 1},
    )
    try:
        with laws.lawful(site, one):
            quarantine(site, one, b"left", b"again")
            assert ask(site, "release", "one", "left").returncode == 0
            assert ask(site, "retry", "one", "again").returncode == 0
            wait_until(lambda: (one.target / "again").exists(), 10, "what is retried is delivered")
        with laws.lawful(site, one):
            scans = laws.snapshot(site, one)["since"]
            laws.put(one.source / "other", b"x")
            wait_until(lambda: (one.target / "other").exists(), 10, "the next process has seen all")
            assert laws.snapshot(site, one)["since"] >= scans
            assert not (one.target / "left").exists()
            answer = json.loads(site.ask("why", "--json", "one:left").stdout)
            assert (answer["action"], answer["reasons"][-1]["code"]) == ("ignore", "released")
            assert "not sent unless it changes" in site.ask("why", "one:left").stdout
            laws.put(one.source / "left", b"changed")
            wait_until(lambda: (one.target / "left").exists(), 10, "what has changed is delivered")
    finally:
        end_all(site)


def test_what_was_asked_of_a_process_that_was_killed_is_done_by_the_next(made: tuple[Site, Stream]) -> None:
    site, one = made
    agent = start(site)
    until_up(site, agent)
    promised = quarantine(site, one, b"a", b"b")
    agent.kill()
    key = requests.submit(state_of(site, "one"), Request(verb=Verb.RETRY, units=meant(one, b"a", b"b"), who="me"))
    with laws.lawful(site, one):
        laws.arrived(one, promised)
        answer = requests.take_answer(state_of(site, "one"), key)
        assert answer is not None
        assert all(ended.done for ended in answer)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_process_is_killed_while_it_puts_back_many(scratch: Path, sshd: PrivateSshd) -> None:
    """Again and again, until all are back: each is always in one place, and in the end delivered, once."""
    site, one = laws.make(scratch, sshd, outgoing={"retry_count": 1})
    names = [b"f%03d" % number for number in range(180)]
    agent = start(site)
    try:
        until_up(site, agent)
        promised = quarantine(site, one, *names)
        key = requests.submit(state_of(site, "one"), Request(verb=Verb.RETRY, units=meant(one, *names), who="me"))
        assert ring(state_of(site, "one"))
        kills = 0

        def some_are_back() -> bool:
            left = sum(1 for name in os.listdir(one.source / "quarantine") if not name.endswith(".reason"))
            return left < len(names) - 30 * kills or not requests.pending(state_of(site, "one"))

        def is_up() -> int | None:
            # Asked to hurry again and again: the master may not have noticed the death yet.
            return stream_pid(site, "one", agent.pid) or agent.reload()

        while requests.pending(state_of(site, "one")) and kills < 4:
            pid = wait_until(is_up, 20, "the stream is up", every=0.2)
            # Some of them are back then, and others are not.
            wait_until(some_are_back, 20, "some are put back", every=0.001)
            kill(pid)
            kills += 1
            laws.somewhere(one, promised)
        assert kills
        laws.arrived(one, promised, timeout=60)
        wait_until(lambda: not requests.pending(state_of(site, "one")), 20, "it is answered")
        assert requests.take_answer(state_of(site, "one"), key) is not None
        assert listed(site) == []
        assert agent.stop() == 0
    finally:
        agent.kill()
        end_all(site)
    delivered = [record["name"] for record in site.history()]
    assert sorted(delivered) == sorted(map(os.fsdecode, names))


def test_a_process_that_does_not_answer_is_waited_for_no_longer_than_was_said(made: tuple[Site, Stream]) -> None:
    site, one = made
    with laws.lawful(site, one):
        promised = quarantine(site, one, b"f")
        pid = stream_pid(site, "one")
        assert pid is not None
        os.kill(pid, 19)
        try:
            done = ask(site, "retry", "one", "f", "--timeout", "0.2")
        finally:
            os.kill(pid, 18)
        assert done.returncode == 1
        assert "has not answered yet" in done.stderr
        laws.arrived(one, promised)

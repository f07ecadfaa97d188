"""Streams with several targets: each gets everything at its own pace; a file leaves when all that must have it do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

import agents
from fan_outs import fan_out, target, there
from mistamover.testing.sshd import PrivateSshd
from support import Site, contents, wait_until

FILES = 200


def fill(directory: Path, names: Iterable[str]) -> dict[bytes, bytes]:
    """Write files; return their contents by name."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(100))
    return contents(directory)


def names(number: int = FILES) -> list[str]:
    return [f"d{i % 7}/f{i}" for i in range(number)]


def test_one_pass_delivers_to_all_and_then_removes(scratch: Path, sshd: PrivateSshd) -> None:
    site = Site(scratch, sshd, data_stream={"empty_directory_age": 0})
    stream = fan_out(site, "a", "b")
    made = fill(stream.source, [*names(), "odd\nname", "-dash"])
    (stream.source / "link").symlink_to("odd\nname")
    done = site.one_off(timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("a", "b"):
        found = there(site, name)
        assert {each: found[each] for each in made} == made
        assert os.readlink(target(site, name) / "link") == "odd\nname"
    assert not list(stream.source.iterdir())


def test_a_mirror_to_several_targets_keeps_its_files(scratch: Path, sshd: PrivateSshd) -> None:
    site = Site(scratch, sshd, rsync_ssh={"transfer_mode": "mirror"})
    stream = fan_out(site, "a", "b")
    made = fill(stream.source, names(50))
    done = site.one_off(timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert there(site, "a") == there(site, "b") == contents(stream.source) == made


def test_what_a_required_target_lacks_stays_and_leaves_when_it_has_it(scratch: Path, sshd: PrivateSshd) -> None:
    site = Site(scratch, sshd)
    stream = fan_out(site, "a", "b")
    made = fill(stream.source, names())
    target(site, "b").rmdir()
    target(site, "b").write_bytes(b"not a directory")
    with agents.agent_of(site):
        wait_until(lambda: there(site, "a") == made, 30, "the healthy target has it all")
        wait_until(lambda: "b" in str(site.status()), 10, "the status names the dead target")
        assert contents(stream.source) == made
        target(site, "b").unlink()
        wait_until(lambda: there(site, "b") == made, 60, "the other target has it all")
        wait_until(lambda: not contents(stream.source), 30, "all has left")
        # And what comes later goes at once.
        (stream.source / "late").write_bytes(b"x")
        wait_until(lambda: not (stream.source / "late").exists(), 30, "the late one has left")
    assert there(site, "a") == there(site, "b")


def test_a_target_that_is_not_required_holds_up_nothing(scratch: Path, sshd: PrivateSshd) -> None:
    site = Site(scratch, sshd)
    stream = fan_out(site, "a", "b", extra={"b": {"required": False, "port": 1}})
    made = fill(stream.source, names())
    with agents.agent_of(site):
        wait_until(lambda: not contents(stream.source), 30, "all has left")
    assert there(site, "a") == made


def test_a_file_that_changes_between_two_deliveries_stays_until_both_have_it(scratch: Path, sshd: PrivateSshd) -> None:
    site = Site(scratch, sshd)
    stream = fan_out(site, "a", "b")
    (stream.source / "f").write_bytes(b"old")
    stop = target(site, "b") / ".stop"
    stop.touch()
    with agents.agent_of(site):
        wait_until((target(site, "a") / "f").exists, 30, "one target has the old one")
        (stream.source / "f").write_bytes(b"newer")
        stop.unlink()
        wait_until(lambda: not (stream.source / "f").exists(), 30, "it has left")
    assert (target(site, "a") / "f").read_bytes() == (target(site, "b") / "f").read_bytes() == b"newer"


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing(scratch: Path, sshd: PrivateSshd) -> None:
    site = Site(scratch, sshd)
    stream = fan_out(site, "a", "b")
    made: dict[bytes, bytes] = {}
    for round_ in range(6):
        made |= fill(stream.source, [f"r{round_}/f{i}" for i in range(100)])
        with agents.agent_of(site) as agent:
            some = "ab"[round_ % 2]
            wait_until(lambda: len(there(site, some)) > 100 * round_ + 10 * round_, 30, "some are there")  # noqa: B023
            master = psutil.Process(agent.pid)
            for process in [*master.children(recursive=True), master]:
                with contextlib.suppress(psutil.NoSuchProcess):  # it was just ending by itself
                    process.send_signal(signal.SIGKILL)
            agent.process.wait(10)
        here, a, b = contents(stream.source), there(site, "a"), there(site, "b")
        for name, content in made.items():
            assert a.get(name) == b.get(name) == content or here.get(name) == content, name
    with agents.agent_of(site):
        wait_until(lambda: not contents(stream.source), 60, "all has left")
    assert there(site, "a") == there(site, "b") == made


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("targets = a b c", 'names "c", which has no subsection'),
        ("targets = a", "the key targets does not name it"),
        ("target_dri = /x", "unknown key of a target"),
        ("required = False", "none of them is required"),
        ("transfer_mode = mirror", "some of them move and some mirror"),
        ("target_dir = @", "two of them are"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(scratch: Path, sshd: PrivateSshd, change: str, words: str) -> None:
    site = Site(scratch, sshd)
    stream = fan_out(site, "a", "b")
    text = stream.file.read_text()
    if change.startswith("targets"):
        text = text.replace("targets = a b", change)
    elif change.startswith("required"):
        text = text.replace("[[a]]", "[[a]]\nrequired = False").replace("[[b]]", "[[b]]\nrequired = False")
    elif change.startswith("target_dir ="):
        text = text.replace(str(target(site, "b")), str(target(site, "a")))
    else:
        text = text.replace("[[b]]", f"[[b]]\n{change}")
    stream.file.write_text(text)
    done = site.one_off()
    assert done.returncode == 2
    assert words in done.stderr
    assert f"{stream.file}:" in done.stderr


def test_a_stream_is_paused_with_all_its_parts(scratch: Path, sshd: PrivateSshd) -> None:
    site = Site(scratch, sshd)
    stream = fan_out(site, "a", "b")
    assert site.ask("pause", "one").returncode == 0
    with agents.agent_of(site):
        (stream.source / "f").write_bytes(b"x")
        wait_until(lambda: str(site.status()).count("PAUSED") == 2, 20, "both parts say that they are paused")
        assert not there(site, "a") and not there(site, "b")
        assert site.ask("resume", "one").returncode == 0
        wait_until(lambda: not (stream.source / "f").exists(), 30, "it has left")
    assert there(site, "a") == there(site, "b") != {}


def test_why_tells_which_target_lacks_a_file(scratch: Path, sshd: PrivateSshd) -> None:
    site = Site(scratch, sshd)
    stream = fan_out(site, "a", "b", extra={"b": {"port": 1}})
    (stream.source / "f").write_bytes(b"x")
    with agents.agent_of(site):
        wait_until(lambda: there(site, "a"), 30, "one target has it")
        path = str(stream.source / "f")
        wait_until(lambda: "still lacking: one@b" in site.ask("why", path).stdout, 20, "why names the other one")

        def actions() -> list[str]:
            return [part["action"] for part in json.loads(site.ask("why", "--json", path).stdout)["parts"]]

        # It is tried again now and then, and waits in between.
        wait_until(lambda: actions() == ["done", "wait"], 20, "one target has it, the other one waits")
        assert "DONE" in site.ask("why", "one@a:f").stdout
    # The commands themselves say what they say when they are run in the process of the tests, with the same status.
    for words in (["status", "--json"], ["why", path], ["why", "nothing"], ["history"], ["history", "--nonsense"]):
        command, *rest = words
        alone, here = site.run(command, "-c", str(site.global_ini), *rest), site.ask(*words)
        assert (alone.stdout, alone.stderr, alone.returncode) == (here.stdout, here.stderr, here.returncode)


def test_a_ledger_that_begins_anew_is_read_anew(scratch: Path, sshd: PrivateSshd) -> None:
    site = Site(scratch, sshd)
    stream = fan_out(site, "a", "b")

    def leaves(name: str) -> None:
        (stream.source / name).write_bytes(b"x")
        wait_until(lambda: not (stream.source / name).exists(), 30, f"{name} has left")

    with agents.agent_of(site):
        for number in range(3):
            leaves(f"f{number}")
    for name in ("one@a", "one@b"):
        for path in agents.state_of(site, name).glob("ledger.sqlite*"):
            path.unlink()
    with agents.agent_of(site):
        leaves("late")
    assert there(site, "a") == there(site, "b")

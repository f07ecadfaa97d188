"""Odd names and odd things that people really have: each is delivered, or told about, and harms no other."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import agent_of, ask_ledger, end_all, log_of, said_by, stream_pid, until_up
from mistamover.testing.sshd import PrivateSshd
from support import Site, Stream, contents, wait_until


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[Site]:
    quick = {"settle_time": 0.3, "rescan_interval": 0.5, "empty_directory_age": 0.5}
    made = Site(tmp_path, sshd, data_stream=quick)
    yield made
    end_all(made)


def until_moved(stream: Stream, *names: str, timeout: float = 8) -> None:
    def moved() -> bool:
        return all(os.path.lexists(stream.target / n) and not os.path.lexists(stream.source / n) for n in names)

    wait_until(moved, timeout, f"{names} are moved")


def hold(site: Site, stream: Stream) -> None:
    """Have the stream pause."""
    (stream.source / ".stop").touch()
    wait_until(lambda: (s := said_by(site, stream.name)) and s.hold, 10, "the stream pauses")


def go_on(stream: Stream) -> None:
    (stream.source / ".stop").unlink()


@pytest.mark.parametrize("name", ["#emacs#", ";x", "#dir/f"])
def test_names_that_look_like_comments(site: Site, name: str) -> None:
    one = site.add("one")
    with agent_of(site):
        (one.source / name).parent.mkdir(exist_ok=True)
        (one.source / name).write_bytes(b"x")
        until_moved(one, name, timeout=10)


def test_a_file_in_the_place_of_a_pipe(site: Site) -> None:
    one = site.add("one")
    with agent_of(site):
        os.mkfifo(one.source / "x")
        wait_until(lambda: (s := said_by(site, "one")) and s.ignored == 1, 10, "the pipe is ignored")
        (one.source / "x").unlink()
        (one.source / "x").write_bytes(b"data")
        until_moved(one, "x", timeout=10)


def test_a_file_in_the_place_of_an_ignored_link(site: Site) -> None:
    one = site.add("one", data_stream={"symlinks": "ignore"})
    with agent_of(site):
        (one.source / "latest").symlink_to("nowhere")
        wait_until(lambda: (s := said_by(site, "one")) and s.ignored == 1, 10, "the link is ignored")
        (one.source / "new").write_bytes(b"data")
        (one.source / "new").replace(one.source / "latest")
        until_moved(one, "latest", timeout=10)


def test_a_directory_in_the_place_of_a_waiting_file(site: Site) -> None:
    patient = {"rescan_interval": 60, "empty_directory_age": 10}
    one = site.add("one", data_stream=patient, outgoing={"retry_count": 1})
    with agent_of(site):
        hold(site, one)
        (one.source / "x").write_bytes(b"old")
        wait_until(lambda: "x" in [u.name for u in said_by(site, "one").undelivered], 10, "x waits")  # type: ignore[union-attr]
        (one.source / "x").unlink()
        (one.source / "x").mkdir()
        (one.source / "x" / "f").write_bytes(b"new")
        with open(one.source / "x" / "open", "wb"):  # so that the directory stays
            go_on(one)
            until_moved(one, "x/f")
            # The pause of a target that is held for broken is a second: whoever is delivered now was not held up.
            for number in range(8):
                (one.source / f"y{number}").write_bytes(b"y")
                until_moved(one, f"y{number}")
    assert "rsync said that all went well" not in log_of(site, "dtc_one")
    assert not (one.source / "quarantine").exists()


def test_a_link_in_the_place_of_a_waiting_file(site: Site) -> None:
    one = site.add("one")
    with agent_of(site):
        hold(site, one)
        (one.source / "x").write_bytes(b"old")
        wait_until(lambda: "x" in [u.name for u in said_by(site, "one").undelivered], 10, "x waits")  # type: ignore[union-attr]
        (one.source / "x").unlink()
        (one.source / "x").symlink_to("/nowhere")
        go_on(one)
        until_moved(one, "x")
        assert (one.target / "x").is_symlink()


@pytest.fixture
def grudging(site: Site) -> Iterator[Path]:
    """A directory from which nothing can be removed, not even by root."""
    directory = site.directory / "data" / "one" / "keeps"
    yield directory
    if directory.exists():
        subprocess.run(["chattr", "-a", directory], check=False)


def test_what_cannot_be_removed_is_not_sent_without_end(site: Site, grudging: Path) -> None:
    one = site.add("one")
    grudging.mkdir()
    if shutil.which("chattr") is None or subprocess.run(["chattr", "+a", grudging], check=False).returncode:
        pytest.skip("this filesystem knows no append-only directories")
    with agent_of(site):
        (grudging / "f").write_bytes(b"x")
        wait_until(lambda: "cannot be removed here" in log_of(site, "dtc_one"), 10, "it is told")
        for number in range(3):
            (one.source / f"other {number}").write_bytes(b"x")
            until_moved(one, f"other {number}")
    [(times,)] = ask_ledger(site, "one", "SELECT count(*) FROM delivery WHERE name = CAST('keeps/f' AS BLOB)")
    assert times <= 3


def test_things_that_are_no_files_harm_nothing(site: Site) -> None:
    one = site.add("one")
    with agent_of(site), socket.socket(socket.AF_UNIX) as listener:
        os.mkfifo(one.source / "pipe")
        listener.bind(os.path.relpath(one.source / "socket"))
        (one.source / "self").symlink_to("self")
        os.link(one.source / "self", one.source / "again", follow_symlinks=False)
        (one.source / "f").write_bytes(b"x")
        until_moved(one, "f", "self", "again")
        assert (one.source / "pipe").exists() and (one.source / "socket").exists()


def test_any_name_goes(site: Site) -> None:
    one = site.add("one")
    names = [
        b"new\nline",
        b"\xff\xfe",
        b"-rf",
        b" ",
        b"\\#012",
        b"\\#134#012",
        b"a|b",
        b"x" * 255,
        b"'\"$(id)`",
        b"\r",
        b"*",
    ]
    names += [b"d" * 255 + b"/" + b"e" * 255, b"\x7f\x1b[31m", b"--files-from=x", b"a:b", b"%n"]
    with agent_of(site):
        for name in names:
            path = os.fsencode(one.source) + b"/" + name
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(name)
        expected = set(names)
        wait_until(lambda: contents(one.target).keys() >= expected, 15, "all are there")
        wait_until(lambda: not contents(one.source), 15, "all are gone here")
    assert {n for (n,) in ask_ledger(site, "one", "SELECT name FROM delivery WHERE kind = 'file'")} == expected


def test_hard_links_stay_one_file(site: Site) -> None:
    one = site.add("one")
    with agent_of(site):
        hold(site, one)
        (one.source / "a").write_bytes(b"data")
        os.link(one.source / "a", one.source / "b")
        go_on(one)
        until_moved(one, "a", "b")
    assert (one.target / "a").stat().st_ino == (one.target / "b").stat().st_ino
    assert ask_ledger(site, "one", "SELECT count(*) FROM delivery") == [(2,)]


def test_the_watched_directory_goes_away_and_comes_back(site: Site) -> None:
    one = site.add("one")
    with agent_of(site):
        one.source.rename(one.source.with_name("away"))
        wait_until(lambda: (s := said_by(site, "one")) and s.last_error, 10, "it is told")
        one.source.mkdir()
        (one.source / "f").write_bytes(b"x")
        until_moved(one, "f", timeout=15)


def test_completion_survives_a_kill(site: Site) -> None:
    """The completion file has gone, the rest has not: a new process must end the stream all the same."""
    one = site.add("one", data_stream={"completion_file": "DONE"})
    with agent_of(site) as agent:
        (one.source / "late.tmp").write_bytes(b"x")
        with open(one.source / "late", "wb") as late:
            (one.source / "DONE").touch()
            until_moved(one, "DONE")
            pid = until_up(site, agent)["one"]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: (p := stream_pid(site, "one", agent.pid)) and p != pid, 15, "it is back")
            late.write(b"data")
        until_moved(one, "late")
        (one.source / "late.tmp").unlink()
        wait_until(lambda: (s := said_by(site, "one")) and s.state.value == "COMPLETE", 10, "the stream is complete")

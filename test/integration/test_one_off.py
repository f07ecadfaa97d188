"""One-off runs: deliver what is there, say what could not be, and end with the right status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agents import alive, ask_ledger, end_all, master_report, none_left, said_by, start
from mistamover.testing.sshd import PrivateSshd
from support import TOP, Site, contents, free_port, wait_until

DATA = TOP / "test" / "data"


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[Site]:
    made = Site(tmp_path, sshd)
    yield made
    end_all(made)


@contextmanager
def writer(path: Path) -> Iterator[None]:
    """A process that holds a file open for writing."""
    words = "import sys; f = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"
    argv = [sys.executable, "-c", words, path]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"open\n"
        try:
            yield
        finally:
            process.communicate()


# -- status 0 ---------------------------------------------------------------------------------


def test_everything_is_delivered(site: Site) -> None:
    site.write_global(data_stream={"empty_directory_age": 0.5})
    streams = [site.add("one"), site.add("two", rsync_ssh={"transfer_mode": "mirror"}), site.add("three")]
    for stream in streams:
        (stream.source / "d").mkdir()
        for number in range(20):
            (stream.source / "d" / f"f {number}").write_bytes(os.urandom(100))
    before = [contents(stream.source) for stream in streams]
    site.add("none", outgoing={"transfer_protocol": "none"})
    (site.directory / "data" / "none" / "stays").touch()
    done = site.one_off()
    assert (done.returncode, done.stderr) == (0, "")
    assert [contents(stream.target) for stream in streams] == before
    assert [bool(contents(stream.source)) for stream in streams] == [False, True, False]
    assert "one: 20 delivered" in done.stdout and "none: not run" in done.stdout
    assert (site.directory / "data" / "none" / "stays").exists()
    none_left(site)


def test_nothing_to_do(site: Site) -> None:
    site.add("one")
    done = site.one_off()
    assert (done.returncode, done.stderr) == (0, "")


def test_no_stream(site: Site) -> None:
    done = site.one_off()
    assert done.returncode == 0, done.stderr


def test_twice_is_as_once(site: Site) -> None:
    one = site.add("one", rsync_ssh={"transfer_mode": "mirror"})
    (one.source / "f").write_bytes(b"x")
    for _ in range(2):
        assert site.one_off().returncode == 0
    assert ask_ledger(site, "one", "SELECT count(*) FROM delivery") == [(1,)]


# -- status 1 ---------------------------------------------------------------------------------


def test_a_file_that_is_open_is_left_and_named(site: Site) -> None:
    one = site.add("one", data_stream={"settle_time": 0})
    for name in ("open", "closed"):
        (one.source / name).write_bytes(b"x")
    with writer(one.source / "open"):
        done = site.one_off()
    assert done.returncode == 1
    assert "one: not delivered: open: a process has it open for writing" in done.stderr
    assert "closed" not in done.stderr
    assert (contents(one.source).keys(), contents(one.target).keys()) == ({b"open"}, {b"closed"})


def test_a_host_that_cannot_be_reached(site: Site) -> None:
    bad = site.add("bad", outgoing={"retry_count": 1}, rsync_ssh={"port": free_port(), "ssh_config": None})
    good = site.add("good")
    for stream in (bad, good):
        (stream.source / "f").write_bytes(b"x")
    done = site.one_off()
    assert done.returncode == 1
    assert "bad: not delivered: f: " in done.stderr and "cannot connect" in done.stderr
    assert contents(good.target).keys() == {b"f"}
    assert (bad.source / "f").exists()


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_stop_file(site: Site, where: str) -> None:
    one = site.add("one")
    ((one.source if where == "here" else one.target) / ".stop").touch()
    (one.source / "f").write_bytes(b"x")
    done = site.one_off()
    assert done.returncode == 1
    assert "one: not delivered: f: .stop is in " in done.stderr
    assert (one.source / "f").exists()


def test_what_was_quarantined_is_named(site: Site) -> None:
    one = site.add("one", outgoing={"retry_count": 1})
    (one.target / "f").mkdir()
    (one.target / "f" / "full").touch()
    (one.source / "f").write_bytes(b"x")
    (one.source / "g").write_bytes(b"x")
    done = site.one_off()
    assert done.returncode == 1
    assert "one: quarantined: f: " in done.stderr
    assert (one.source / "quarantine" / "f").read_bytes() == b"x"
    assert (one.target / "g").exists()


def test_a_stream_that_cannot_start_is_not_shown_with_an_earlier_success(site: Site) -> None:
    one = site.add("one")
    (one.source / "f").write_bytes(b"x")
    assert site.one_off().returncode == 0
    for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"):
        (site.state / "streams" / "one" / name).unlink(missing_ok=True)
    (site.state / "streams" / "one" / "ledger.sqlite").write_bytes(b"rubbish" * 1000)
    (one.source / "g").write_bytes(b"x")
    done = site.one_off()
    assert done.returncode == 1
    assert "1 delivered" not in done.stdout
    assert "Traceback" not in done.stderr


# -- status 2 ---------------------------------------------------------------------------------


def test_every_problem_of_the_configuration_is_listed(site: Site) -> None:
    one = site.add("one", outgoing={"retry_count": "many"}, rsync_ssh={"transfer_mode": "teleport"})
    site.add("two", data_stream={"settle_time": "soon"})
    site.write_global(logging={"log_level": "LOUD"})
    (one.source / "f").write_bytes(b"x")
    done = site.one_off()
    assert (done.returncode, done.stdout) == (2, "")
    for words in (
        "retry_count",
        "transfer_mode",
        "settle_time",
        "log_level",
        "ds_one.ini:",
        "ds_two.ini:",
        "global.ini:",
    ):
        assert words in done.stderr, words
    assert (one.source / "f").exists()
    assert not (site.state / "streams").exists()


def test_no_configuration_and_wrong_words(site: Site) -> None:
    missing = site.run("--one-off", str(site.directory / "none.ini"))
    assert (missing.returncode, "none.ini" in missing.stderr, "Traceback" in missing.stderr) == (2, True, False)
    assert site.run("--one-off", "--daemon", str(site.global_ini)).returncode == 2
    assert site.run("--no-such-word").returncode == 2


# -- ways to call it --------------------------------------------------------------------------


def test_from_a_checkout(site: Site) -> None:
    one = site.add("one")
    (one.source / "f").write_bytes(b"x")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    argv = [sys.executable, TOP / "bin" / "mistamover.py", "--one-off", site.global_ini]
    done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (one.target / "f").exists()


@pytest.mark.parametrize("way", ["default", "variable", "word wins"])
def test_which_configuration(site: Site, way: str) -> None:
    one = site.add("one")
    (one.source / "f").write_bytes(b"x")
    environment, words = site.environment(), []
    if way == "variable":
        environment["MISTAMOVER_CONFIG"] = str(site.global_ini)
    if way == "word wins":
        environment["MISTAMOVER_CONFIG"] = "/nowhere"
        words = [str(site.global_ini)]
    done = subprocess.run(
        site.command("--one-off", *words),
        env=environment,
        cwd=site.directory if way == "default" else "/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (one.target / "f").exists()


# -- the original's files ---------------------------------------------------------------------


class Seeds:
    """The two INI files as they were printed, with paths, user and port of this machine."""

    def __init__(self, directory: Path, sshd: PrivateSshd, way: str) -> None:
        self.directory = directory
        conf = directory / "mistamover" / "conf"
        self.global_ini = conf / "global.ini"
        self.source = directory / "work" / "outgoing" / "my_outputs"
        self.target = directory / "work" / "remote" / "my_outputs"
        for path in (conf, self.source, self.target):
            path.mkdir(parents=True)
        texts = [(DATA / name).read_text() for name in ("seed_global.ini", "seed_stream.ini")]
        self.environ = {
            "CONFIG__rsync_ssh__port": str(sshd.port),
            "CONFIG__rsync_ssh__ssh_config": str(sshd.ssh_config),
            "CONFIG__outgoing__target_host": sshd.host,
            "CONFIG__rsync_ssh__cmd": shutil.which("rsync") or "rsync",
        }
        if way == "text":
            texts = [text.replace("/home/users/me", str(directory)).replace("= ME", f"= {sshd.user}") for text in texts]
        else:
            self.environ["CONFIG__global__homedir"] = str(directory)
            self.environ["CONFIG__global__top"] = f"{directory}/work"
            self.environ["CONFIG__rsync_ssh__username"] = sshd.user
        # The one key that this version cannot serve, and the stream's file sets it right itself.
        for path, text in zip((self.global_ini, conf / "ds_my_outputs.ini"), texts, strict=True):
            path.write_text(text)
            path.chmod(0o400)


@pytest.mark.parametrize("way", ["text", "environment"])
def test_seeds_run_once(tmp_path: Path, sshd: PrivateSshd, way: str) -> None:
    seeds, runner = Seeds(tmp_path / "home", sshd, way), Site(tmp_path)
    (seeds.source / "a file").write_bytes(b"data")
    argv = runner.command("--one-off", str(seeds.global_ini))
    environment = {**runner.environment(), **seeds.environ}
    done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (seeds.target / "a file").read_bytes() == b"data"
    assert (seeds.source / "a file").exists()  # a mirror


def test_seeds_run_as_a_service(tmp_path: Path, sshd: PrivateSshd) -> None:
    seeds, runner = Seeds(tmp_path / "home", sshd, "text"), Site(tmp_path)
    agent = start(runner, command=runner.command(str(seeds.global_ini)), env=seeds.environ)
    try:
        wait_until(lambda: agent.process.poll() is not None or "stream my_outputs" in agent.said(), 15, "it is up")
        (seeds.source / "late").write_bytes(b"data")
        wait_until(lambda: (seeds.target / "late").exists(), 15, f"the file is there:\n{agent.said()}")
        assert agent.stop() == 0, agent.said()
    finally:
        agent.kill()
        end_all(runner)
    assert (seeds.target / "late").read_bytes() == b"data"


# -- faults of its own ------------------------------------------------------------------------


def test_a_stream_that_is_killed_starts_again_and_delivers(tmp_path: Path, sshd: PrivateSshd) -> None:
    site = Site(tmp_path, sshd, rsync_ssh={"bandwidth_limit": "2000"})
    one = site.add("one")
    (one.source / "big").write_bytes(os.urandom(4 << 20))
    agent = start(site, "--one-off", str(site.global_ini))
    try:
        last = wait_until(lambda: (s := said_by(site, "one")) and s.sending and s, 15, "it sends")
        os.kill(last.pid, 9)
        assert agent.process.wait(30) == 0, agent.said()
    finally:
        agent.kill()
        end_all(site)
    assert (one.target / "big").stat().st_size == 4 << 20
    assert not (one.source / "big").exists()


def test_interrupted_by_a_signal_it_says_so(tmp_path: Path, sshd: PrivateSshd) -> None:
    site = Site(tmp_path, sshd, rsync_ssh={"bandwidth_limit": "200"}, **{"global": {"stop_timeout": 1}})
    one = site.add("one")
    (one.source / "big").write_bytes(os.urandom(4 << 20))
    agent = start(site, "--one-off", str(site.global_ini))
    try:
        wait_until(lambda: (s := said_by(site, "one")) and s.sending, 15, "it sends")
        assert agent.stop(15) == 1
        assert "stopped by a signal" in agent.said()
        report = master_report(site)
        assert report is None or not alive(report.pid)
    finally:
        agent.kill()
        end_all(site)
    assert (one.source / "big").exists()
    none_left(site)

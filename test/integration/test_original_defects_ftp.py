"""Every defect that the original is known for on ftp, one test each: ours does not have it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import laws
from agents import agent_of, stream_pid, words_of
from laws import Witness
from mistamover.testing.ftpd import PASSWORD, PrivateFtpd
from servers import make
from small_disks import mounted
from support import wait_until


@pytest.fixture
def mortal(ftpd: PrivateFtpd, tmp_path: Path) -> Iterator[PrivateFtpd]:
    """A server of its own, which may be stopped, paused and started."""
    with PrivateFtpd(tmp_path / "server", Path("/")) as made:
        yield made


# -- data loss --------------------------------------------------------------------------------


def test_a_put_that_fails_removes_the_source(ftpd: PrivateFtpd, scratch: Path) -> None:
    """The program's exit status was 0 whatever had happened."""
    site, one = make(scratch, ftpd, outgoing={"retry_count": 1})
    laws.put(one.target / "taken/by a directory", b"x")
    promised = {b"taken": laws.put(one.source / "taken", b"content"), b"f": laws.put(one.source / "f", b"content")}
    site.one_off()
    laws.somewhere(one, promised)
    assert (one.source / "quarantine/taken").read_bytes() == b"content"
    assert set(laws.public(one)) == {b"f", b"taken/by a directory"}


def test_a_full_disk_removes_the_source(ftpd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpd)
    with mounted(one.target, mib=2):
        content = laws.put(one.source / "f", os.urandom(4 << 20))
        with agent_of(site):
            wait_until(lambda: laws.snapshot(site, one).get("state") == "UNREACHABLE", 20, "it says so")
        assert laws.contents(one.source) == {b"f": content}
        assert not laws.public(one)
    assert "breaks the transfer off" in laws.logs(site)


def test_lines_are_translated(ftpd: PrivateFtpd, scratch: Path) -> None:
    """It never said `binary`."""
    site, one = make(scratch, ftpd)
    content = bytes(range(256)) * 10 + b"a\nb\r\nc\r"
    promised = {b"f": laws.put(one.source / "f", content)}
    assert site.one_off().returncode == 0
    assert laws.public(one) == promised


def test_files_are_written_in_place(ftpd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpd)
    versions = (os.urandom(8 << 20), os.urandom(9 << 20))
    with Witness(laws.only_versions(one.target / "f", *versions)) as witness, laws.lawful(site, one):
        for version in versions:
            laws.arrived(one, {b"f": laws.put(one.source / "f", version)}, timeout=20)
    witness.swear()


# -- liveness ---------------------------------------------------------------------------------


def test_a_server_that_is_silent_stops_everything_for_ever(mortal: PrivateFtpd, scratch: Path) -> None:
    """No command had a time limit; and while it waits it can be ended."""
    site, one = make(scratch, mortal)
    site.write_global(**{"global": {"stop_timeout": 1}})
    with agent_of(site) as agent:
        laws.put(one.source / "first", b"x")
        wait_until(lambda: not (one.source / "first").exists(), 10, "it has gone")
        mortal.pause()
        laws.put(one.source / "second", b"x")
        wait_until(lambda: laws.snapshot(site, one).get("sending") or laws.waiting(site, one), 10, "it tries")
        try:
            assert agent.stop(30) == 0
        finally:
            mortal.resume()
    assert (one.source / "second").exists() != (one.target / "second").exists()


def test_a_server_that_is_down_looks_like_a_stop_file(mortal: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, mortal)
    mortal.stop()
    laws.put(one.source / "f", b"x")
    with agent_of(site):
        wait_until(lambda: laws.snapshot(site, one).get("state") == "UNREACHABLE", 20, "it says so")
        mortal.start()
        wait_until(lambda: (one.target / "f").exists(), 30, "it goes on by itself")
    assert "refused" in laws.logs(site)


@pytest.mark.parametrize("how", [(), ("old",)])
def test_the_stop_file_is_known_by_one_servers_words(scratch: Path, tmp_path: Path, how: tuple[str, ...]) -> None:
    with PrivateFtpd(tmp_path / "server", Path("/"), how=how) as server:
        site, one = make(scratch, server)
        (one.target / ".stop").touch()
        with agent_of(site):
            laws.put(one.source / "f", b"x")
            wait_until(lambda: laws.snapshot(site, one).get("state") == "SUSPENDED", 10, "it is seen")
            assert not (one.target / "f").exists()
            (one.target / ".stop").unlink()
            wait_until(lambda: (one.target / "f").exists(), 10, "it goes on")


def test_what_is_refused_kills_the_stream(ftpd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpd, outgoing={"retry_count": 1})
    with agent_of(site) as agent:
        pid = stream_pid(site, "one", agent.pid)
        laws.put(one.source / "new\nline", b"x")
        wait_until(lambda: (one.source / "quarantine/new\nline").exists(), 10, "it is set aside")
        laws.put(one.source / "f", b"x")
        wait_until(lambda: (one.target / "f").exists(), 10, "others go")
        assert stream_pid(site, "one", agent.pid) == pid


# -- safety -----------------------------------------------------------------------------------


def test_names_are_read_by_a_program(ftpd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpd)
    names = (b"a b", b"x;touch PWNED;y", b"a'b\"c", b"-rf", b"*", b" blanks ", b"!touch PWNED")
    promised = {name: laws.put(os.fsencode(one.source) + b"/" + name, name) for name in names}
    assert site.one_off().returncode == 0
    assert laws.public(one) == promised
    assert not list(scratch.rglob("PWNED"))


def test_the_password_is_in_temporary_files(ftpd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpd)
    with agent_of(site):
        laws.put(one.source / "f", b"x")
        wait_until(lambda: (one.target / "f").exists(), 10, "it has gone")
        words = [word for words in words_of(site) for word in words]
        paths = [path for top in (site.state, site.logs) for path in top.rglob("*")]
        assert not any(PASSWORD.encode() in path.read_bytes() for path in paths if path.is_file())
    assert not any(PASSWORD in word for word in words)


# -- semantics --------------------------------------------------------------------------------


def test_a_control_file_is_made_that_nobody_asked_for(ftpd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpd, data_stream={"dot_files": "send"})
    with Witness(lambda: [name for name in os.listdir(one.source) if name not in ("f", "quarantine")]) as witness:
        laws.put(one.source / "f", b"x")
        assert site.one_off().returncode == 0
    witness.swear()
    assert set(laws.public(one)) == {b"f"}


def test_one_program_is_run_whatever_cmd_says(ftpd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpd, keys={"cmd": "/no/such/ftp -n"})
    promised = {b"f": laws.put(one.source / "f", b"x")}
    done = site.one_off()
    assert done.returncode == 0
    assert laws.public(one) == promised
    assert "no program is run for ftp" in done.stdout + done.stderr + laws.logs(site)

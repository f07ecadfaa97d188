"""What the original did wrong with rsync daemons: one test for each, named after what must not happen any more."""

from __future__ import annotations

import os
from pathlib import Path

import laws
from agents import agent_of, stream_pid, words_of
from integration.test_rsync_native import site_of
from mistamover.testing.rsyncd import PrivateRsyncd
from support import wait_until


def test_the_password_is_in_temporary_files(rsyncd: PrivateRsyncd, scratch: Path) -> None:
    site, one = site_of(scratch, rsyncd, rsync_native={"password_file": None, "password": f'"{rsyncd.password}"'})
    password = rsyncd.password.encode()

    def holding() -> list[Path]:
        paths = [path for top in (site.state, site.logs) for path in top.rglob("*")]
        return [path for path in paths if path.is_file() and password in path.read_bytes()]

    with agent_of(site):
        laws.put(one.source / "f", b"x")
        wait_until(lambda: (one.target / "f").exists(), 20, "it has gone")
        words = [word for words in words_of(site) for word in words]
        # rsync takes it from a file only: one of our own, in our own directory, for as long as it is needed.
        for path in holding():
            assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700, path
    assert not any(rsyncd.password in word for word in words)
    assert not holding()


def test_what_is_refused_kills_the_stream(rsyncd: PrivateRsyncd, scratch: Path) -> None:
    site, one = site_of(scratch, rsyncd, outgoing={"retry_count": 1})
    (one.target / "taken/by a directory").mkdir(parents=True)
    with agent_of(site) as agent:
        pid = stream_pid(site, "one", agent.pid)
        laws.put(one.source / "taken", b"x")
        laws.put(os.fsencode(one.source) + b"/f", b"x")
        wait_until(lambda: (one.source / "quarantine/taken").exists(), 20, "it is set aside")
        wait_until(lambda: (one.target / "f").exists(), 20, "others go")
        assert stream_pid(site, "one", agent.pid) == pid

"""Targets that give less than usual, by the best way left: restricted keys, bastions, an old rsync at the far end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import laws
from agents import agent_of, algorithms, log_of
from integration.test_rsync_native import make_files
from mistamover.testing.sshd import PrivateSshd
from support import Site, Stream, contents, wait_until

#: A far rsync that can prove files by md5 only, as one before 3.2.
OLD_RSYNC = """#!/bin/sh
RSYNC_CHECKSUM_LIST=md5 exec rsync "$@"
"""


def restricted(scratch: Path, options: Sequence[str] = ()) -> PrivateSshd:
    """Return a server on which every login runs rrsync, for the targets of a site."""
    program = shutil.which("rrsync")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("rrsync is not installed")
        pytest.skip("rrsync is not installed")
    (scratch / "remote").mkdir(exist_ok=True)
    command = " ".join([program, *options, os.fspath(scratch / "remote")])
    return PrivateSshd(scratch / "restricted", options=[f"ForceCommand {command}"])


def site_of(scratch: Path, server: PrivateSshd, **sections: Any) -> tuple[Site, Stream]:
    """Return a site whose stream goes to a directory as the restricted login names it."""
    sections["outgoing"] = {"target_dir": "one", **sections.get("outgoing", {})}
    return laws.make(scratch, server, **sections)


@pytest.mark.parametrize("mode", ["move", "mirror"])
def test_a_restricted_key_and_nothing_is_lost(sshd: PrivateSshd, scratch: Path, mode: str) -> None:
    # With rrsync's own lock: one rsync at a time.
    with restricted(scratch, [] if mode == "move" else ["-no-lock"]) as server:
        site, one = site_of(scratch, server, rsync_ssh={"transfer_mode": mode, "bandwidth_limit": "800"})
        promised = make_files(one, 500)
        with agent_of(site) as agent:
            wait_until(lambda: len(laws.public(one)) >= 20, 60, "some are there")
            server.restart()
            wait_until(lambda: len(laws.public(one)) >= 100, 60, "more are there")
            agent.kill()
        laws.somewhere(one, promised)
        site.add("one", rsync_ssh={"transfer_mode": mode}, outgoing={"target_dir": "one"})
        with laws.lawful(site, one, timeout=60):
            if mode == "move":
                laws.arrived(one, promised, timeout=60)
            else:
                wait_until(lambda: laws.public(one) == promised, 60, "all are there")
                assert contents(one.source) == promised
        assert log_of(site, "dtc_one").count("going on by rsync alone") == 2


def test_a_restricted_key_sends_directories_as_zips(sshd: PrivateSshd, scratch: Path) -> None:
    with restricted(scratch) as server:
        site, one = site_of(scratch, server, data_stream={"transfer_unit": "directory"})
        laws.put(one.source / "unit/a", b"1")
        laws.put(one.source / "unit/sub/b", b"2")
        with laws.lawful(site, one, timeout=30):
            wait_until(lambda: (one.target / "unit.zip").exists(), 30, "the zip is there")
            wait_until(lambda: not os.listdir(one.source), 30, "the directory goes")
        assert (one.target / "unit.zip").stat().st_nlink == 1


@pytest.mark.parametrize("option", ["-wo", "-no-del", "-no-overwrite"])
def test_a_key_that_allows_even_less(sshd: PrivateSshd, scratch: Path, option: str) -> None:
    with restricted(scratch, [option]) as server:
        site, one = site_of(scratch, server)
        promised = make_files(one, 30)
        (one.target / ".stop").touch()
        with laws.lawful(site, one, timeout=30):
            wait_until(lambda: laws.snapshot(site, one).get("state") == "SUSPENDED", 30, "it waits for the stop file")
            assert len(laws.public(one)) == 1
            # One of them is there already, from an attempt that nobody knows of any more.
            laws.put(one.target / "d0/file 0", (one.source / "d0/file 0").read_bytes())
            (one.target / ".stop").unlink()
            laws.arrived(one, promised, timeout=30)
            laws.arrived(one, {b"late": laws.put(one.source / "late", b"late")}, timeout=30)


def test_a_bastion(scratch: Path) -> None:
    with PrivateSshd(scratch / "gate") as gate, PrivateSshd(scratch / "inner") as inner:
        both = scratch / "both"
        both.write_text(
            f"Host inner\n    HostName {inner.host}\n    Port {inner.port}\n    ProxyJump gate\n"
            f'    IdentityFile "{inner.key}"\n    UserKnownHostsFile "{inner.directory / "known_hosts"}"\n'
            f"Host gate\n    HostName {gate.host}\n    Port {gate.port}\n"
            f'    IdentityFile "{gate.key}"\n    UserKnownHostsFile "{gate.directory / "known_hosts"}"\n'
            f"Host *\n    User {gate.user}\n    IdentitiesOnly yes\n    IdentityAgent none\n"
            "    GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    BatchMode yes\n    LogLevel ERROR\n"
        )
        site, one = laws.make(
            scratch,
            inner,
            outgoing={"target_host": "inner"},
            rsync_ssh={"ssh_config": both, "port": None, "bandwidth_limit": "800"},
        )
        promised = make_files(one, 500)
        with agent_of(site) as agent:
            wait_until(lambda: len(laws.public(one)) >= 20, 60, "some are there")
            gate.kill_sessions()
            wait_until(lambda: len(laws.public(one)) >= 100, 60, "more are there")
            agent.kill()
        laws.somewhere(one, promised)
        site.add("one", outgoing={"target_host": "inner"}, rsync_ssh={"ssh_config": both, "port": None})
        with laws.lawful(site, one, timeout=60):
            laws.arrived(one, promised, timeout=60)


def test_an_old_rsync_at_the_far_end(sshd: PrivateSshd, scratch: Path) -> None:
    old = scratch / "rsync-3.1"
    old.write_text(OLD_RSYNC)
    old.chmod(0o755)
    site, one = laws.make(scratch, sshd, rsync_ssh={"cmd": f"rsync --rsync-path={old}"})
    promised = make_files(one, 30) | {b"large": laws.put(one.source / "large", os.urandom(20 << 20))}
    with laws.lawful(site, one, timeout=30):
        laws.arrived(one, promised, timeout=30)
    assert set(algorithms(site).values()) == {"md5"}
    assert "does not know xxh128: using md5" in log_of(site, "dtc_one")

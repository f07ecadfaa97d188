"""rsync_ssh to a host that has a shell and no rsync: it works all the same, and says so once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import laws
from mistamover.testing.sshd import PrivateSshd, available

#: What our shell and receiver use at the target.
_PROGRAMS = ("sh", "mkdir", "find", "rm", "rmdir", "stat", "sync", "cp", "xargs", "python3", "cat", "chrt", "nproc")


@pytest.fixture
def bare(sshd: PrivateSshd, tmp_path: Path) -> Iterator[PrivateSshd]:
    """A server whose sessions find no rsync."""
    assert available() is None
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in _PROGRAMS:
        found = shutil.which(name)
        if found is not None:
            (programs / name).symlink_to(found)
    place = tmp_path / "bare"
    with PrivateSshd(place, options=(f'SetEnv "HOME={place / "home"}" "PATH={programs}"',)) as server:
        yield server


def test_a_stream_to_a_host_without_rsync(bare: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, bare)
    promised = {b"d/f %d" % n: laws.put(one.source / f"d/f {n}", os.urandom(n * 1000)) for n in range(40)}
    promised[b"large"] = laws.put(one.source / "large", os.urandom(1 << 20))
    with laws.lawful(site, one):
        laws.arrived(one, promised, timeout=20)
        late = {b"late": laws.put(one.source / "late", b"late")}
        laws.arrived(one, {**promised, **late})
    said = laws.logs(site)
    assert said.count("there is no rsync") == 1
    assert "no rsync there, so SFTP to" in said


def test_directory_units_there(bare: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, bare, data_stream={"transfer_unit": "directory"})
    for number in range(5):
        laws.put(one.source / f"unit/f{number}", b"content")
    assert site.one_off().returncode == 0
    assert set(laws.public(one)) == {b"unit/f%d" % number for number in range(5)}
    laws.no_leftovers(one)


def test_where_there_is_rsync_nothing_is_said(sshd: PrivateSshd, scratch: Path) -> None:
    site, one = laws.make(scratch, sshd)
    promised = {b"f": laws.put(one.source / "f", b"content")}
    assert site.one_off().returncode == 0
    assert laws.public(one) == promised
    assert "SFTP" not in laws.logs(site)

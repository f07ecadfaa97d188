"""A disk is full, at the target, under the spool or under the store: nothing partial, nothing lost, and it is said."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import engines
import fronts
from job_sites import REQUEST, JobSite, destination, endpoint, leftovers, spec, ssh_endpoint
from mistamover.errors import StoreError
from mistamover.jobs.model import Op
from mistamover.testing.sshd import PrivateSshd
from small_disks import MIB, SmallDisk, mounted

BIG = os.urandom(3 * MIB)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk") as made:
        yield made


@pytest.mark.parametrize("far", [False, True], ids=["local", "ssh"])
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaces"])
def test_a_full_target_keeps_the_old_file_and_the_source(
    tmp_path: Path, sshd: PrivateSshd, disk: SmallDisk, far: bool, replaces: bool
) -> None:
    base = disk.path / "base"
    base.mkdir()
    place = ssh_endpoint("full", sshd, base) if far else endpoint("full", f"file://{base}")
    site = JobSite(tmp_path / "site", place)
    (site.here / "a").write_bytes(BIG)
    if replaces:
        (base / "a").write_bytes(b"old")
    disk.leave(1)
    job, _ = site.desk.copy(REQUEST, [spec("here:a")], destination("full:a"), op=Op.MOVE, overwrite=replaces)
    reason = site.fail(job)
    assert "space" in reason or "full" in reason
    assert (site.here / "a").read_bytes() == BIG
    assert [path.read_bytes() for path in base.iterdir()] == ([b"old"] if replaces else [])
    # With room again, a client's word is enough.
    disk.leave(8)
    assert site.store.jobs.retry(job.id) is not None
    site.succeed(job)
    assert (base / "a").read_bytes() == BIG
    assert not (site.here / "a").exists() and not leftovers(base)
    site.close()


def test_an_upload_that_finds_no_room_is_refused_and_leaves_nothing(tmp_path: Path, disk: SmallDisk) -> None:
    data = tmp_path / "data"
    (data / "shelf").mkdir(parents=True)
    state = disk.path / "jobs"
    state.mkdir()
    with fronts.running(fronts.settings(state, data)) as front:
        disk.leave(1)
        answer = front.api("PUT", "/endpoints/here/content?path=a", content=BIG)
        assert (answer.status, answer.code) == (507, "no-space")
        assert list((state / "spool").iterdir()) == []
        disk.leave(8)
        assert front.api("PUT", "/endpoints/here/content?path=a", content=BIG).status == 201


def test_a_store_without_room_takes_no_job_and_goes_on_when_there_is_some(tmp_path: Path, disk: SmallDisk) -> None:
    engines.need_file()
    state = disk.path / "site"
    site = JobSite(state)
    (site.here / "a").write_bytes(b"content")
    job = site.copy("here:a", "tape:a")
    disk.leave(0)
    taken = 0
    with pytest.raises(StoreError, match="full"):
        for number in range(2_000):
            site.copy("here:a", f"tape:{'long' * 40}-{number}")
            taken += 1
    disk.leave(8)
    assert len(site.store.jobs.page(limit=1_000)[0]) == min(1_000, taken + 1), "what was refused was not kept"
    site.succeed(job)
    site.close()

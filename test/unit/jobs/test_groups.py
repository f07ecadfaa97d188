"""Which group of workers does a job, and from where an endpoint of a group is used."""

from __future__ import annotations

from pathlib import Path

import pytest

from job_sites import REQUEST, JobSite, destination, endpoint, spec
from mistamover.config.serving import EngineSettings
from mistamover.errors import JobRefused
from mistamover.jobs import groups, spool
from mistamover.jobs.installation import identity
from mistamover.jobs.model import Job
from mistamover.jobs.transfer.places import Places


@pytest.fixture
def site(tmp_path: Path) -> JobSite:
    far = tmp_path / "far"
    far.mkdir()
    ends = [endpoint(name, f"file://{far}", workers=group) for name, group in (("hpc", "hpc1"), ("lab", "lab"))]
    return JobSite(tmp_path, *ends)


def group_of(site: JobSite, job: Job) -> str | None:
    """Return the group that a job waits for; no worker lives."""
    return site.store.claims.group_waited_for(job.id)


def test_a_job_is_for_the_group_of_its_endpoints(site: JobSite) -> None:
    assert group_of(site, site.copy("here:a", "tape:a")) == ""
    assert group_of(site, site.copy("here:a", "hpc:a")) == "hpc1"
    assert group_of(site, site.copy("hpc:a", "hpc:b")) == "hpc1"


def test_no_workers_reach_two_groups(site: JobSite) -> None:
    with pytest.raises(JobRefused, match="hpc only by those of hpc1 and lab only by those of lab") as refusal:
        site.copy("hpc:a", "lab:a")
    assert refusal.value.code == "no-common-workers"
    with pytest.raises(JobRefused):
        site.desk.copy(REQUEST, [spec("hpc:a"), spec("lab:b")], destination("here:x/"))


def test_content_is_for_the_worker_beside_its_front(site: JobSite) -> None:
    def put(to: str) -> Job:
        name, descriptor = spool.new(site.settings.directory)
        with open(descriptor, "wb") as file:
            file.write(b"x")
        return site.desk.put(REQUEST, name, destination(to), size=1)[0]

    mine = groups.own(identity(site.settings.directory))
    assert group_of(site, put("here:a")) == mine
    with pytest.raises(JobRefused, match="put it at a front that is"):
        put("hpc:a")
    assert mine in groups.served(
        EngineSettings(database_url="", groups=("hpc1",), groups_only=True), identity(site.settings.directory)
    )


def test_a_worker_does_jobs_of_no_group_unless_it_is_told_not_to() -> None:
    assert groups.served(EngineSettings(database_url="", groups=("a",)), "x") == {"", "a", "@x"}
    assert groups.served(EngineSettings(database_url="", groups=("a",), groups_only=True), "x") == {"a", "@x"}


def test_an_endpoint_of_a_group_is_not_used_from_elsewhere(site: JobSite, tmp_path: Path) -> None:
    for mine, used in (((), False), (("lab",), False), (("hpc1",), True), (None, True)):
        places = Places(site.endpoints, tmp_path / "run", tmp_path / "links", groups=mine)
        if used:
            assert places.of("hpc")
        else:
            with pytest.raises(JobRefused, match="hpc is reached only by the workers of hpc1"):
                places.of("hpc")
        assert places.of("here")
        places.close()

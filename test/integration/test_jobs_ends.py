"""A job that ends another way than its worker would say: the catalogue knows where its objects are all the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job_sites import REQUEST, JobSite, destination
from mistamover.errors import JobCancelled
from mistamover.jobs import spool
from mistamover.jobs.model import DataObject, Job, JobState, Location, ObjectState
from mistamover.jobs.requests import ObjectFields
from mistamover.jobs.transfer import operations


@pytest.fixture
def site(tmp_path: Path) -> Iterator[JobSite]:
    made = JobSite(tmp_path)
    (made.here / "a").write_bytes(b"data")
    yield made
    made.close()


class Killed(BaseException):
    """Stands for the end of the worker."""


def registered(site: JobSite) -> DataObject:
    return site.desk.register(REQUEST, Location(endpoint="here", path="a"), size=4, fields=ObjectFields())


def relocation(site: JobSite, op: str, found: DataObject, deadline: float | None = None) -> Job:
    request = replace(REQUEST, deadline=deadline)
    if op == "archive":
        return site.desk.archive_object(request, found.id)[0]
    return site.desk.move_object(request, found.id, destination("tape:b"))[0]


def killed_before_the_removal(site: JobSite, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do a job until it has written down that a source is about to go."""
    writes = site.store.claims.item_removing

    def dies(*words: Any, **more: Any) -> None:
        writes(*words, **more)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(site.store.claims, "item_removing", dies)
        with pytest.raises(Killed):
            operations.run(site.claim(job), site.context)


def killed_behind_everything(site: JobSite, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do a job, and tell nobody how it ended."""
    operations.run(site.claim(job), site.context)


def ended(site: JobSite, job: Job) -> Job:
    """Return a job when it has ended: at once, or by another worker."""
    found = site.store.jobs.get(job.id)
    assert found is not None
    return found if found.state.final else site.done(job)


def where(site: JobSite, id: str) -> tuple[Path, ObjectState]:
    found = site.store.objects.get(id)
    assert found is not None
    assert not found.lock
    return Path(site.endpoints.need(found.location.endpoint).base) / found.location.path, found.state


@pytest.mark.parametrize("killed", [killed_before_the_removal, killed_behind_everything])
@pytest.mark.parametrize("op", ["move", "archive"])
def test_an_object_is_found_after_its_job_was_cancelled_too_late(
    site: JobSite, op: str, killed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = registered(site)
    job = relocation(site, op, found)
    killed(site, job, monkeypatch)
    site.store.jobs.cancel(job.id)
    site.store.claims.release("w")
    assert ended(site, job).state is JobState.DONE
    path, state = where(site, found.id)
    assert path.read_bytes() == b"data"
    assert state is (ObjectState.ARCHIVED if op == "archive" else ObjectState.ACTIVE)
    assert not (site.here / "a").exists()


@pytest.mark.parametrize("killed", [killed_before_the_removal, killed_behind_everything])
def test_an_object_is_found_after_the_deadline_of_its_job(
    site: JobSite, killed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = registered(site)
    job = relocation(site, "archive", found, deadline=site.context.clock() + 3600)
    killed(site, job, monkeypatch)
    site.store.claims.release("w")
    monkeypatch.setattr(site.store.claims, "_clock", lambda: site.context.clock() + 7200)
    site.store.claims.sweep()
    assert ended(site, job).state is JobState.DONE
    assert where(site, found.id)[0].read_bytes() == b"data"


def test_an_object_whose_deletion_was_cancelled_when_it_was_done_is_deleted(
    site: JobSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = registered(site)
    job = site.desk.delete_object(REQUEST, found.id)[0]
    killed_behind_everything(site, job, monkeypatch)
    site.store.jobs.cancel(job.id)
    site.store.claims.release("w")
    assert ended(site, job).state is JobState.DONE
    assert where(site, found.id)[1] is ObjectState.DELETED


def test_of_an_object_whose_deletion_was_begun_and_cancelled_nobody_knows_what_is_left(site: JobSite) -> None:
    found = registered(site)
    job = site.desk.delete_object(REQUEST, found.id)[0]

    def cancel(*_: object) -> None:
        raise JobCancelled("cancelled")

    site.on_tell = cancel
    claim = site.claim(job)
    with pytest.raises(JobCancelled):
        operations.run(claim, site.context)
    site.store.jobs.cancel(job.id)
    site.store.claims.put_back(claim)
    assert ended(site, job).state is JobState.CANCELLED
    assert where(site, found.id)[1] is ObjectState.UNKNOWN
    site.on_tell = lambda *_: None
    site.succeed(site.desk.delete_object(REQUEST, found.id)[0])
    assert where(site, found.id)[1] is ObjectState.DELETED


def test_an_object_that_was_put_is_known_although_its_worker_told_nobody(site: JobSite) -> None:
    name, handle = spool.new(site.settings.directory)
    os.write(handle, b"data")
    os.close(handle)
    job = site.desk.put(REQUEST, name, destination("here:p"), size=4, register=ObjectFields())[0]
    operations.run(site.claim(job), site.context)
    site.store.jobs.cancel(job.id)
    site.store.claims.release("w")
    done = ended(site, job)
    assert done.state is JobState.DONE
    (id,) = done.result["objects"]  # type: ignore[misc]
    assert where(site, str(id))[0].read_bytes() == b"data"
    assert not list((site.settings.directory / "spool").iterdir())


def test_content_that_lies_with_another_worker_is_left_to_that_one(site: JobSite, tmp_path: Path) -> None:
    """Two installations share a store: only one of them has what came with the request."""
    name, handle = spool.new(site.settings.directory)
    os.write(handle, b"data")
    os.close(handle)
    job = site.desk.put(REQUEST, name, destination("here:p"), size=4)[0]
    other = JobSite(tmp_path / "other")
    other.settings = replace(other.settings, endpoints=site.settings.endpoints)
    context = replace(site.context, settings=other.settings)
    claim = site.claim(job)
    outcome = operations.run(claim, context)
    assert outcome.state is None and "another worker" in outcome.reason and not outcome.endpoints
    site.store.claims.put_back(claim, not_before=None)
    assert site.items(job)[0].attempts == 0
    site.succeed(job)
    assert (site.here / "p").read_bytes() == b"data"
    other.close()


def test_content_of_ours_that_is_gone_fails_at_once(site: JobSite) -> None:
    name, handle = spool.new(site.settings.directory)
    os.close(handle)
    job = site.desk.put(REQUEST, name, destination("here:p"), size=0)[0]
    spool.remove(site.settings.directory, name)
    assert "not here any more" in site.fail(job)

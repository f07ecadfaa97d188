"""Jobs about objects of the catalogue: made, copied, moved, archived, brought back and removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_sites import REQUEST, JobSite, destination, leftovers, sha256, spec, ssh_endpoint
from mistamover.errors import JobRefused, ObjectLocked, PlaceTaken
from mistamover.jobs import spool
from mistamover.jobs.model import DataObject, Job, Location, ObjectState
from mistamover.jobs.submission import ObjectFields
from mistamover.testing.sshd import PrivateSshd


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[JobSite]:
    made = JobSite(tmp_path, ssh_endpoint("hpc", sshd, tmp_path / "hpc"))
    yield made
    made.close()


FIELDS = ObjectFields(description="what it is", originator="a test", group="fire", given_path="sub")


def made_of(site: JobSite, job: Job) -> DataObject:
    (number,) = job.result["objects"]  # type: ignore[misc]
    found = site.store.objects.get(number)
    assert found is not None
    return found


def registered(site: JobSite, content: bytes = b"content") -> DataObject:
    (site.here / "a").write_bytes(content)
    return made_of(site, site.succeed(site.copy("here:a", "hpc:sub/a", register=FIELDS)))


def get(site: JobSite, id: str) -> DataObject:
    found = site.store.objects.get(id)
    assert found is not None
    return found


def test_a_copy_that_registers_makes_an_object_when_it_is_done(site: JobSite) -> None:
    found = registered(site)
    assert (found.state, found.size, found.digest) == (ObjectState.ACTIVE, 7, sha256(b"content"))
    assert (found.description, found.group, found.given_path) == ("what it is", "fire", "sub")
    assert found.location == Location(endpoint="hpc", path="sub/a")
    with pytest.raises(PlaceTaken):
        site.copy("here:a", "hpc:sub/a", register=FIELDS)


def test_a_copy_that_fails_registers_nothing(site: JobSite) -> None:
    site.fail(site.copy("here:none", "hpc:sub/a", register=FIELDS))
    assert site.store.objects.find() == ([], None)
    assert registered(site).state is ObjectState.ACTIVE


def test_an_object_is_copied_to_another_object(site: JobSite, tmp_path: Path) -> None:
    first = registered(site)
    job, _ = site.desk.copy_object(REQUEST, first.id, destination("here:new/b"))
    second = made_of(site, site.succeed(job))
    assert second.id != first.id
    assert (second.description, second.digest) == (first.description, first.digest)
    assert (site.here / "new" / "b").read_bytes() == b"content"
    assert get(site, first.id).location == first.location
    (tmp_path / "hpc" / "sub" / "a").write_bytes(b"rotten!")
    job, _ = site.desk.copy_object(REQUEST, first.id, destination("here:new/c"))
    assert "was expected" in site.fail(job)


@pytest.mark.parametrize("target", ["here:new/b", "hpc:other/b"])
def test_an_object_is_moved_and_stays_the_same(site: JobSite, tmp_path: Path, target: str) -> None:
    found = registered(site)
    job, _ = site.desk.move_object(REQUEST, found.id, destination(target))
    with pytest.raises(ObjectLocked):
        site.desk.move_object(REQUEST, found.id, destination("here:elsewhere"))
    with pytest.raises(PlaceTaken):
        site.copy("here:a", target, register=FIELDS)
    assert made_of(site, site.succeed(job)).id == found.id
    moved = get(site, found.id)
    assert moved.location == spec(target).location
    assert (moved.lock, moved.state, moved.digest) == ("", ObjectState.ACTIVE, sha256(b"content"))
    assert moved.modified is not None
    assert not (tmp_path / "hpc" / "sub" / "a").exists()
    assert not leftovers(site.here, tmp_path / "hpc")


def test_an_object_goes_to_the_archive_and_comes_back(site: JobSite, tmp_path: Path) -> None:
    found = registered(site)
    site.succeed(site.desk.archive_object(REQUEST, found.id)[0])
    archived = get(site, found.id)
    assert (archived.state, archived.location.endpoint, archived.home) == (ObjectState.ARCHIVED, "tape", found.location)
    assert (site.tape / archived.location.path).read_bytes() == b"content"
    assert not (tmp_path / "hpc" / "sub" / "a").exists()
    with pytest.raises(JobRefused, match="ARCHIVED"):
        site.desk.archive_object(REQUEST, found.id)
    site.succeed(site.desk.activate_object(REQUEST, found.id)[0])
    back = get(site, found.id)
    assert (back.state, back.location, back.home) == (ObjectState.ACTIVE, found.location, None)
    assert (tmp_path / "hpc" / "sub" / "a").read_bytes() == b"content"
    assert [path for path in site.tape.rglob("*") if path.is_file()] == []


def test_a_removed_object_is_remembered_and_its_place_is_free(site: JobSite, tmp_path: Path) -> None:
    found = registered(site)
    site.succeed(site.desk.delete_object(REQUEST, found.id)[0])
    assert get(site, found.id).state is ObjectState.DELETED
    assert not (tmp_path / "hpc" / "sub" / "a").exists()
    with pytest.raises(JobRefused) as refusal:
        site.desk.delete_object(REQUEST, found.id)
    assert refusal.value.code == "object-state"
    assert registered(site).id != found.id


def test_an_object_that_cannot_be_removed_is_unknown(site: JobSite, tmp_path: Path) -> None:
    found = registered(site)
    (tmp_path / "hpc" / "sub").rename(tmp_path / "elsewhere")
    (tmp_path / "hpc" / "sub").symlink_to(tmp_path / "elsewhere")
    assert "leads out" in site.fail(site.desk.delete_object(REQUEST, found.id)[0])
    assert get(site, found.id).state is ObjectState.UNKNOWN


def test_content_that_is_put_becomes_an_object(site: JobSite, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000

    def spooled() -> str:
        name, handle = spool.new(site.settings.directory)
        os.write(handle, content)
        os.close(handle)
        return name

    words = {"size": len(content), "digest": sha256(content)}
    name = spooled()
    job, created = site.desk.put(REQUEST, name, destination("hpc:sub/b"), register=FIELDS, **words)
    found = made_of(site, site.succeed(job))
    assert created
    assert (found.size, found.digest) == (len(content), sha256(content))
    assert (tmp_path / "hpc" / "sub" / "b").read_bytes() == content
    assert not spool.path_of(site.settings.directory, name).exists()
    for to, error in (("hpc:sub/b", PlaceTaken), ("hpc:sub/", JobRefused), ("none:x", JobRefused)):
        name = spooled()
        with pytest.raises(error):
            site.desk.put(REQUEST, name, destination(to), register=FIELDS, **words)
        assert not spool.path_of(site.settings.directory, name).exists()


def test_registering_needs_no_file_and_an_unknown_object_is_told(site: JobSite) -> None:
    place = Location(endpoint="hpc", path="anywhere/x")
    found = site.desk.register(REQUEST, place, size=5, fields=FIELDS)
    assert get(site, found.id).state is ObjectState.ACTIVE
    job, _ = site.desk.copy_object(REQUEST, found.id, destination("here:x"))
    assert "no such file" in site.fail(job)
    for call in (site.desk.delete_object, site.desk.archive_object, site.desk.activate_object):
        with pytest.raises(JobRefused) as refusal:
            call(REQUEST, "no-such-object")
        assert refusal.value.code == "unknown-object"


def test_the_same_key_is_the_same_job(site: JobSite) -> None:
    from dataclasses import replace

    (site.here / "a").write_bytes(b"content")
    request = replace(REQUEST, key="k")
    first, created = site.desk.copy(request, [spec("here:a")], destination("hpc:a"), register=FIELDS)
    again, created_again = site.desk.copy(request, [spec("here:a")], destination("hpc:a"), register=FIELDS)
    assert (created, created_again, again.id) == (True, False, first.id)
    site.succeed(first)

"""Carts from an archive interface: everything that it may answer, and that each cart comes to its end."""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carts_of_workers import CartSite
from job_sites import REQUEST
from mistamover.errors import JobRefused, JobStopping, LostClaim
from mistamover.jobs.model import ItemState, JobState
from mistamover.jobs.transfer import checking, operations
from mistamover.testing.archive_interface import TIME, Archive, Archived, archive_interface
from support import free_port

CONTENT = bytes(range(256)) * 1200

MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[Archive]:
    with archive_interface() as made:
        yield made


@pytest.fixture
def archive(server: Archive) -> Archive:
    server.files, server.requests = {}, []
    server.entered.clear()
    return server


@pytest.fixture
def site(tmp_path: Path, archive: Archive) -> Iterator[CartSite]:
    made = CartSite(tmp_path, archive=archive)
    yield made
    made.close()


SIZE = len(CONTENT)


def failed(step: str, words: str) -> str:
    return f"Failed to pull file(Failed to {step} with error: {words})"


def pulled(words: str) -> str:
    return failed("pull", words)


def test_a_cart_is_filled_from_an_archive_interface(site: CartSite, archive: Archive) -> None:
    strange = "7/odd ?#%&;=+/ü"
    archive.files = {"foo": Archived(CONTENT), "42": Archived(b""), strange: Archived(b"strange")}
    job = site.succeed(site.cart("u", {"foo": ("1/2/foo.txt", "md5", MD5), "42": "empty", strange: "1/s"}))
    assert site.files(job) == {"1/2/foo.txt": CONTENT, "empty": b"", "1/s": b"strange"}
    assert job.result == {"files": 3, "bytes": len(CONTENT) + 7}
    assert site.of(job).reserved == len(CONTENT) + 7
    assert {path.stat().st_mtime for path in site.volume.files(job.id).rglob("*") if path.is_file()} == {int(TIME)}
    assert {(path.stat().st_mode & 0o777, path.is_dir()) for path in site.volume.path.rglob("*")} == {
        (0o700, True),
        (0o600, False),
    }
    assert archive.counts() == {"POST": 3, "HEAD": 3, "GET": 3}
    # One algorithm for the whole bundle; what a client gave is checked beside it.
    assert {item.algorithm for item in site.items(job)} == {"sha256"}
    assert site.items(job)[0].digest == hashlib.sha256(CONTENT).hexdigest()


def test_the_archives_own_surface(archive: Archive) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", archive.port, timeout=20)
    told = []
    for method, path, body in (
        ("GET", "/", None),
        ("PUT", "/x", b"0123456789"),
        ("HEAD", "/x", None),
        ("POST", "/x", b""),
        ("GET", "/x?byte_range=2-5", None),
        ("HEAD", "/none", None),
    ):
        connection.request(method, path, body)
        answer = connection.getresponse()
        told.append((answer.status, answer.read()[:70], answer.getheader("X-Pacifica-Messsage")))
    connection.close()
    assert told == [
        (200, b'{"message": "Pacifica Archive Interface Up and Running"}', None),
        (201, b'{"message": "File added to archive", "total_bytes": 10}', None),
        (204, b"", "File was found"),
        (200, b'{"message": "File was staged", "file": "/x"}', None),
        (200, b"234", None),
        (500, b"", None),
    ]


ALL = frozenset(("X-Pacifica-Messsage", "X-Pacifica-File", "X-Content-Length", "Last-Modified", "X-Pacifica-Ctime",
                 "X-Pacifica-Bytes-Per-Level", "X-Pacifica-File-Storage-Media"))  # fmt: skip


@pytest.mark.parametrize(
    "how",
    [
        {"dates": True},
        {"without": ALL},
        {"without": frozenset(("X-Content-Length",))},
        {"without": frozenset(("X-Pacifica-File-Storage-Media",))},
        {"without": frozenset(("Last-Modified",))},
        {"length": False},
        {"length": False, "without": ALL},
        {"tape": 3},
        {"fail": {"POST": 2}},
        {"fail": {"POST": 99}, "status": 405},
        {"fail": {"HEAD": 2}},
        {"fail": {"GET": 2}},
        {"fail": {"POST": 1, "HEAD": 1, "GET": 1}, "status": 503},
        {"fail": {"HEAD": 3}, "status": 429},
    ],
    ids=lambda how: "-".join(map(str, how)) if isinstance(how, dict) else "",
)  # fmt: skip
def test_what_a_client_can_go_on_with(site: CartSite, archive: Archive, how: dict[str, Any]) -> None:
    archive.files = {"a": Archived(CONTENT, **how), "b": Archived(b"b")}
    job = site.succeed(site.cart("u", {"a": ("a", "md5", MD5), "b": "b"}))
    assert site.files(job) == {"a": CONTENT, "b": b"b"}
    assert site.of(job).reserved == len(CONTENT) + 1
    dated = not {"Last-Modified", "X-Pacifica-Ctime"} <= how.get("without", frozenset())
    assert not dated or site.volume.file(job.id, "a").stat().st_mtime == int(TIME)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"fail": {"POST": 99}}, failed("stage", "Status code is 500")),
        ({"fail": {"POST": 99}, "status": 403}, failed("stage", "Status code is 403")),
        ({"fail": {"HEAD": 99}}, failed("status file", "Status code is 500")),
        ({"fail": {"HEAD": 99}, "status": 404}, failed("status file", "Status code is 404")),
        ({"fail": {"GET": 99}}, pulled("Status code is 500")),
        ({"fail": {"GET": 99}, "status": 404}, pulled("Status code is 404")),
        ({"gives": CONTENT[:-1] + b"?"}, pulled("File hash does not match provided hash")),
        ({"gives": CONTENT + b"more"}, pulled(f"the archive has told of {SIZE} bytes, and gives {SIZE + 4}")),
        ({"gives": b"less"}, pulled(f"the archive has told of {SIZE} bytes, and gives 4")),
        ({"cut": 1000}, pulled(f"127.0.0.1: the download ended after 1000 of {SIZE} bytes")),
        ({"cut": 1000, "length": False}, pulled(f"the archive has told of {SIZE} bytes, and gives 1000")),
        ({"tape": -1}, failed("stage", "the archive does not have it on disk after 300 s")),
    ],
    ids=["stage", "stage-403", "status", "status-404", "pull", "pull-404", "hash", "longer", "shorter", "cut",
         "cut-endless", "never"],
)  # fmt: skip
def test_what_fails_in_the_end_says_why(site: CartSite, archive: Archive, how: dict[str, Any], reason: str) -> None:
    site.set(stage_timeout=300.0)
    archive.files = {"a": Archived(b"a"), "bad": Archived(CONTENT, **how)}
    job = site.cart("u", {"a": "a", "bad": ("bad", "md5", MD5)})
    ended = site.done(job, attempts=30)
    assert (ended.state, ended.reason) == (JobState.FAILED, reason)
    permanent = how.get("status", 500) != 500
    method = next(iter(how.get("fail", {"GET": 0})))
    assert how.get("tape") or archive.count(method, "bad") == (1 if permanent else 4)
    item = site.items(job)[1]
    assert (item.state, reason) == (ItemState.FAILED, f"Failed to pull file({item.reason})")
    # What is here counts, and no more.
    assert site.of(job).reserved == sum(map(len, site.files(job).values()))
    assert not list(site.volume.partial(job.id).iterdir())


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        ("crc99", "", "unsupported hash type crc99"),
        ("shake_128", "ab", "unsupported hash type shake_128"),
        ("md5", "beef", "File hash does not match provided hash"),
        ("SHA-512", "no digits", "File hash does not match provided hash"),
        ("md5", MD5.upper(), ""),
        ("sha512_224", "", ""),
    ],
)
def test_a_hash_that_cannot_be_is_learned_of_at_the_end(
    site: CartSite, archive: Archive, kind: str, value: str, reason: str
) -> None:
    archive.files = {"a": Archived(CONTENT)}
    job = site.cart("u", {"a": ("a", kind, value)}, any_hash=True)
    assert site.done(job, attempts=30).reason == (pulled(reason) if reason else "")
    if reason:
        with pytest.raises(JobRefused, match=r"hash|hexadecimal"):
            site.cart("u", {"a": ("a", kind, value)})


def test_an_archive_that_does_not_know_a_file(site: CartSite) -> None:
    reason = site.fail(site.cart("u", {"gone": "gone"}))
    assert reason == "Failed to pull file(Failed to stage with error: Status code is 500)"


def test_a_cart_that_failed_is_tried_again_with_what_is_missing(site: CartSite, archive: Archive) -> None:
    archive.files = {"a": Archived(b"a"), "bad": Archived(b"b", fail={"GET": 99})}
    job = site.cart("u", {"a": "a", "bad": "bad"})
    site.fail(job)
    archive.files["bad"].fail.clear()
    site.carts.retry(REQUEST.who, "u")
    site.succeed(job)
    assert site.files(job) == {"a": b"a", "bad": b"b"}
    assert archive.count("GET", "a") == 1


def test_an_archive_that_cannot_be_reached_costs_no_attempt(tmp_path: Path) -> None:
    with archive_interface() as archive:
        site = CartSite(tmp_path, archive=archive)
        archive.files = {"a": Archived(b"a")}
        job = site.cart("u", {"a": "a"})
    for _ in range(6):
        outcome = site.attempt(job)
        assert (outcome.state, set(outcome.endpoints)) == (None, {"tapes"})
    site.ahead += 4000
    reason = site.fail(job)
    assert reason.startswith("Failed to pull file(Failed to stage with error: 127.0.0.1: ")
    site.close()


@pytest.mark.parametrize("method", ["POST", "HEAD", "GET"])
def test_an_archive_that_goes_away_in_between_is_waited_for(site: CartSite, archive: Archive, method: str) -> None:
    # Each is asked twice: a connection that stood may have been ended for no fault of anybody's.
    archive.files = {"a": Archived(b"a", fail={method: 2}, status=0), "b": Archived(b"b")}
    site.set(pulls=1)
    job = site.cart("u", {"b": "b", "a": "a"})
    outcome = site.attempt(job)
    assert (outcome.state, set(outcome.endpoints)) == (None, {"tapes"})
    assert site.items(job)[1].attempts == 0
    site.succeed(job)
    assert site.files(job) == {"a": b"a", "b": b"b"}


def test_what_has_come_is_kept_when_a_worker_stops(site: CartSite, archive: Archive) -> None:
    archive.files = {name: Archived(name.encode()) for name in "abc"}
    site.set(pulls=1)
    job = site.cart("u", {name: name for name in "abc"})
    claim = site.claim(job)

    def on_tell(seq: int, *_: object) -> None:
        if seq == 2:
            raise JobStopping("the worker ends")

    site.on_tell = on_tell
    with pytest.raises(JobStopping):
        operations.run(claim, site.context)
    assert [item.state for item in site.items(job)][:2] == [ItemState.DONE] * 2
    site.on_tell = lambda *_: None
    site.store.claims.put_back(claim)
    site.succeed(job)
    assert (archive.count("GET"), archive.count("POST")) == (3, 3)


def test_tape_is_asked_for_once_and_looked_at_ever_more_rarely(site: CartSite, archive: Archive) -> None:
    archive.files = {"slow": Archived(CONTENT, tape=12), "disk": Archived(b"here")}
    job = site.cart("u", {"slow": "slow", "disk": "disk"})
    began, looks = site.now(), []
    while site.attempt(job).state is None:
        # What is on disk does not wait for what is not, and the thread of the job waits for neither.
        assert site.files(job) == {"disk": b"here"}
        assert site.items(job)[0].state is ItemState.STAGING
        found = site.store.jobs.get(job.id)
        assert found is not None and found.not_before is not None
        looks.append(found.not_before - site.now())
        assert len(looks) < 20
    assert site.files(job) == {"disk": b"here", "slow": CONTENT}
    assert archive.count("POST") == 2
    assert archive.count("GET", "disk") == 1
    assert max(looks) <= 72 and looks[0] < 2.5
    assert site.now() - began < 60 * 12


def test_a_file_whose_size_nobody_knows_gets_room_as_it_comes(site: CartSite, archive: Archive) -> None:
    archive.files = {"a": Archived(CONTENT, without=ALL, length=False)}
    site.set(quota=1 << 20)
    assert site.fail(site.cart("u", {"a": "a"})) == "No Space Available"
    site.set(quota=1 << 30)
    job = site.succeed(site.cart("u", {"a": "a"}))
    assert site.of(job).reserved == len(CONTENT)


@pytest.mark.parametrize("layout", ["plain", "bagit"])
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_a_stored_bundle_takes_the_place_of_its_files(site: CartSite, archive: Archive, form: str, layout: str) -> None:
    archive.files = {"a": Archived(CONTENT), "b": Archived(b"b")}
    job = site.succeed(site.cart("u", {"a": "x/a", "b": "b"}, stored=True, format=form, layout=layout))
    (made,) = site.volume.cart(job.id).iterdir()
    assert made == site.volume.bundle(job.id, site.of(job).form.format)
    assert job.result == {"files": 2, "bytes": len(CONTENT) + 1, "bundle": made.stat().st_size}
    assert site.of(job).reserved == made.stat().st_size
    assert members(made)[f"u/{'data/' if layout == 'bagit' else ''}x/a"] == CONTENT


def members(path: Path) -> dict[str, bytes]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as packed:
            return {name: packed.read(name) for name in packed.namelist()}
    with tarfile.open(path) as tar:
        found = {member.name: tar.extractfile(member) for member in tar.getmembers()}
        return {name: file.read() for name, file in found.items() if file is not None}


class Killed(Exception):
    """As if the process had ended here."""


@pytest.mark.parametrize("stored", [False, True], ids=["files", "bundle"])
def test_after_a_crash_at_any_step_the_outcome_is_the_same(site: CartSite, archive: Archive, stored: bool) -> None:
    archive.files = {name: Archived(name.encode() * 9000) for name in "abc"}
    site.set(pulls=1)
    told = 0
    last = 0

    def on_tell(*_: object) -> None:
        nonlocal told
        told += 1
        if told == last:
            raise Killed

    site.on_tell = on_tell
    for last in range(1, 200, 4):
        told = 0
        job = site.cart(f"u{last}", {name: f"d/{name}" for name in "abc"}, stored=stored)
        claim = site.claim(job)
        crashed = False
        try:
            operations.run(claim, site.context)
        except Killed:
            crashed = True
        if not crashed:
            break
        told = -(10**9)
        site.store.claims.release("w")
        ended = site.succeed(job)
        assert {key: ended.result[key] for key in ("files", "bytes")} == {"files": 3, "bytes": 27000}
        if stored:
            (made,) = site.volume.cart(job.id).iterdir()
            assert {name: members(made)[f"{job.label}/d/{name}"] for name in "abc"} == {
                name: name.encode() * 9000 for name in "abc"
            }
        else:
            assert site.files(job) == {f"d/{name}": name.encode() * 9000 for name in "abc"}
    assert last > 5


def test_who_has_lost_a_claim_writes_nothing_down(site: CartSite, archive: Archive) -> None:
    archive.files = {name: Archived(name.encode()) for name in "abc"}
    job = site.cart("u", {name: name for name in "abc"})
    claim = site.claim(job)

    def on_tell(seq: int, state: ItemState, done: int, size: int | None) -> None:
        if done and site.store.claims.release("w"):
            # Another one is at it at once, and has it done.
            site.on_tell = lambda *_: None
            site.succeed(job)

    site.on_tell = on_tell
    with pytest.raises(LostClaim):
        operations.run(claim, site.context)
    assert site.files(job) == {name: name.encode() for name in "abc"}
    assert [item.state for item in site.items(job)] == [ItemState.DONE] * 3


def test_what_is_done_is_not_pulled_again_unless_it_is_lost(site: CartSite, archive: Archive) -> None:
    archive.files = {"a": Archived(b"a"), "b": Archived(b"bb"), "bad": Archived(b"c", fail={"GET": 1})}
    job = site.cart("u", {"a": "a", "b": "b", "bad": "bad"})
    assert site.attempt(job).state is None
    site.volume.file(job.id, "b").write_bytes(b"b")
    site.succeed(job)
    assert (archive.count("GET", "a"), archive.count("GET", "b"), archive.count("GET", "bad")) == (1, 2, 2)
    assert site.files(job) == {"a": b"a", "b": b"bb", "bad": b"c"}


def test_what_was_lost_and_cannot_be_had_again_is_not_half_removed(site: CartSite, archive: Archive) -> None:
    archive.files = {"a": Archived(b"a"), "bad": Archived(b"c", fail={"GET": 1})}
    job = site.cart("u", {"a": "a", "bad": "bad"})
    assert site.attempt(job).state is None
    site.volume.file(job.id, "a").unlink()
    archive.files["a"].fail["GET"] = 99
    site.fail(job)
    site.carts.retry(REQUEST.who, "u")
    assert {item.state for item in site.store.jobs.items(job.id)} <= {ItemState.QUEUED, ItemState.DONE}
    assert (cancelled := site.store.jobs.cancel(job.id)) is not None and cancelled.state is JobState.CANCELLED


def test_nothing_is_written_through_a_link(site: CartSite, archive: Archive, tmp_path: Path) -> None:
    archive.files = {"a": Archived(b"a", fail={"GET": 1})}
    job = site.cart("u", {"a": "d/a"})
    assert site.attempt(job).state is None
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, site.volume.files(job.id) / "d")
    assert site.fail(job).startswith("Failed to pull file(Failed to pull with error: this host: ")
    assert not list(outside.iterdir())


def test_a_bundle_that_is_there_is_not_made_again(site: CartSite, archive: Archive) -> None:
    archive.files = {"a": Archived(CONTENT)}
    job = site.cart("u", {"a": "a"}, stored=True)
    claim = site.claim(job)
    assert operations.run(claim, site.context).state is JobState.DONE
    # The worker was killed behind that; nothing can be read twice.
    archive.files.clear()
    before = site.volume.bundle(job.id, site.of(job).form.format).stat()
    site.store.claims.release("w")
    site.succeed(job)
    after = site.volume.bundle(job.id, site.of(job).form.format).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_cart_that_is_cancelled_while_it_is_bundled_does_not_count_as_ready(site: CartSite, archive: Archive) -> None:
    archive.files = {"a": Archived(CONTENT)}
    job = site.cart("u", {"a": "a"}, stored=True)
    claim = site.claim(job)

    def on_tell(*_: object) -> None:
        if all(item.state is ItemState.DONE for item in site.items(job)):
            raise Killed

    site.on_tell = on_tell
    with pytest.raises(Killed):
        operations.run(claim, site.context)
    found = site.store.jobs.get(job.id)
    assert found is not None and found.state is JobState.PACKAGING
    site.store.jobs.cancel(job.id)
    site.store.claims.put_back(claim)
    found = site.store.jobs.get(job.id)
    assert found is not None and found.state is JobState.CANCELLED


def test_jobs_of_other_kinds_read_from_an_archive_interface_too(site: CartSite, archive: Archive) -> None:
    archive.files = {"7/x": Archived(CONTENT, tape=2), "cut": Archived(CONTENT, cut=10, length=False)}
    job = site.copy("tapes:7/x", "here:x")
    waits = site.attempt(job)
    assert waits.state is None and "disk yet" in waits.reason
    site.succeed(job)
    copied = site.here / "x"
    assert (copied.read_bytes(), copied.stat().st_mtime) == (CONTENT, int(TIME))
    by_url = site.copy(f"{archive.url}7/x", "here:again")
    site.succeed(by_url)
    assert "bytes" in site.fail(site.copy("tapes:cut", "here:cut"))
    assert not (site.here / "cut").exists()


def test_it_is_an_endpoint_that_can_be_tried_and_not_written_to(site: CartSite, archive: Archive) -> None:
    found = checking.check(site.context.places, "tapes")
    assert (found.ok, found.description) == (True, "a Pacifica Archive Interface")
    added = site.endpoints.put("closed", url=f"pacifica+http://127.0.0.1:{free_port()}/", read_only=False)
    assert added.read_only
    assert not checking.check(site.context.places, "closed").ok
    with pytest.raises(JobRefused, match="read_only"):
        site.copy("here:x", "tapes:x")
    with pytest.raises(JobRefused, match="among them"):
        site.endpoints.put("volume", url=f"file://{site.volume.path}/x")


def test_what_an_endpoint_is_set_to_is_heeded(site: CartSite, archive: Archive) -> None:
    archive.files = {"a": Archived(b"a")}
    job = site.cart("u", {"a": "a"})
    dry = dataclasses.replace(site.settings.endpoints[2], dry_run=True)
    others = [each for each in site.settings.endpoints if each.name != "tapes"]
    site.configure(endpoints=(*others, dry))
    assert "dry_run" in site.fail(job)
    assert archive.requests == []

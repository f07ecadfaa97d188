"""Content over the REST API: uploads into the spool, downloads in ranges, from a local endpoint and over ssh."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import fronts
from fronts import Front
from mistamover.config.serving import EndpointSettings
from mistamover.jobs import spool
from mistamover.jobs.model import Scope
from mistamover.testing.sshd import PrivateSshd
from support import wait_until

CONTENT = os.urandom(700_000)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the endpoint `here`."""
    directory = tmp_path_factory.mktemp("data")
    (directory / "in").mkdir()
    (directory / "in/a").write_bytes(CONTENT)
    return directory


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Front]:
    """A front that all tests of this file share."""
    with fronts.running(fronts.settings(tmp_path_factory.mktemp("jobs"), data)) as running:
        yield running


@pytest.fixture
def front(shared: Front) -> Front:
    """The front, with nothing in its spool."""
    for file in in_spool(shared):
        file.unlink()
    return shared


def in_spool(front: Front) -> list[Path]:
    directory = front.settings.directory / "spool"
    return list(directory.iterdir()) if directory.is_dir() else []


def test_a_file_is_downloaded_whole(front: Front) -> None:
    answer = front.api("GET", "/endpoints/here/content?path=in/a")
    assert answer.status == 200
    assert answer.content == CONTENT
    assert answer.headers["content-disposition"].startswith('attachment; filename="a"')
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["accept-ranges"] == "bytes"
    again = front.api("GET", "/endpoints/here/content?path=in/a", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.content) == (304, b"")
    head = front.api("HEAD", "/endpoints/here/content?path=in/a")
    assert (head.status, head.headers["content-length"], head.content) == (200, str(len(CONTENT)), b"")


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [("0-0", 0, 1), ("5-", 5, 700_000), ("-7", 699_993, 700_000), ("300000-300099", 300_000, 300_100),
     ("699999-99999999", 699_999, 700_000), ("-9999999", 0, 700_000)],
)  # fmt: skip
def test_a_range_is_downloaded(front: Front, asked: str, begin: int, end: int) -> None:
    answer = front.api("GET", "/endpoints/here/content?path=in/a", headers={"Range": f"bytes={asked}"})
    assert answer.status == 206
    assert answer.content == CONTENT[begin:end]
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(CONTENT)}"


def test_a_range_beyond_the_end_is_416_and_one_that_is_none_is_all(front: Front) -> None:
    beyond = front.api("GET", "/endpoints/here/content?path=in/a", headers={"Range": "bytes=700000-"})
    assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */700000")
    for odd in ("bytes=", "bytes=9-5", "lines=1-2", "bytes=0-1,5-6", "bytes=-", f"bytes={'9' * 60}-"):
        assert front.api("GET", "/endpoints/here/content?path=in/a", headers={"Range": odd}).status == 200
    other = {"Range": "bytes=0-1", "If-Range": '"another"'}
    assert front.api("GET", "/endpoints/here/content?path=in/a", headers=other).status == 200


@pytest.mark.parametrize("path", ["in", "in/none", "..%2fjobs%2fstore.sqlite", "in%2fout", "%00", "link/passwd"])
def test_what_is_no_file_below_the_endpoint_is_refused(front: Front, data: Path, path: str) -> None:
    if not (data / "link").is_symlink():
        (data / "link").symlink_to("/etc")
    answer = front.api("GET", f"/endpoints/here/content?path={path}")
    assert answer.status in (404, 422), answer.content
    assert b"root:" not in answer.content


def test_names_from_elsewhere_do_not_break_the_header(front: Front, data: Path) -> None:
    name = 'ä"\n\r; x=\\.txt'
    (data / "in" / name).write_bytes(b"x")
    from urllib.parse import quote

    answer = front.api("GET", f"/endpoints/here/content?path=in/{quote(name)}")
    assert answer.status == 200
    assert "\n" not in answer.headers["content-disposition"]
    assert quote(name, safe="") in answer.headers["content-disposition"]


def test_an_upload_is_spooled_and_becomes_a_job(front: Front) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    answer = front.api(
        "PUT",
        f"/endpoints/here/content?path=out/b&register=true&hashtype=sha256&hashsum={digest}",
        content=CONTENT,
    )
    assert answer.status == 201, answer.content
    assert answer.json["op"] == "put"
    (kept,) = in_spool(front)
    assert kept.read_bytes() == CONTENT
    assert kept.stat().st_mode & 0o777 == 0o600
    items = front.store.jobs.items(answer.json["id"])
    assert spool.path_of(front.settings.directory, items[0].source.spool) == kept


@pytest.mark.parametrize(
    "query",
    [
        "path=out/b&hashtype=sha256&hashsum=" + "0" * 64,
        "path=..%2fb",
        "path=out/",
        "path=out/b&hashtype=crc&hashsum=00",
    ],
)
def test_an_upload_that_is_refused_leaves_nothing(front: Front, query: str) -> None:
    answer = front.api("PUT", f"/endpoints/here/content?{query}", content=b"x")
    assert answer.status == 422, answer.content
    assert in_spool(front) == []


def test_an_upload_with_a_key_is_one_job_and_one_file(front: Front) -> None:
    def put(content: bytes) -> fronts.Answer:
        headers = {"Idempotency-Key": "upload"}
        return front.api("PUT", "/endpoints/here/content?path=out/keyed", content=content, headers=headers)

    first, again, other = put(b"x"), put(b"x"), put(b"y")
    assert (first.status, again.status, other.status) == (201, 200, 422)
    assert first.json["id"] == again.json["id"]
    assert len(in_spool(front)) == 1


def test_an_upload_that_is_cut_off_is_no_job_and_leaves_nothing(front: Front) -> None:
    before = front.api("GET", "/jobs").json["jobs"]
    with socket.create_connection((front.host, front.port), timeout=10) as wire:
        wire.sendall(
            b"PUT /api/v1/endpoints/here/content?path=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nhalf"
        )
        wait_until(lambda: in_spool(front), 10, "it has begun")
    wait_until(lambda: not in_spool(front), 10, "the half is removed")
    assert front.api("GET", "/jobs").json["jobs"] == before


def test_content_has_a_limit_of_its_own(tmp_path: Path, data: Path) -> None:
    settings = fronts.settings(tmp_path / "jobs", data, max_request=1_000, max_content=5_000)
    with fronts.running(settings) as front:
        assert front.api("PUT", "/endpoints/here/content?path=x", content=b"x" * 5_000).status == 201

        def pieces() -> Iterator[bytes]:
            yield from [b"x" * 1_000] * 6

        for content in (b"x" * 5_001, pieces()):
            answer = front.api("PUT", "/endpoints/here/content?path=y", content=content)
            assert (answer.status, answer.code) == (413, "too-large")
        assert len(in_spool(front)) == 1


def test_an_object_is_downloaded_and_its_hash_is_its_tag(front: Front) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    body = {"endpoint": "here", "path": "in/a", "hashtype": "sha256", "hashsum": digest}
    made = front.api("POST", "/objects", body).json
    answer = front.api("GET", f"/objects/{made['id']}/content")
    assert answer.content == CONTENT
    assert digest in answer.headers["etag"]


def test_a_job_gives_its_one_file_once_it_is_done(front: Front) -> None:
    job_id = front.copy("in/a", "in/a2").json["id"]
    assert front.api("GET", f"/jobs/{job_id}/content").status == 409
    (Path(front.settings.endpoints[0].base) / "in/a2").write_bytes(b"copied")
    fronts.end(front, job_id)
    assert front.api("GET", f"/jobs/{job_id}/content").content == b"copied"


def test_a_client_that_goes_away_gives_the_connection_back(front: Front, data: Path) -> None:
    with (data / "in/large").open("wb") as file:
        file.truncate(1 << 30)
    for _ in range(40):
        with socket.create_connection((front.host, front.port), timeout=10) as wire:
            wire.sendall(b"GET /api/v1/endpoints/here/content?path=in/large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert wire.recv(100).startswith(b"HTTP/1.1 200")
    assert front.api("GET", "/endpoints/here/content?path=in/a").content == CONTENT


def test_content_comes_over_ssh(tmp_path: Path, data: Path, sshd: PrivateSshd) -> None:
    settings = fronts.settings(tmp_path / "jobs", data)
    far = EndpointSettings(
        name="far",
        url=f"sftp://{sshd.user}@{sshd.host}{data}",
        scheme="sftp",
        host=sshd.host,
        user=sshd.user,
        base=str(data),
        ssh_config=sshd.ssh_config,
    )
    with fronts.running(replace(settings, endpoints=(*settings.endpoints, far))) as front:
        assert front.api("GET", "/endpoints/far/content?path=in/a", timeout=60).content == CONTENT
        part = front.api("GET", "/endpoints/far/content?path=in/a", headers={"Range": "bytes=65530-65545"})
        assert (part.status, part.content) == (206, CONTENT[65530:65546])
        assert front.api("GET", "/endpoints/far/content?path=in/none").status == 404
        checked = front.as_(Scope.ADMIN).api("POST", "/endpoints/far/check", timeout=60)
        assert (checked.status, checked.json["ok"]) == (200, True), checked.content


def test_an_object_is_given_other_content(front: Front) -> None:
    made = front.api("POST", "/objects", {"endpoint": "here", "path": "in/o", "size": 1}).json
    answer = front.api("PUT", f"/objects/{made['id']}/content", content=b"other")
    assert answer.status == 201, answer.content
    assert answer.json["op"] == "put"
    locked = front.api("PUT", f"/objects/{made['id']}/content", content=b"another")
    assert (locked.status, locked.code) == (409, "object-locked")
    assert len(in_spool(front)) == 1
    fronts.end(front, answer.json["id"])
    assert front.api("GET", f"/objects/{made['id']}").json["lock"] == ""

"""Jobs between endpoints of every kind: an object store, an FTP server, a web server, ssh, and this host."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_sites import REQUEST, JobSite, destination, endpoint, leftovers, sha256, spec, ssh_endpoint
from mistamover.jobs.model import Location, Op, Packaging
from mistamover.jobs.submission import SourceSpec
from mistamover.testing.ftpd import PASSWORD, USER, PrivateFtpd
from mistamover.testing.s3_server import Bucket, PrivateS3
from mistamover.testing.sshd import PrivateSshd
from web_servers import web_site

#: More than one part of an object store, and no whole number of them.
CONTENT = os.urandom(1 << 20) * 9 + b"end"


@pytest.fixture
def bucket(s3: PrivateS3) -> Bucket:
    return s3.bucket(uuid.uuid4().hex)


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd, s3: PrivateS3, ftpd: PrivateFtpd, bucket: Bucket) -> Iterator[JobSite]:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text(f"{PASSWORD}\n")
    (tmp_path / "ftp").mkdir()
    made = JobSite(
        tmp_path,
        ssh_endpoint("hpc", sshd, tmp_path / "hpc"),
        endpoint(
            "store", f"s3://{bucket.name}/pre/fix", password_file=s3.secret_file, options={"endpoint_url": s3.url}
        ),
        endpoint("ftp", f"ftp://{USER}@{ftpd.host}:{ftpd.port}{tmp_path}/ftp", password_file=password),
        front={"allow_private_addresses": True, "url_schemes": ("http", "ftp")},
    )
    yield made
    made.close()


def content(site: JobSite, name: str, path: str) -> bytes:
    with site.context.places.of(name).lend() as visit:
        return b"".join(visit.content(path).pieces)


@pytest.mark.parametrize(
    ("source", "target"),
    [("here", "store"), ("store", "here"), ("hpc", "store"), ("store", "hpc"), ("here", "ftp"), ("ftp", "here"),
     ("ftp", "store"), ("store", "ftp"), ("hpc", "ftp"), ("store", "store")],
)  # fmt: skip
def test_files_go_from_every_kind_of_endpoint_to_every_other(site: JobSite, source: str, target: str) -> None:
    for name, data in (("small", b"small"), ("big", CONTENT)):
        (site.here / name).write_bytes(data)
        if source != "here":
            site.succeed(site.copy(f"here:{name}", f"{source}:in/{name}"))
        start = f"{source}:in/{name}" if source != "here" else f"here:{name}"
        job, _ = site.desk.copy(REQUEST, [spec(start)], destination(f"{target}:out/d/{name}"), op=Op.MOVE)
        site.succeed(job)
        assert content(site, target, f"out/d/{name}") == data
        assert site.items(job)[0].digest == sha256(data)
        with site.context.places.of(source).lend() as visit:
            assert visit.look(start.partition(":")[2]) is None
    assert not leftovers(site.here.parent)


def test_what_is_in_the_store_is_replaced_only_if_that_is_asked_for(site: JobSite) -> None:
    (site.here / "a").write_bytes(b"one")
    site.succeed(site.copy("here:a", "store:a"))
    (site.here / "a").write_bytes(b"two")
    assert "is there already" in site.fail(site.copy("here:a", "store:a"))
    site.succeed(site.copy("here:a", "store:a", overwrite=True))
    assert content(site, "store", "a") == b"two"


def test_a_wrong_content_never_appears_in_the_store_and_does_not_take_a_good_one_away(site: JobSite) -> None:
    (site.here / "a").write_bytes(CONTENT)
    site.succeed(site.copy("here:a", "store:a"))
    (site.here / "a").write_bytes(CONTENT[::-1])
    bad = SourceSpec(location=Location(endpoint="here", path="a"), hash_type="sha256", hash_value="0" * 64)
    assert "was expected" in site.fail(site.copy(bad, "store:a", overwrite=True))
    assert content(site, "store", "a") == CONTENT
    assert "was expected" in site.fail(site.copy(bad, "store:b"))
    with site.context.places.of("store").lend() as visit:
        assert visit.look("b") is None


def test_directories_come_out_of_the_store_and_go_in(site: JobSite) -> None:
    (site.here / "d" / "e").mkdir(parents=True)
    for name in ("a", "e/b"):
        (site.here / "d" / name).write_bytes(name.encode())
    site.succeed(site.copy("here:d", "store:x"))
    site.succeed(site.copy("store:x", "hpc:y"))
    base = Path(site.endpoints.need("hpc").base)
    assert {str(path.relative_to(base)) for path in base.rglob("*") if path.is_file()} == {"y/a", "y/e/b"}
    site.succeed(site.copy("store:x/*", "here:z"))
    assert (site.here / "z" / "e" / "b").read_bytes() == b"e/b"


def test_a_download_goes_straight_into_the_store(site: JobSite) -> None:
    with web_site() as web:
        web.files["/big"] = CONTENT
        site.succeed(site.copy(f"{web.url}/big", "store:got", op=Op.FETCH))
        assert content(site, "store", "got") == CONTENT
        assert "how long it is nobody says" in site.fail(site.copy(f"{web.url}/big?chunked=1", "store:other"))
        site.succeed(site.copy(f"{web.url}/big?chunked=1", "ftp:other"))
        assert content(site, "ftp", "other") == CONTENT


def test_a_scheme_that_is_allowed_is_fetched_with_the_login_of_its_url(
    site: JobSite, ftpd: PrivateFtpd, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a b").write_bytes(CONTENT)
    url = f"ftp://{USER}:{PASSWORD}@{ftpd.host}:{ftpd.port}{tmp_path}/elsewhere/a%20b"
    job = site.copy(url, "here:got/")
    assert PASSWORD not in repr(site.items(job))
    site.succeed(job)
    assert (site.here / "got" / "a b").read_bytes() == CONTENT
    assert "no such file" in site.fail(site.copy(url + "x", "here:got/"))
    site.change(allow_private_addresses=False)
    assert "private network" in site.fail(site.copy(url, "here:other"))


@pytest.mark.parametrize("name", ["here", "hpc", "store", "ftp"])
def test_content_is_read_from_any_position_on(site: JobSite, name: str) -> None:
    (site.here / "first").write_bytes(CONTENT)
    site.succeed(site.copy("here:first", f"{name}:a"))
    with site.context.places.of(name).lend() as visit:
        found = visit.content("a", len(CONTENT) - 10)
        assert (found.size, b"".join(found.pieces)) == (len(CONTENT), CONTENT[-10:])
    with site.context.places.of(name).lend() as visit:
        next(visit.content("a", 1).pieces)
    with site.context.places.of(name).lend() as visit:
        assert visit.look("a") is not None, "who stopped reading has not spoiled the connection"


def test_an_endpoint_that_is_away_is_waited_for_and_its_name_told(site: JobSite, tmp_path: Path) -> None:
    away = JobSite(tmp_path / "2", endpoint("away", "sftp://127.0.0.1:1/x"))
    (away.here / "a").write_bytes(b"a")
    job, _ = away.desk.copy(REQUEST, [spec("here:a")], destination("away:a"))
    outcome = away.attempt(job)
    assert (outcome.state, list(outcome.endpoints)) == (None, ["away"])
    assert "Connection refused" in outcome.reason
    away.close()


@pytest.mark.parametrize(("source", "target"), [("here", "bare"), ("bare", "here"), ("bare", "bare")])
def test_a_login_without_a_shell_will_do(sftp_only: PrivateSshd, tmp_path: Path, source: str, target: str) -> None:
    site = JobSite(tmp_path, ssh_endpoint("bare", sftp_only, tmp_path / "bare"))
    old, new = (Path(site.endpoints.need(name).base) for name in (source, target))
    (old / "a").write_bytes(CONTENT)
    job, _ = site.desk.copy(REQUEST, [spec(f"{source}:a")], destination(f"{target}:x/b"), op=Op.MOVE)
    site.succeed(job)
    assert (new / "x" / "b").read_bytes() == CONTENT
    assert not (old / "a").exists()
    site.close()


def test_a_dry_run_answers_and_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    site = JobSite(tmp_path, endpoint("test", f"file://{tmp_path}/test", dry_run=True))
    (site.here / "a").write_bytes(b"a")
    site.succeed(site.copy("here:a", "test:a"))
    site.succeed(site.desk.delete(REQUEST, Location(endpoint="test", path="x"))[0])
    job, _ = site.desk.copy(REQUEST, [spec("here:a")], destination("test:z"), packaging=Packaging.ZIP)
    site.succeed(job)
    assert list((tmp_path / "test").iterdir()) == []
    site.close()

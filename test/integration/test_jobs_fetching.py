"""Files that jobs fetch from web servers: what arrives, what goes on after a break, and what is not fetched at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from job_sites import REQUEST, JobSite, destination, endpoint, leftovers, sha256, ssh_endpoint
from mistamover.errors import JobRefused
from mistamover.jobs.model import Op
from mistamover.jobs.submission import SourceSpec
from mistamover.testing.sshd import PrivateSshd
from web_servers import WebSite, web_site

BIG = os.urandom(3 << 20)


@pytest.fixture
def web() -> Iterator[WebSite]:
    with web_site() as server:
        server.files |= {"/big": BIG, "/dir/small.txt": b"small", "/a b": b"blank"}
        yield server


@pytest.fixture
def other() -> Iterator[WebSite]:
    with web_site() as server:
        server.files["/secret"] = b"of another server"
        yield server


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[JobSite]:
    made = JobSite(tmp_path, ssh_endpoint("hpc", sshd, tmp_path / "hpc"), front={"allow_private_addresses": True})
    yield made
    made.close()


@pytest.mark.parametrize("target", ["here", "hpc"])
@pytest.mark.parametrize("query", ["", "?chunked=1"])
def test_a_file_is_fetched_with_its_time_and_hash(site: JobSite, web: WebSite, target: str, query: str) -> None:
    job = site.succeed(site.copy(f"{web.url}/big{query}", f"{target}:got/it", op=Op.FETCH))
    path = Path(site.endpoints.need(target).base) / "got" / "it"
    assert path.read_bytes() == BIG
    assert path.stat().st_mtime == 1_600_000_000
    assert site.items(job)[0].digest == sha256(BIG)
    assert not leftovers(path.parent)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/dir/small.txt", "small.txt"),
        ("/dir/small.txt?name=attachment%3B%20filename%3D%22their%20name.csv%22", "their name.csv"),
        ("/dir/small.txt?name=attachment%3B%20filename*%3DUTF-8''na%25C3%25AFve.csv", "naïve.csv"),
        ("/dir/small.txt?name=attachment%3B%20filename%3D%22..%2F..%2Fetc%2Fpasswd%22", "passwd"),
        ("/dir/small.txt?name=attachment%3B%20filename%3D%22..%22", "small.txt"),
        ("/dir/small.txt?name=attachment%3B%20filename%3D%22.ssh%22", "ssh"),
    ],
)
def test_a_file_gets_the_name_that_its_server_gives_it(site: JobSite, web: WebSite, path: str, name: str) -> None:
    site.succeed(site.copy(f"{web.url}{path}", "here:in/"))
    assert [each.name for each in (site.here / "in").iterdir()] == [name]


def test_a_download_that_breaks_off_goes_on_where_it_was(site: JobSite, web: WebSite) -> None:
    site.succeed(site.copy(f"{web.url}/big?cut=1500000", "here:it"))
    assert (site.here / "it").read_bytes() == BIG
    ranges = [headers.get("Range") for _, headers in web.requests]
    assert ranges == [None, "bytes=1500000-", "bytes=3000000-"]


@pytest.mark.parametrize("query", ["cut=100&plain=1", "cut=100&etag=W/%22weak%22&plain=1"])
def test_a_download_that_stays_cut_off_never_appears(site: JobSite, web: WebSite, query: str) -> None:
    assert f"100 of {len(BIG)} bytes" in site.fail(site.copy(f"{web.url}/big?{query}", "here:it"))
    assert list(site.here.iterdir()) == []


def test_an_answer_that_may_pass_is_tried_again_and_one_that_will_not_is_not(site: JobSite, web: WebSite) -> None:
    site.succeed(site.copy(f"{web.url}/dir/small.txt?status=503&times=2", "here:a"))
    asked = len(web.requests)
    assert "the server answers 404" in site.fail(site.copy(f"{web.url}/none", "here:b"))
    assert len(web.requests) == asked + 1


def test_a_host_that_is_not_known_fails_with_the_words_of_the_system(site: JobSite) -> None:
    job = site.copy("http://no-such-host.invalid/x", "here:a")
    assert "[Errno -2] Name or service not known" in site.fail(job)
    assert site.items(job)[0].attempts == 4


def test_a_login_goes_to_its_own_server_only(site: JobSite, web: WebSite, other: WebSite) -> None:
    source = web.url.replace("http://", "http://user:s3cret@") + f"/x?redirect={other.url}/secret"
    job = site.copy(source, "here:a")
    assert "s3cret" not in repr(site.items(job)) + repr(job)
    site.succeed(job)
    assert web.requests[0][1]["Authorization"].startswith("Basic ")
    assert "Authorization" not in other.requests[0][1]
    site.succeed(site.copy(f"{web.url}/big", "here:b", options={"token": "t0ken", "headers": {"X-Mine": "1"}}))
    assert (web.requests[-1][1]["Authorization"], web.requests[-1][1]["X-Mine"]) == ("Bearer t0ken", "1")


def test_redirects_are_judged_like_urls(site: JobSite, web: WebSite, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"of this host")
    for place in (f"file://{secret}", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "javascript:alert(1)"):
        assert "cannot be" in site.fail(site.copy(f"{web.url}/x?redirect={place}", "here:a"))
    assert "more than 10 redirects" in site.fail(site.copy(f"{web.url}/loop", "here:a"))
    site.change(url_hosts=("127.0.0.1",))
    job = site.copy(f"{web.url}/x?redirect=http://localhost:{web.port}/big", "here:a")
    assert "localhost, which is not allowed" in site.fail(job)
    assert list(site.here.iterdir()) == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"]
)
def test_private_addresses_are_refused_however_they_are_written(site: JobSite, web: WebSite, host: str) -> None:
    site.change(allow_private_addresses=False)
    reason = site.fail(site.copy(f"http://{host}:{web.port}/big", "here:a"))
    assert "private network" in reason
    assert web.requests == []


def test_a_redirect_into_a_private_network_is_refused(
    site: JobSite, web: WebSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mistamover.jobs import outside

    # Only the first address counts as public here, which it is not: no other is to be had in a test.
    public = {"127.0.0.1"}
    monkeypatch.setattr(outside, "is_public", lambda address: address in public)
    site.change(allow_private_addresses=False)
    reason = site.fail(site.copy(f"{web.url}/x?redirect=http://127.0.0.2:{web.port}/big", "here:a"))
    assert "127.0.0.2 has an address of a private network" in reason
    assert len(web.requests) == 1


def test_an_endpoint_that_is_read_by_http_has_a_login_of_its_own(site: JobSite, web: WebSite, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("s3cret\n")
    url = web.url.replace("http://", "http://joe@") + "/dir"
    made = JobSite(tmp_path / "2", endpoint("store", url, read_only=True, password_file=password))
    made.succeed(made.copy("store:small.txt", "here:a"))
    made.succeed(made.copy(f"{web.url}/dir/small.txt", "here:b"))
    assert all(headers["Authorization"] == "Basic am9lOnMzY3JldA==" for _, headers in web.requests)
    assert (made.here / "a").read_bytes() == (made.here / "b").read_bytes() == b"small"
    with pytest.raises(JobRefused, match="read_only"):
        made.copy("here:a", "store:b")
    made.close()


def test_names_in_urls_are_no_options_of_any_program(site: JobSite, web: WebSite, tmp_path: Path) -> None:
    for url in (f"{web.url}/big -o {tmp_path}/pwned", f"{web.url}/big\n-o{tmp_path}/pwned", f" {web.url}/big"):
        try:
            site.fail(site.desk.copy(REQUEST, [SourceSpec(url=url)], destination("here:a"))[0])
        except JobRefused as error:
            assert error.code == "bad-url"
    assert not (tmp_path / "pwned").exists()
    assert list(site.here.iterdir()) == []


def test_a_hash_that_is_expected_of_a_download_is_compared_before_it_appears(site: JobSite, web: WebSite) -> None:
    bad = SourceSpec(url=f"{web.url}/big", hash_type="sha-1", hash_value="0" * 40)
    assert "was expected" in site.fail(site.copy(bad, "here:a"))
    assert len(web.requests) == 4, "a wrong content may come right, but not for ever"
    assert list(site.here.iterdir()) == []

"""Paths of jobs never leave the base of their endpoint: not by `..`, not encoded, not by links, here or far away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from job_sites import REQUEST, JobSite, destination, spec, ssh_endpoint
from mistamover.errors import JobRefused
from mistamover.jobs.model import Location, Op, Packaging, Scope
from mistamover.jobs.submission import Caller, Destination, ObjectFields, Request, SourceSpec
from mistamover.testing.sshd import PrivateSshd


@pytest.fixture
def site(tmp_path: Path, sshd: PrivateSshd) -> Iterator[JobSite]:
    made = JobSite(
        tmp_path,
        ssh_endpoint("hpc", sshd, tmp_path / "hpc"),
        ssh_endpoint("fixed", sshd, tmp_path / "fixed", read_only=True),
        ssh_endpoint("off", sshd, tmp_path / "off", enabled=False),
    )
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    for base in (made.here, tmp_path / "hpc"):
        (base / "a").write_bytes(b"content")
        (base / "inner").mkdir()
        (base / "inner" / "b").write_bytes(b"inner")
        (base / "leads_in").symlink_to("inner")
        (base / "leads_out").symlink_to(outside)
        (base / "climbs_out").symlink_to("../outside")
        (base / "file_out").symlink_to(outside / "secret")
        (base / "file_in").symlink_to("inner/b")
        (base / "nowhere").symlink_to("../outside/new")
    yield made
    made.close()


ESCAPES = [
    "../outside/secret",
    "inner/../../outside/secret",
    "..",
    "inner/..",
    "/etc/passwd",
    "a\0b",
    "inner//b",
    "./../outside",
]


@pytest.mark.parametrize("path", ESCAPES)
@pytest.mark.parametrize("name", ["here", "hpc"])
def test_paths_that_lead_out_are_refused_as_sources_and_as_targets(site: JobSite, name: str, path: str) -> None:
    for sources, to in (([f"{name}:{path}"], "tape:x"), (["here:a"], f"{name}:{path}")):
        with pytest.raises(JobRefused) as refusal:
            site.desk.copy(REQUEST, [spec(each) for each in sources], destination(to))
        assert refusal.value.code == "bad-path"
    with pytest.raises(JobRefused):
        site.desk.delete(REQUEST, Location(endpoint=name, path=path))
    with pytest.raises(JobRefused):
        site.desk.register(REQUEST, Location(endpoint=name, path=path), size=1, fields=ObjectFields())


@pytest.mark.parametrize("path", ["..%2foutside%2fsecret", "inner%2Fb", "%2e%2e/outside/secret", "..", "a%00b"])
def test_urls_hide_no_slash_and_climb_nowhere(site: JobSite, path: str) -> None:
    for base in (site.here, site.here.parent / "hpc"):
        url = f"file://{base}/{path}" if base == site.here else f"sftp://127.0.0.1{base}/{path}"
        with pytest.raises(JobRefused) as refusal:
            site.desk.copy(REQUEST, [spec(url)], destination("tape:x"))
        assert refusal.value.code in ("bad-path", "unknown-endpoint", "scheme-not-allowed")


@pytest.mark.parametrize("name", ["here", "hpc"])
@pytest.mark.parametrize("path", ["leads_out/secret", "climbs_out/secret", "file_out"])
def test_a_link_that_leads_out_is_no_source(site: JobSite, name: str, path: str) -> None:
    assert "leads out" in site.fail(site.copy(f"{name}:{path}", "tape:x"))
    assert list(site.tape.iterdir()) == []


@pytest.mark.parametrize("name", ["here", "hpc"])
@pytest.mark.parametrize("path", ["leads_out/new", "climbs_out/deep/er/new", "nowhere/new"])
def test_nothing_is_written_through_a_link_that_leads_out(site: JobSite, name: str, path: str) -> None:
    reason = site.fail(site.copy("here:a", f"{name}:{path}"))
    assert "leads out" in reason or "is a link to nothing" in reason
    assert [each.name for each in (site.here.parent / "outside").iterdir()] == ["secret"]


@pytest.mark.parametrize("name", ["here", "hpc"])
def test_a_link_that_has_the_final_name_is_not_written_through(site: JobSite, name: str) -> None:
    assert "is there already" in site.fail(site.copy("here:a", f"{name}:file_out"))
    site.succeed(site.copy("here:a", f"{name}:file_out", overwrite=True))
    base = Path(site.endpoints.need(name).base)
    assert not (base / "file_out").is_symlink()
    assert (site.here.parent / "outside" / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("name", ["here", "hpc"])
def test_links_that_stay_inside_are_followed(site: JobSite, name: str) -> None:
    site.succeed(site.copy(f"{name}:leads_in/b", "tape:x"))
    site.succeed(site.copy(f"{name}:file_in", "tape:y"))
    site.succeed(site.copy("here:a", f"{name}:leads_in/new/c"))
    base = Path(site.endpoints.need(name).base)
    assert (base / "inner" / "new" / "c").read_bytes() == b"content"
    assert (site.tape / "x").read_bytes() == (site.tape / "y").read_bytes() == b"inner"


@pytest.mark.parametrize("name", ["here", "hpc"])
def test_a_deletion_takes_a_link_and_not_what_it_leads_to(site: JobSite, name: str) -> None:
    base = Path(site.endpoints.need(name).base)
    job, _ = site.desk.delete(REQUEST, Location(endpoint=name, path="leads_out"), recursive=True)
    site.succeed(job)
    assert not (base / "leads_out").is_symlink()
    job, _ = site.desk.delete(REQUEST, Location(endpoint=name, path="climbs_out/secret"))
    assert "leads out" in site.fail(job)
    job, _ = site.desk.delete(REQUEST, Location(endpoint=name, path="inner"))
    assert "recursive" in site.fail(job)
    (base / "inner" / "out").symlink_to(site.here.parent / "outside")
    job, _ = site.desk.delete(REQUEST, Location(endpoint=name, path="inner"), recursive=True)
    site.succeed(job)
    assert not (base / "inner").exists()
    assert (site.here.parent / "outside" / "secret").read_bytes() == b"secret"
    job, _ = site.desk.delete(REQUEST, Location(endpoint=name, path="inner"), recursive=True)
    site.succeed(job)


@pytest.mark.parametrize(
    ("source", "to", "code"),
    [
        ("nowhere:a", "tape:x", "unknown-endpoint"),
        ("here:a", "nowhere:x", "unknown-endpoint"),
        ("off:a", "tape:x", "endpoint-disabled"),
        ("here:a", "fixed:x", "read-only"),
        ("file:///etc/passwd", "tape:x", "unknown-endpoint"),
        ("file://otherhost/etc/passwd", "tape:x", "unknown-endpoint"),
        ("scp://otherhost/a", "tape:x", "unknown-endpoint"),
        ("gopher://otherhost/a", "tape:x", "scheme-not-allowed"),
        ("swift+https://host/v1/a/c/o", "tape:x", "scheme-not-allowed"),
        ("http://", "tape:x", "bad-url"),
        ("http://host:99999/", "tape:x", "bad-url"),
        ("no url at all://", "tape:x", "bad-url"),
        ("http://-oProxyCommand=x/", "tape:x", "bad-url"),
        ("here:a", "http://host/x", "unknown-endpoint"),
        ("here:a", "here:a", "same-target"),
        ("here:.mistamover-x", "tape:x", "bad-path"),
    ],
)
def test_what_is_refused_says_why(site: JobSite, source: str, to: str, code: str) -> None:
    with pytest.raises(JobRefused) as refusal:
        site.copy(source, to)
    assert refusal.value.code == code
    assert str(refusal.value).isprintable()


def test_refusals_of_whole_requests(site: JobSite) -> None:
    def code(*arguments: object, **words: object) -> str:
        with pytest.raises(JobRefused) as refusal:
            site.desk.copy(*arguments, **words)  # type: ignore[arg-type]
        return refusal.value.code

    reader = Request(who=Caller(name="r", scope=Scope.READ))
    assert code(reader, [spec("here:a")], destination("tape:x")) == "forbidden"
    assert code(REQUEST, [], destination("tape:x")) == "no-sources"
    assert code(REQUEST, [spec("here:a"), spec("hpc:a")], destination("tape:d/")) == "same-target"
    assert code(REQUEST, [spec("here:a"), spec("here:b")], Destination(url="", location=None)) == "bad-request"
    two = [spec("here:a"), spec("here:inner/b")]
    file = Destination(location=Location(endpoint="tape", path="x"), into=False)
    assert code(REQUEST, two, file) == "same-target"
    assert code(REQUEST, [spec("http://h/x")], destination("tape:x"), op=Op.MOVE) == "bad-request"
    assert code(REQUEST, [spec("fixed:x")], destination("tape:x"), op=Op.MOVE) == "read-only"
    assert code(REQUEST, [spec("here:a")], destination("tape:x"), options={"usr": "x"}) == "bad-option"
    assert code(REQUEST, [spec("here:a")], destination("tape:x"), options={"headers": {"X\n": "y"}}) == "bad-option"
    assert code(REQUEST, [SourceSpec()], destination("tape:x")) == "bad-request"
    assert code(REQUEST, [spec("here:a")], destination("tape:x"), op=Op.MOVE, packaging=Packaging.ZIP) == "not-packable"
    bad = SourceSpec(location=Location(endpoint="here", path="a"), hash_type="crc32", hash_value="0")
    assert code(REQUEST, [bad], destination("tape:x")) == "unsupported-hash"
    bad = SourceSpec(location=Location(endpoint="here", path="a"), hash_type="md5", hash_value="xyz")
    assert code(REQUEST, [bad], destination("tape:x")) == "bad-hash"
    site.change(max_items=1)
    assert code(REQUEST, two, destination("tape:x")) == "too-many-items"
    with pytest.raises(JobRefused, match="did you mean here"):
        site.copy("her:a", "tape:x")


def test_absolute_paths_are_taken_inside_of_the_base(site: JobSite) -> None:
    site.succeed(site.copy(f"here:{site.here}/inner/b", f"tape:{site.tape}/got"))
    assert (site.tape / "got").read_bytes() == b"inner"


def test_reasons_name_no_directory_of_the_host(site: JobSite) -> None:
    site.here.rename(site.here.with_name("gone"))
    reason = site.fail(site.copy("here:a", "tape:x"))
    assert str(site.here.parent) not in reason
    assert "here:" in reason

"""Endpoints: found by name and by URL, changed over the API, and their secrets kept apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.config import endpoint_urls
from mistamover.config.serving import CartSettings, EndpointSettings, EngineSettings, FrontSettings, JobSettings
from mistamover.errors import JobRefused
from mistamover.jobs.endpoints import Endpoints, shown_url
from mistamover.jobs.model import Location
from mistamover.jobs.store.store import Store


def written(name: str, url: str, **fields: object) -> EndpointSettings:
    parts = endpoint_urls.parsed(url)
    values = {"scheme": parts.scheme, "host": parts.host, "port": parts.port, "user": parts.user, "base": parts.base}
    return EndpointSettings(name=name, url=url, **{**values, **fields})  # type: ignore[arg-type]


@pytest.fixture
def endpoints(tmp_path: Path) -> Iterator[Endpoints]:
    store = Store(f"sqlite:///{tmp_path}/store.sqlite")
    store.prepare()
    settings = JobSettings(
        enabled=True,
        directory=tmp_path / "state" / "jobs",
        front=FrontSettings(),
        engine=EngineSettings(database_url=""),
        carts=CartSettings(volume=(tmp_path / "state" / "jobs") / "carts"),
        endpoints=(
            written("local", "file:///data"),
            written("inner", "file:///data/inner"),
            written("hpc", "sftp://joe@hpc.example.org/scratch"),
            written("port", "ssh://gate.example.org:2222/x"),
            written("home", "scp://home.example.org/~/files"),
            written("bucket", "s3://Bucket/pre/fix"),
            written("six", "sftp://[2001:db8::1]/x"),
            written("tape", "file:///tape", role="archive"),
        ),
    )
    yield Endpoints(settings, store.endpoints)
    store.close()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("file:///data/a", "local:a"),
        ("file://localhost/data/a%20b", "local:a b"),
        ("file:///data/inner/a", "inner:a"),
        ("file:///database/a", None),
        ("sftp://joe@hpc.example.org/scratch/a", "hpc:a"),
        ("scp://hpc.example.org/scratch/a", "hpc:a"),
        ("rsync://HPC.example.ORG:22/scratch/a", "hpc:a"),
        ("ssh://joe:secret@hpc.example.org//scratch/./a", "hpc:a"),
        ("sftp://other@hpc.example.org/scratch/a", None),
        ("sftp://hpc.example.org/elsewhere", None),
        ("sftp://gate.example.org/x/a", "port:a"),
        ("sftp://gate.example.org:22/x/a", None),
        ("sftp://home.example.org/~/files/a", "home:a"),
        ("sftp://home.example.org/files/a", None),
        ("s3://Bucket/pre/fix/a", "bucket:a"),
        ("s3://bucket/pre/fix/a", None),
        ("sftp://[2001:db8::1]/x/a", "six:a"),
        ("http://hpc.example.org/scratch/a", None),
    ],
)
def test_a_url_means_what_its_endpoint_says(endpoints: Endpoints, url: str, place: str | None) -> None:
    found = endpoints.resolve_url(url)
    assert (f"{found.endpoint}:{found.path}" if found else None) == place


@pytest.mark.parametrize(
    "url", ["", "x", "file:/data/a", "sftp://host:0/x", "sftp://-oX/x", "file:///data/a\nb", "x y://a/b"]
)
def test_what_is_no_url_is_refused(endpoints: Endpoints, url: str) -> None:
    with pytest.raises(JobRefused) as refusal:
        endpoints.resolve_url(url)
    assert refusal.value.code == "bad-url"


@pytest.mark.parametrize("url", ["file:///data/../etc", "file:///data/a%2fb", "sftp://hpc.example.org/scratch/../x"])
def test_a_url_does_not_climb(endpoints: Endpoints, url: str) -> None:
    with pytest.raises(JobRefused):
        endpoints.resolve_url(url)


def test_query_and_fragment_are_no_part_of_a_name(endpoints: Endpoints) -> None:
    with pytest.raises(JobRefused, match="%3F"):
        endpoints.resolve_url("file:///data/a?b")
    assert endpoints.resolve_url("file:///data/a%3Fb") == Location(endpoint="local", path="a?b")


def test_a_location_has_a_url_that_means_it(endpoints: Endpoints) -> None:
    for place in ("local:a b", "hpc:a/b%", "home:x", "bucket:k", "six:y"):
        name, _, path = place.partition(":")
        location = Location(endpoint=name, path=path)
        assert endpoints.resolve_url(endpoints.url_of(location)) == location


def test_an_endpoint_of_the_api_is_kept_changed_and_forgotten(endpoints: Endpoints, tmp_path: Path) -> None:
    made = endpoints.put("new", url="sftp://joe:pw@host/x", password="s3cret", identity="KEY", max_parallel=2)
    assert made.url == "sftp://joe@host/x"
    assert made.from_ini is False
    assert made.password_file is not None and made.identity_file is not None
    assert made.password_file.read_text() == "s3cret\n"
    assert made.password_file.stat().st_mode & 0o777 == 0o600
    assert endpoints.get("new") == made
    changed = endpoints.patch("new", read_only=True)
    assert (changed.read_only, changed.max_parallel, changed.password_file) == (True, 2, made.password_file)
    assert endpoints.patch("new", password="").password_file is None
    endpoints.delete("new")
    assert endpoints.get("new") is None
    assert list((tmp_path / "state" / "jobs" / "secrets").iterdir()) == []


def test_what_the_configuration_says_wins(endpoints: Endpoints) -> None:
    for change in (lambda: endpoints.put("hpc", url="file:///x"), lambda: endpoints.delete("hpc")):
        with pytest.raises(JobRefused) as refusal:
            change()
        assert refusal.value.code == "from-ini"
    endpoints._rows.put(written("hpc", "file:///x", from_ini=False))
    assert endpoints.shadowed() == {"hpc"}
    assert endpoints.need("hpc").scheme == "sftp"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("bad name", {"url": "file:///x"}),
        ("../x", {"url": "file:///x"}),
        ("x", {"url": "no url"}),
        ("x", {"url": "file:///x", "role": "king"}),
        ("x", {"url": "file:///x", "max_parallel": 0}),
        ("x", {"url": "file:///x", "ssh_config": "/tmp/evil"}),
        ("x", {"url": "file:///x", "password": "a\0b"}),
    ],
)
def test_what_can_be_no_endpoint_is_refused(endpoints: Endpoints, name: str, fields: dict[str, object]) -> None:
    with pytest.raises(JobRefused) as refusal:
        endpoints.put(name, **fields)  # type: ignore[arg-type]
    assert refusal.value.code == "bad-endpoint"


def test_the_services_own_files_are_no_endpoint(endpoints: Endpoints, tmp_path: Path) -> None:
    for base in ("/", tmp_path, tmp_path / "state", tmp_path / "state" / "jobs" / "secrets"):
        with pytest.raises(JobRefused, match="own files"):
            endpoints.put("x", url=f"file://{base}")


def test_the_archive_is_the_one_that_is_named_or_the_first(endpoints: Endpoints) -> None:
    assert endpoints.archive().name == "tape"
    with pytest.raises(JobRefused):
        endpoints.archive("local")
    with pytest.raises(JobRefused, match="did you mean hpc"):
        endpoints.need("hpcc")


def test_a_url_is_shown_without_its_login() -> None:
    assert shown_url("http://user:pw@host/x?y=1") == "http://host/x?y=1"
    assert shown_url("http://user:p%2fw@host\n") == "http://host\\n"

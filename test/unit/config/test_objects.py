"""Targets that a URL names: what [s3] and [url] mean together with [outgoing], and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mistamover.config.access import S3Access, UrlAccess
from mistamover.config.objects import options
from mistamover.config.settings import TargetSettings
from mistamover.errors import SecretError
from unit.config.sites import Site


def write(site: Site, protocol: str, url: str | None, more: str = "", unit: str = "file") -> None:
    site.write_global()
    lines = ["[outgoing]", f"transfer_protocol = {protocol}"] + ([f"target_url = {url}"] if url is not None else [])
    site.write("ds_one.ini", "\n".join([*lines, "[data_stream]", f"transfer_unit = {unit}", more, ""]))


def target(site: Site, protocol: str, url: str, more: str = "") -> TargetSettings:
    write(site, protocol, url, more)
    [found] = site.stream().targets
    return found


def s3(site: Site, url: str, more: str = "") -> S3Access:
    found = target(site, "s3", url, more).access
    assert isinstance(found, S3Access)
    return found


def url(site: Site, url: str, more: str = "") -> UrlAccess:
    found = target(site, "url", url, more).access
    assert isinstance(found, UrlAccess)
    return found


def test_a_bucket_of_amazon(site: Site) -> None:
    found = target(site, "s3", "s3://bucket/a/b/")
    assert (found.name, found.host, found.directory) == (
        "amazonaws.com:bucket/a/b",
        "amazonaws.com",
        "bucket/a/b",
    )
    access = s3(site, "s3://bucket")
    assert (access.bucket, access.prefix, access.addressing, access.secret_file) == ("bucket", "", "auto", None)
    assert s3(site, "s3://bucket/a/b/").prefix == "a/b/"


def test_a_store_of_ones_own(site: Site) -> None:
    more = "[s3]\nendpoint_url = https://store.example.org:9000\n"
    assert target(site, "s3", "s3://bucket/in", more).name == "store.example.org:9000:bucket/in"
    assert s3(site, "s3://bucket", more).addressing == "path"
    assert s3(site, "s3://bucket", more + "addressing = virtual\n").addressing == "virtual"


def test_directory_units_travel_as_zips_where_there_are_no_directories(site: Site) -> None:
    for protocol, place, zips in (
        ("s3", "s3://bucket", True),
        ("url", "gs://bucket", True),
        ("url", "file:///srv/data", False),
    ):
        write(site, protocol, place, unit="directory")
        assert site.stream().zips is zips


@pytest.mark.parametrize(
    ("place", "renames", "parents"),
    [("file:///srv/data/", True, True), ("sftp://host/data", True, True), ("gs://bucket/x", False, False)],
)
def test_how_files_appear_is_known_of_some_schemes(site: Site, place: str, renames: bool, parents: bool) -> None:
    found = url(site, place)
    assert (found.url, found.renames, found.parents) == (place.rstrip("/"), renames, parents)


def test_of_others_it_must_be_said(site: Site) -> None:
    write(site, "url", "smb://host/share")
    assert "[url] atomic" in site.problem().message
    assert url(site, "smb://host/share", "[url]\natomic = rename\n").renames
    found = url(site, "smb://host/share", "[url]\natomic = whole\n")
    assert (found.renames, found.parents) == (False, True)


def test_memory_is_no_place_for_data(site: Site) -> None:
    write(site, "url", "memory://x", "[url]\natomic = whole\n")
    assert "lost with the process" in site.problem().message


def test_a_target_here_is_not_in_the_stream(site: Site) -> None:
    write(site, "url", f"file://{site.top}/data/one/below")
    assert "lie in one another" in site.problem().message


@pytest.mark.parametrize(
    ("protocol", "place", "words"),
    [
        ("s3", None, "is not set"),
        ("s3", "s3:///no-bucket", "not a URL of that kind"),
        ("s3", "https://bucket", "not a URL of that kind"),
        ("s3", "bucket", "not a URL of that kind"),
        ("url", "/srv/data", "not a URL of that kind"),
        ("url", "simplecache::sftp://host/x", "more than a place"),
        ("url", "sftp://user:geheim@host/x", "more than a place"),
        ("s3", "s3://key:geheim@bucket/x", "more than a place"),
        ("url", "abfs://container/x?sig=geheim", "more than a place"),
    ],
)
def test_what_is_no_place_is_refused(site: Site, protocol: str, place: str | None, words: str) -> None:
    write(site, protocol, place)
    problem = site.problem()
    assert words in problem.message
    assert problem.key == "target_url"
    assert "geheim" not in str(problem)


@pytest.mark.parametrize("endpoint", ["store", "ftp://store", "https://", "https://u:geheim@store"])
def test_an_endpoint_is_a_url(site: Site, endpoint: str) -> None:
    write(site, "s3", "s3://bucket", f"[s3]\nendpoint_url = {endpoint}\n")
    problem = site.problem()
    assert problem.key == "endpoint_url"
    assert "geheim" not in str(problem)


def test_data_in_the_clear_are_warned_of(site: Site) -> None:
    write(site, "s3", "s3://bucket", "[s3]\nendpoint_url = http://store.example.org\n")
    assert "in the clear" in "".join(site.load().warnings)


@pytest.mark.parametrize(("protocol", "key"), [("s3", "secret_file"), ("url", "options_file")])
def test_secrets_are_private(site: Site, protocol: str, key: str) -> None:
    secret = site.write("secret", "id\ngeheim\n" if protocol == "s3" else "password = geheim\n")
    place = {"s3": "s3://bucket", "url": "sftp://host/data"}[protocol]
    more = f"[{protocol}]\n{key} = {secret}\n"
    assert "geheim" not in repr(target(site, protocol, place, more))
    secret.chmod(0o644)
    write(site, protocol, place, more)
    assert "chmod 600" in site.problem().message


def test_options_are_lines_or_json(tmp_path: Path) -> None:
    path = tmp_path / "options"
    path.touch(mode=0o600)
    path.write_text('{"port": 22,\n "password": "a=b"}\n')
    assert options(path) == {"port": 22, "password": "a=b"}
    path.write_text("# what it needs\n[options]\npassword = a=b\nport=22\n\n")
    assert options(path) == {"password": "a=b", "port": "22"}
    for text in ("{", "password\n"):
        path.write_text(text)
        with pytest.raises(SecretError):
            options(path)


def test_options_that_cannot_be_read_are_a_problem(site: Site) -> None:
    path = site.write("options", "{geheim")
    write(site, "url", "sftp://host/data", f"[url]\noptions_file = {path}\n")
    problem = site.problem()
    assert problem.key == "options_file"
    assert "geheim" not in str(problem)


def test_libraries_are_not_loaded_to_read_the_configuration(site: Site) -> None:
    write(site, "s3", "s3://bucket")
    program = (
        "import sys; from pathlib import Path; from mistamover.config.load import load; "
        "load(Path(sys.argv[1]), {}); print([n for n in ('botocore', 'fsspec', 'asyncio') if n in sys.modules])"
    )
    words = [sys.executable, "-c", program, str(site.global_file)]
    said = subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)
    assert said.stdout.strip() == "[]"

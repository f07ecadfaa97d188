"""What [carts] means, what the environment says where it is silent, and where the volume may not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.config import check
from mistamover.config.serving import CartSettings, JobSettings
from unit.config.sites import Site

#: As the set-up of carts is printed, paths apart.
PRINTED = """\
[front]
enabled = True
carts_at_root = True
[endpoints]
  [[tape]]
  url = pacifica+http://archive.example.org:8080/
[carts]
archive = tape
volume_path = {top}/carts
quota = 500GB
lru_buffer_time = 3600
"""


def jobs(site: Site, text: str, **environ: str) -> JobSettings:
    site.write_global(text)
    found = site.load(environ).jobs
    assert found is not None
    return found


def test_what_is_printed_works_as_printed(site: Site) -> None:
    found = jobs(site, PRINTED.format(top=site.top))
    assert found.carts == CartSettings(
        volume=site.top / "carts", archive="tape", quota=500 * 10**9, lru_buffer_time=3600.0
    )
    assert site.load().warnings == ()
    (tape,) = found.endpoints
    assert (tape.scheme, tape.host, tape.port, tape.base) == ("pacifica+http", "archive.example.org", 8080, "/")
    assert (tape.read_only, found.front.carts_at_root) == (True, True)


def test_nothing_has_to_be_said(site: Site) -> None:
    found = jobs(site, "[front]\n")
    assert found.carts == CartSettings(volume=found.directory / "carts")


def test_everything_can_be_said(site: Site) -> None:
    text = (
        "[carts]\nbundle = yes\nmanifest = no\nmax_files = 7\npulls = 9\nstage_timeout = 2h\nquota = 1.5 TiB\n"
        "volume_path = ../somewhere\n"
    )
    assert jobs(site, text).carts == CartSettings(
        volume=site.top / "somewhere",
        bundle=True,
        manifest=False,
        max_files=7,
        pulls=9,
        stage_timeout=7200.0,
        quota=3 * 2**39,
    )


def test_the_variables_of_the_data_cart_count_where_the_file_is_silent(site: Site) -> None:
    environ = {
        "VOLUME_PATH": str(site.top / "volume"),
        "LRU_BUFFER_TIME": "60",
        "BUNDLE_TASK": "on",
        "ARCHIVE_INTERFACE_URL": "archivei:8080/",
    }
    found = jobs(site, "[front]\n", **environ)
    assert found.carts == CartSettings(volume=site.top / "volume", lru_buffer_time=60.0, bundle=True, archive="archive")
    (archive,) = found.endpoints
    assert (archive.name, archive.url, archive.read_only) == ("archive", "pacifica+http://archivei:8080/", True)
    written = jobs(site, PRINTED.format(top=site.top), **environ)
    assert (written.carts.archive, written.carts.volume) == ("tape", site.top / "carts")
    assert (written.carts.lru_buffer_time, written.carts.bundle) == (3600.0, True)
    # Without a word of jobs there are none.
    site.write_global()
    assert site.load({**environ, "LRU_BUFFER_TIME": "another program's"}).jobs is None


@pytest.mark.parametrize("url", ["http://h:1/", "https://h/", "pacifica+http://h:1/base/"])
def test_a_url_is_an_endpoint_of_its_own(site: Site, url: str) -> None:
    found = jobs(site, f"[carts]\narchive = {url}\n")
    assert found.carts.archive == found.endpoints[0].name == "archive"
    assert found.endpoints[0].url == (url if url.startswith("pacifica") else f"pacifica+{url}")


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("archive = tap", "archive", 'did you mean "tape"?'),
        ("archive = nothing-like-it", "archive", "write [[nothing-like-it]] below [endpoints]"),
        ("archive = ftp://h/", "archive", "is no URL of an archive interface"),
        ("archive = http://user:secret@h/", "archive", "holds no password"),
        ("archive = http://h:0/", "archive", "port"),
        ("quota = lots", "quota", "is not a size, expected bytes"),
        ("quota = 5 XB", "quota", "is not a size"),
        ("quota = -5", "quota", "is not a size"),
        ("volume_path = {top}/conf", "volume_path", "holds the service's own files"),
        ("volume_path = {top}/data/carts", "volume_path", "of the endpoint here lie in each other"),
        ("volume_path = {top}/data/..", "volume_path", "expected a directory that is for carts alone"),
        ("pulls = 0", "pulls", "expected a whole number from 1 to 64"),
        ("archve = tape", "archve", 'did you mean "archive"?'),
    ],
)
def test_what_cannot_be_used_is_said(site: Site, text: str, key: str, words: str) -> None:
    (site.top / "data").mkdir(exist_ok=True)
    endpoints = "[endpoints]\n[[tape]]\nurl = pacifica+http://h/\n[[here]]\nurl = file://{top}/data\n"
    site.write_global(f"{endpoints}[carts]\n{text}\n".format(top=site.top))
    problem = site.problem()
    assert (problem.section, problem.key) == ("carts", key)
    assert words in f"{problem.message} {problem.hint}"
    assert "secret" not in str(problem)


def test_a_link_does_not_hide_where_the_volume_is(site: Site) -> None:
    (site.top / "data").mkdir(exist_ok=True)
    (site.top / "elsewhere").symlink_to(site.top / "data")
    text = "[endpoints]\n[[here]]\nurl = file://{top}/data\n[carts]\nvolume_path = {top}/elsewhere/carts\n"
    site.write_global(text.format(top=site.top))
    assert site.problem().key == "volume_path"


def test_a_name_that_is_taken(site: Site) -> None:
    site.write_global("[endpoints]\n[[archive]]\nurl = sftp://h/x\n[carts]\narchive = http://h/\n")
    assert "there is an endpoint archive already" in site.problem().message


def test_an_archive_interface_may_have_the_role_of_an_archive(site: Site) -> None:
    text = "[endpoints]\n[[tape]]\nurl = pacifica+https://h/\nrole = archive\n"
    (tape,) = jobs(site, text).endpoints
    assert (tape.role, tape.read_only) == ("archive", True)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("123", 123), ("500GB", 500 * 10**9), ("500 GB", 500 * 10**9), ("4 Mb", 4 << 20), ("4MiB", 4 << 20),
     ("1.5KB", 1500), ("2 TB", 2 * 10**12), ("1 Tb", 1 << 40), ("7 B", 7), ("1 kB", 1000), ("0.5 GiB", 1 << 29)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert check.size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "1 G", "1e9", "1,5GB", "12 parsecs", "9" * 20, "1 GBB", "½ GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(check.CheckError):
        check.size(text)


def test_a_stream_does_not_watch_the_volume(site: Site, tmp_path: Path) -> None:
    site.write_global(f"[front]\n[carts]\nvolume_path = {site.top}/data/one/carts\n")
    site.write_stream()
    (site.top / "data" / "one").mkdir(parents=True, exist_ok=True)
    assert "the volume of carts" in site.problem().message

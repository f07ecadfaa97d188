"""What the subsections of [endpoints] mean, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.config.serving import EndpointSettings
from unit.config.sites import Site


def endpoints(site: Site, text: str) -> tuple[EndpointSettings, ...]:
    site.write_global(f"[endpoints]\n{text}")
    found = site.load().jobs
    assert found is not None
    return found.endpoints


def endpoint(site: Site, url: str, more: str = "") -> EndpointSettings:
    (found,) = endpoints(site, f"[[it]]\nurl = {url}\n{more}")
    return found


def private(path: Path, mode: int = 0o600) -> Path:
    path.write_text("secret\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("url", "scheme", "user", "host", "port", "base"),
    [
        ("file:///data/a b", "file", "", "", None, "/data/a b"),
        ("FILE://localhost/data//x/./y/", "file", "", "", None, "/data/x/y"),
        ("file:///data/a%23b%20c", "file", "", "", None, "/data/a#b c"),
        ("file:///data/%ff", "file", "", "", None, "/data/\udcff"),
        ("sftp://user@h.example.org:2222/scratch", "sftp", "user", "h.example.org", 2222, "/scratch"),
        ("ssh://h/x", "sftp", "", "h", None, "/x"),
        ("scp://h//x", "sftp", "", "h", None, "/x"),
        ("rsync://h/x", "sftp", "", "h", None, "/x"),
        ("sftp://h", "sftp", "", "h", None, "/"),
        ("sftp://h/", "sftp", "", "h", None, "/"),
        ("sftp://h/~/in", "sftp", "", "h", None, "in"),
        ("sftp://h/~", "sftp", "", "h", None, "."),
        ("sftp://[::1]:22/x", "sftp", "", "::1", 22, "/x"),
        ("ftp://me%2Bx@h/x", "ftp", "me+x", "h", None, "/x"),
        ("ftps://h:990/x", "ftps", "", "h", 990, "/x"),
        ("s3://bucket/a/b/", "s3", "", "bucket", None, "a/b"),
        ("s3://bucket", "s3", "", "bucket", None, ""),
        ("https://h/x", "https", "", "h", None, "/x"),
        ("webdav://h/x", "webdav", "", "h", None, "/x"),
    ],
)
def test_a_url_is_taken_apart(
    site: Site, url: str, scheme: str, user: str, host: str, port: int | None, base: str
) -> None:
    found = endpoint(site, url)
    assert (found.scheme, found.user, found.host, found.port, found.base) == (scheme, user, host, port, base)
    assert found.url == url
    assert found.read_only == (scheme == "https")


def test_every_key_has_its_effect(site: Site) -> None:
    key, config, secret = (private(site.conf / name) for name in ("key", "config", "secret"))
    found = endpoint(
        site,
        "sftp://u@h/x",
        """\
        base = other/place
        description = a machine, with: signs
        role = Archive
        read_only = True
        enabled = False
        dry_run = True
        max_parallel = 2
        identity_file = key
        ssh_config = config
        password_file = secret
        accept_new_host_keys = True
        options = scheduler=slurm, nodes=12
        """.replace("        ", ""),
    )
    assert found == EndpointSettings(
        name="it",
        url="sftp://u@h/x",
        scheme="sftp",
        host="h",
        user="u",
        base="other/place",
        description="a machine, with: signs",
        role="archive",
        read_only=True,
        enabled=False,
        dry_run=True,
        max_parallel=2,
        identity_file=key,
        ssh_config=config,
        password_file=secret,
        accept_new_host_keys=True,
        options={"scheduler": "slurm", "nodes": "12"},
    )


def test_a_local_base_is_found_from_the_global_file(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(site.top))
    assert endpoint(site, "file:///", "base = ../data\n").base == f"{site.top}/data"
    assert endpoint(site, "file:///", "base = ~/data\n").base == f"{site.top}/data"


def test_what_stands_above_all_subsections_is_the_default_of_all(site: Site) -> None:
    text = "max_parallel = 2\n[[a]]\nurl = sftp://a/x\n[[b]]\nurl = sftp://b/x\nmax_parallel = 3\n"
    assert [each.max_parallel for each in endpoints(site, text)] == [2, 3]


def test_values_may_refer_to_others(site: Site) -> None:
    found = endpoint(site, "file://$(global:top)/$(endpoints:description)", "description = data\n")
    assert found.base == f"{site.top}/data"


def test_a_directory_that_is_not_there_is_told(site: Site) -> None:
    endpoint(site, f"file://{site.top}/none")
    assert "there is no directory" in site.load().warnings[0]
    assert "[endpoints/it] url" in site.load().warnings[0]


@pytest.mark.parametrize(
    ("text", "key", "words", "hint"),
    [
        ("url = sftp://u:s3cr3t@h/x\n", "url", "holds a password", "password_file"),
        ("url = file://data/x\n", "url", "three slashes", ""),
        ("url = /data\n", "url", "cannot be used", ""),
        ("url = sftp://h:0/x\n", "url", "cannot be used", ""),
        ("url = sftp://h:99999/x\n", "url", "cannot be used", ""),
        ("url = sftp:///x\n", "url", "names no host", ""),
        ("url = sftp://-oProxyCommand=x/y\n", "url", "no host name", ""),
        ("url = sftp://-l@h/y\n", "url", "is no user name", ""),
        ("url = sftp://h/x?y\n", "url", "no ? and no #", ""),
        ("url = sftp://h/x#y\n", "url", "no ? and no #", ""),
        ("url = sftp://h/x/../y\n", "url", "holds `..`", ""),
        ("url = sftp://h/x/%2e%2e/y\n", "url", "holds `..`", ""),
        ("url = sftp://h/x%00y\n", "url", "zero byte", ""),
        ("url = s3:///x\n", "url", "names no host", ""),
        ("url = memory://h/x\n", "url", "is lost", ""),
        ("url = file://{top}\n", "url", "the service's own files", "another directory"),
        ("url = file://{top}/state/jobs\n", "url", "the service's own files", "another directory"),
        ("url = file:///\n", "url", "the service's own files", "another directory"),
        ("url = sftp://h/x\nbase = ../x\n", "base", "leads upwards", ""),
        ("url = sftp://h/x\nread_olny = True\n", "read_olny", "unknown key", 'did you mean "read_only"?'),
        ("url = sftp://h/x\npassword = s3cr3t\n", "password", "unknown key", "password_file"),
        ("url = sftp://h/x\nrole = tape\n", "role", "expected one of normal, archive", ""),
        ("url = https://h/x\nrole = archive\n", "role", "nothing can be written", ""),
        ("url = sftp://h/x\nmax_parallel = 0\n", "max_parallel", "1 or more", ""),
        ("url = sftp://h/x\nidentity_file = nokey\n", "identity_file", "there is no file", ""),
        ("url = sftp://h/x\npassword_file = open\n", "password_file", "can be read by others", ""),
        ("url = sftp://h/x\noptions = a=1 b\n", "options", "has no value", ""),
    ],
)
def test_what_is_wrong_is_told_where_it_is(site: Site, text: str, key: str, words: str, hint: str) -> None:
    private(site.conf / "open", 0o644)
    path = site.write_global(f"[endpoints]\n[[it]]\n{text.format(top=site.top)}")
    problem = site.problem()
    assert (problem.file, problem.section, problem.key) == (str(path), "endpoints/it", key)
    assert problem.line is not None
    assert path.read_text().splitlines()[problem.line - 1].startswith(key)
    assert words in problem.message
    assert hint in problem.hint
    assert "s3cr3t" not in str(problem)


@pytest.mark.parametrize(
    ("text", "line", "section", "words"),
    [
        ("[[it]]\nrole = archive\n", 5, "endpoints/it", "is not set"),
        ("[[it's]]\nurl = sftp://h/x\n", 5, "endpoints/it's", "cannot be used"),
        ("[[-x]]\nurl = sftp://h/x\n", 5, "endpoints/-x", "cannot be used"),
        ("[[a]]\nurl = sftp://h/x\n[[[b]]]\n", 5, "endpoints/a", 'a subsection "b"'),
        ("url = sftp://h/x\n", 5, "endpoints", "above all subsections"),
        ("max_parallel = none of them\n[[a]]\nurl = sftp://h/x\n", 5, "endpoints", "is not a whole number"),
    ],
)
def test_what_is_wrong_with_a_whole_subsection(site: Site, text: str, line: int, section: str, words: str) -> None:
    site.write_global(f"[endpoints]\n{text}")
    problem = site.problem()
    assert (problem.line, problem.section) == (line, section)
    assert words in problem.message


def test_keys_of_ssh_have_no_effect_elsewhere(site: Site) -> None:
    endpoint(site, "ftp://h/x", "accept_new_host_keys = True\n")
    assert "does not go by ssh" in site.load().warnings[0]


@pytest.mark.parametrize(
    ("url", "base", "found"),
    [
        ("sftp://h/x", "/a//b/.", "/a/b"),
        ("sftp://h/x", "a/b", "a/b"),
        ("sftp://h/x", "~/a", "a"),
        ("sftp://h/x", "~", "."),
        ("ftp://h/x", "a", "/a"),
        ("s3://bucket/x", "/a/", "a"),
    ],
)
def test_the_base_takes_the_place_of_the_path(site: Site, url: str, base: str, found: str) -> None:
    assert endpoint(site, url, f"base = {base}\n").base == found

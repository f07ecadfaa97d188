"""Targets by GridFTP: what their sections mean, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.config.access import GridFtpAccess
from unit.config.sites import Site

_HEAD = """\
[outgoing]
transfer_protocol = gridftp_{0}
target_host = grid.example.org
target_dir = /in
[gridftp_{0}]
"""
_PROGRAMS = ("globus-url-copy", "gfal-rename", "grid-proxy-init", "myproxy-logon")


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with something of the names of the programs; nothing else can be found."""
    place = tmp_path / "grid" / "bin"
    place.mkdir(parents=True)
    for name in _PROGRAMS:
        (place / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(place))
    monkeypatch.delenv("GLOBUS_LOCATION", raising=False)
    return place


def write(site: Site, kind: str, more: str = "") -> None:
    site.write_global()
    site.write("ds_one.ini", _HEAD.format(kind) + more)


def access(site: Site, kind: str, more: str = "") -> GridFtpAccess:
    write(site, kind, more)
    [target] = site.stream().targets
    assert isinstance(target.access, GridFtpAccess)
    assert "geheim" not in repr(target)
    return target.access


def test_a_certificate(site: Site) -> None:
    found = access(site, "certificate")
    assert (found.cmd, found.port, found.password, found.proxy_server) == (("globus-url-copy",), 2811, "", None)
    found = access(site, "certificate", "cmd = globus-url-copy -p 4\nport = 2812\npassword = geheim\n")
    assert (found.cmd, found.port, found.password) == (("globus-url-copy", "-p", "4"), 2812, "geheim")


def test_a_myproxy_server(site: Site) -> None:
    found = access(site, "myproxy", "username = robot\npassword = geheim\nproxy = proxy.example.org\n")
    assert (found.username, found.password, found.proxy_server) == ("robot", "geheim", "proxy.example.org")


def test_what_a_myproxy_server_needs(site: Site) -> None:
    write(site, "myproxy")
    assert {problem.key for problem in site.problems()} == {"username", "password", "proxy"}


def test_a_password_is_in_one_place(site: Site) -> None:
    secret = site.write("secret", "geheim\n")
    write(site, "certificate", f"password = geheim\npassword_file = {secret}\n")
    assert site.problem().key == "password_file"


def test_programs_that_are_missing(site: Site, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    write(site, "certificate")
    problems = site.problems()
    assert ["globus-url-copy" in problems[0].message, "gfal-rename" in problems[1].message] == [True, True]
    assert "sftp, rsync_ssh, or s3" in problems[0].hint
    monkeypatch.setenv("GLOBUS_LOCATION", str(programs.parent))
    access(site, "certificate")

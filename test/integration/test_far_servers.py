"""Streams to servers that only keep files, end to end: moved, mirrored, and with everything killed in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import laws
from agents import agent_of
from laws import Witness
from mistamover.testing.ftpd import PASSWORD, PrivateFtpd
from mistamover.testing.sshd import PrivateSshd
from servers import Server, make, protocol
from support import Stream, tree, wait_until


@pytest.fixture(params=["sftp", "ftp", "ftps"])
def server(request: pytest.FixtureRequest) -> Server:
    """One server of each kind, shared: not to be stopped."""
    return request.getfixturevalue({"sftp": "sftp_only", "ftp": "ftpd", "ftps": "ftpsd"}[request.param])  # type: ignore[no-any-return]


@pytest.fixture(params=["sftp", "ftp"])
def mortal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A server of its own, which may be stopped and started."""
    # What is shared is asked for, so that the test is skipped where it cannot run.
    request.getfixturevalue({"sftp": "sftp_only", "ftp": "ftpd"}[request.param])
    place = tmp_path / "server"
    with (
        PrivateSshd(place, options=("ForceCommand internal-sftp",))
        if request.param == "sftp"
        else PrivateFtpd(place, Path("/"))
    ) as made:
        yield made


def fill(one: Stream, count: int, size: int = 3000) -> dict[bytes, str | bytes]:
    """Write files into the source; return what is promised."""
    promised: dict[bytes, str | bytes] = {}
    for number in range(count):
        name = b"d%d/file %d" % (number % 5, number)
        promised[name] = laws.put(os.fsencode(one.source) + b"/" + name, os.urandom(size + number))
    return promised


def never_partial(one: Stream, promised: dict[bytes, str | bytes]) -> Witness:
    """Watch that nothing but whole content is ever seen under a final name."""

    def look() -> Iterator[str]:
        for name, content in laws.public(one).items():
            if promised.get(name) != content:
                yield f"{name!r} is not what was promised"

    return Witness(look)


def some_arrived(one: Stream, count: int) -> None:
    wait_until(lambda: len(laws.public(one)) >= count, 30, f"{count} have arrived", every=0.01)


def test_a_backlog_is_moved(server: Server, scratch: Path) -> None:
    site, one = make(scratch, server)
    promised = fill(one, 100 if protocol(server) == "ftps" else 500)
    with laws.lawful(site, one):
        laws.arrived(one, promised, timeout=60)
        late = {b"late": laws.put(one.source / "late", b"late")}
        laws.arrived(one, {**promised, **late})


def test_a_mirror(server: Server, scratch: Path) -> None:
    site, one = make(scratch, server, keys={"transfer_mode": "mirror"}, outgoing={"mirror_delete": True})
    promised = fill(one, 40)
    (one.source / "empty").mkdir()
    before = tree(one.source)
    with laws.lawful(site, one, timeout=20):
        wait_until(lambda: laws.public(one) == promised, 30, "all is there")
        assert tree(one.source) == before
        promised[b"d1/file 1"] = laws.put(one.source / "d1/file 1", b"another content")
        (one.source / "d2/file 2").unlink()
        del promised[b"d2/file 2"]
        wait_until(lambda: laws.public(one) == promised, 30, "what has changed and what is gone")
    assert (one.target / "empty").is_dir()
    for name in promised:
        path = os.fsdecode(name)
        assert int((one.target / path).stat().st_mtime) == int((one.source / path).stat().st_mtime)
        assert (one.target / path).stat().st_mode == (one.source / path).stat().st_mode


def test_the_server_is_killed_in_the_middle(mortal: Server, scratch: Path) -> None:
    site, one = make(scratch, mortal)
    promised = fill(one, 200)
    with never_partial(one, promised) as witness, laws.lawful(site, one, timeout=30):
        some_arrived(one, 20)
        mortal.stop()
        laws.somewhere(one, promised)
        # It may have been through in that moment.
        promised[b"after"] = laws.put(one.source / "after", b"after")
        wait_until(lambda: laws.snapshot(site, one).get("state") == "UNREACHABLE", 30, "it says so")
        mortal.start()
        laws.arrived(one, promised, timeout=60)
    witness.swear()


def test_the_agent_is_killed_in_the_middle(mortal: Server, scratch: Path) -> None:
    site, one = make(scratch, mortal)
    promised = fill(one, 200)
    with never_partial(one, promised) as witness:
        with agent_of(site) as agent:
            some_arrived(one, 20)
            agent.kill()
        laws.somewhere(one, promised)
        with laws.lawful(site, one, timeout=30):
            laws.arrived(one, promised, timeout=60)
    witness.swear()


def test_a_directory_unit(server: Server, scratch: Path) -> None:
    """As it is by SFTP; by FTP as a zip, as it always was."""
    site, one = make(scratch, server, data_stream={"transfer_unit": "directory"})
    for number in range(10):
        laws.put(one.source / f"unit/d/file {number}", b"%d" % number)
    assert site.one_off().returncode == 0
    names = set(laws.public(one))
    if protocol(server) == "sftp":
        assert names == {b"unit/d/file %d" % number for number in range(10)}
    else:
        assert names == {b"unit.zip"}
    assert not (one.source / "unit").exists()


def test_a_wrong_password_is_told_and_not_shown(ftpd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpd, keys={"password": "not it at all"})
    laws.put(one.source / "f", b"content")
    with agent_of(site) as agent:
        wait_until(lambda: laws.snapshot(site, one).get("state") == "UNREACHABLE", 30, "it says so")
        said = agent.said() + laws.logs(site) + site.ask("status").stdout + site.ask("why", "one", "f").stdout
    assert "530" in said and "check username and password" in said
    assert "not it at all" not in said
    assert (one.source / "f").exists()


def test_a_password_file(ftpd: PrivateFtpd, scratch: Path) -> None:
    secret = scratch / "secret"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    site, one = make(scratch, ftpd, keys={"password": None, "password_file": secret})
    promised = fill(one, 2)
    assert site.one_off().returncode == 0
    assert laws.public(one) == promised
    secret.chmod(0o644)
    done = site.one_off()
    assert done.returncode == 2
    assert "only its owner can read" in done.stderr


def test_names_that_the_protocol_cannot_carry(ftpd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpd)
    for name in (b"new\nline", b"invalid\xff", b"not \xe9 utf-8", b"good"):
        laws.put(os.fsencode(one.source) + b"/" + name, b"content")
    site.one_off()
    assert set(laws.public(one)) == {b"good"}
    assert set(os.listdir(os.fsencode(one.source / "quarantine"))) >= {b"new\nline", b"invalid\xff", b"not \xe9 utf-8"}
    assert "FTP cannot carry" in laws.logs(site)


def test_a_certificate_of_ones_own(ftpsd: PrivateFtpd, scratch: Path) -> None:
    site, one = make(scratch, ftpsd, keys={"ca_file": None})
    laws.put(one.source / "f", b"content")
    assert site.one_off().returncode == 1
    assert "name its authority in ca_file" in laws.logs(site)
    assert (one.source / "f").exists()

"""sftp to a server that takes a password only, and knows nothing beyond the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import laws
from agents import agent_of, processes_of
from mistamover.testing.passwords import PASSWORD, PasswordServer
from support import Site, Stream, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PasswordServer]:
    with PasswordServer(tmp_path) as made:
        yield made


def make(scratch: Path, server: PasswordServer, password: str, **keys: object) -> tuple[Site, Stream]:
    secret = scratch / "secret"
    secret.write_text(password + "\n")
    secret.chmod(0o600)
    login = {"ssh_config": server.ssh_config, "password_file": secret, **keys}
    outgoing = {"transfer_protocol": "sftp", "target_host": server.host}
    return laws.make(scratch, None, outgoing=outgoing, sftp=login)  # type: ignore[arg-type]


def test_files_are_moved_and_replaced(server: PasswordServer, scratch: Path) -> None:
    site, one = make(scratch, server, PASSWORD)
    laws.put(one.target / "f 1", b"old")
    with laws.lawful(site, one):
        promised = {b"f %d" % n: laws.put(one.source / f"f {n}", b"%d" % n * 1000) for n in range(20)}
        laws.arrived(one, promised)
        shown = [word for process in processes_of(site) for word in _words(process)]
    assert not any(PASSWORD in word for word in shown)
    assert PASSWORD not in laws.logs(site)
    kept = [path for path in site.state.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    assert kept == []


def _words(process: psutil.Process) -> list[str]:
    """Return its command line and its environment; nothing of one that has ended."""
    try:
        return [*process.cmdline(), *process.environ().values()]
    except psutil.Error:
        return []


def test_a_wrong_password(server: PasswordServer, scratch: Path) -> None:
    site, one = make(scratch, server, "wrong")
    laws.put(one.source / "f", b"content")
    with agent_of(site):
        wait_until(lambda: laws.snapshot(site, one).get("state") == "UNREACHABLE", 20, "it says so")
    assert "Permission denied" in laws.logs(site)
    assert (one.source / "f").exists()


def test_an_unknown_host_gets_no_password(server: PasswordServer, scratch: Path, tmp_path: Path) -> None:
    site, one = make(scratch, server, PASSWORD)
    (tmp_path / "known_hosts").write_text("")
    laws.put(one.source / "f", b"content")
    assert site.one_off().returncode == 1
    assert "Host key verification failed" in laws.logs(site)
    assert not laws.public(one)

"""The contract of transports, kept by `ftp` and `ftps`; and what only these can be asked."""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import Contract, End, Traits, confirmed, deliver, digest_of
from mistamover.config.access import FtpAccess, Tls
from mistamover.config.settings import TargetSettings
from mistamover.testing.ftpd import PASSWORD, USER, PrivateFtpd
from mistamover.transport.base import Transport
from mistamover.transport.by_file import ByFile
from mistamover.transport.ftp_files import FtpFiles
from mistamover.transport.ftp_session import FtpSession
from support import free_port


def _takes(name: bytes) -> bool:
    """FTP has lines, and this server names in UTF-8."""
    try:
        return not set("\r\n") & set(name.decode())
    except UnicodeDecodeError:
        return False


class _End(End):
    traits = Traits(links=False, resolution=10**9, takes=_takes, reserve=False, huge=32 * 1024 * 1024)

    def unreachable(self) -> Transport:
        return self.transport(access=dataclasses.replace(self._changes["access"], port=free_port()))  # type: ignore[type-var]


def _make(end: End, target: TargetSettings, keep: bool) -> Transport:
    access = target.access
    assert isinstance(access, FtpAccess)
    return ByFile(
        lambda: FtpFiles(target, access),
        source=os.fsencode(end.source),
        target=target,
        run_dir=end.run,
        owner="me",
        keep_extra=keep,
    )


def access(server: PrivateFtpd, **changes: object) -> FtpAccess:
    """Return how to get in at a private server."""
    made = FtpAccess(
        port=server.port,
        tls=Tls.STARTTLS if server.certificate else Tls.NONE,
        ca_file=server.certificate,
        username=USER,
        password=PASSWORD,
        password_file=None,
        passive=True,
        connect_timeout=5,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


class TestFtp(Contract):
    @pytest.fixture
    def end(self, scratch: Path, ftpd: PrivateFtpd) -> Iterator[End]:
        made = _End(scratch, _make, host=ftpd.host, access=access(ftpd))
        yield made
        made.close()


class TestFtps:
    """What encryption may change."""

    @pytest.fixture
    def end(self, scratch: Path, ftpsd: PrivateFtpd) -> Iterator[End]:
        made = _End(scratch, _make, host=ftpsd.host, access=access(ftpsd))
        yield made
        made.close()

    transport = Contract.transport
    nothing_left = Contract.nothing_left
    test_an_empty_file_and_a_big_one = Contract.test_an_empty_file_and_a_big_one
    test_a_file_takes_the_place_of_another = Contract.test_a_file_takes_the_place_of_another
    test_it_is_given_up_in_the_middle = Contract.test_it_is_given_up_in_the_middle
    test_it_is_cut_from_another_thread = Contract.test_it_is_cut_from_another_thread
    test_nobody_is_there = Contract.test_nobody_is_there
    test_a_probe = Contract.test_a_probe


@pytest.mark.parametrize("how", ["hashes", "careful", "old", "implicit", "active"])
def test_servers_of_other_kinds(scratch: Path, tmp_path: Path, ftpsd: PrivateFtpd, how: str) -> None:
    """One that hashes, one that renames over nothing, an old one, one that is encrypted at once, and one that connects
    to us.
    """
    implicit = how == "implicit"
    options = () if how == "active" else (how,)
    with PrivateFtpd(tmp_path / "server", Path("/"), tls=implicit, how=options) as server:
        login = access(server, passive=how != "active", tls=Tls.TLS if implicit else Tls.NONE)
        end = _End(scratch, _make, host=server.host, access=login)
        transport = end.transport()
        transport.open()
        for content in (b"old", b"new and longer"):
            units = [end.put(name, content) for name in ("a", "d/b", " odd ")]
            verdicts = confirmed(deliver(transport, units))
            assert {verdict.algorithm for verdict in verdicts.values()} == {"sha256" if how == "hashes" else "xxh128"}
        assert end.files() == {name: digest_of(b"new and longer", "sha256") for name in (b"a", b"d/b", b" odd ")}
        assert set(transport.remove([b"a", b"d/b", b"d", b" odd "])) == {b"a", b"d/b", b"d", b" odd "}
        end.close()
        assert not end.tree()
        log = server.log.read_text()
    assert ("RETR" in log) is (how != "hashes")
    assert "Traceback" not in log


def test_one_tls_session_serves_both_connections(ftpsd: PrivateFtpd) -> None:
    """As servers demand that do not want a data connection to be taken by somebody else."""
    session = FtpSession(ftpsd.host, access(ftpsd))
    session.connect()
    try:
        data = session.begin("NLST", b"/proc/self/task")
        assert isinstance(data.sock, ssl.SSLSocket)
        assert data.sock.session_reused
        data.abandon()
    finally:
        session.close()

"""The contract of transports, kept by `ftp` and `ftps`; and what only these can be asked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract import Contract, End, Traits
from mistamover.config.settings import FtpAccess, TargetSettings, Tls
from mistamover.testing.ftpd import PASSWORD, USER, PrivateFtpd
from mistamover.transport.base import Transport
from mistamover.transport.by_file import ByFile
from mistamover.transport.ftp_files import FtpFiles
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

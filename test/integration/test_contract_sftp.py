"""The contract of transports, kept by `sftp` at a server that gives no shell; and what only SFTP can be asked."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import contract
from contract import Contract, End, Traits
from mistamover.config.settings import TargetSettings
from mistamover.testing.sshd import PrivateSshd
from mistamover.transport.base import Transport
from mistamover.transport.by_file import ByFile
from mistamover.transport.sftp_files import SftpFiles
from mistamover.transport.sftp_link import SftpLink
from support import free_port


class _End(End):
    traits = Traits(resolution=10**9, huge=32 * 1024 * 1024)

    def unreachable(self) -> Transport:
        return self.transport(ssh=dataclasses.replace(self._changes["ssh"], port=free_port()))  # type: ignore[type-var]


def _make(end: End, target: TargetSettings, keep: bool) -> Transport:
    link = SftpLink(target, end.run, end.run / "links")
    return ByFile(
        lambda: SftpFiles(link, target),
        source=os.fsencode(end.source),
        target=target,
        run_dir=end.run,
        owner="me",
        keep_extra=keep,
    )


class TestSftp(Contract):
    @pytest.fixture
    def end(self, scratch: Path, sftp_only: PrivateSshd) -> Iterator[End]:
        ssh = dataclasses.replace(contract.settings().ssh, ssh_config=sftp_only.ssh_config)
        made = _End(scratch, _make, host=sftp_only.host, ssh=ssh)
        yield made
        made.close()

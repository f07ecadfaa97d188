"""The contract of transports, kept by `rsync_ssh`, with and without the express way."""

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
from mistamover.transport.rsync_ssh import RsyncSsh
from support import free_port


class _End(End):
    traits = Traits(notices_changes=False, huge=48 << 20)

    def slowly(self) -> Transport:
        return self.transport(ssh=dataclasses.replace(self._changes["ssh"], bandwidth_limit="8M"))  # type: ignore[type-var]

    def unreachable(self) -> Transport:
        return self.transport(ssh=dataclasses.replace(self._changes["ssh"], port=free_port()))  # type: ignore[type-var]


def _make(end: End, target: TargetSettings, keep: bool) -> Transport:
    return RsyncSsh(
        source=os.fsencode(end.source),
        target=target,
        state_dir=end.run,
        links_dir=end.run / "links",
        owner="me",
        keep_extra=keep,
    )


class TestRsyncSsh(Contract):
    @pytest.fixture
    def end(self, scratch: Path, sshd: PrivateSshd) -> Iterator[End]:
        ssh = dataclasses.replace(contract.settings().ssh, ssh_config=sshd.ssh_config)
        made = _End(scratch, _make, host=sshd.host, ssh=ssh)
        yield made
        made.close()

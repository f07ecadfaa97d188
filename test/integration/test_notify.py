"""The service tells systemd how it is; see sd_notify(3)."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mistamover.testing.sshd import PrivateSshd
from support import Site


def test_systemd_is_told(sshd: PrivateSshd, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(scratch, sshd)
    site.add("one")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(scratch / "notify"))
        systemd.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(scratch / "notify"))
        with site.running() as agent:
            assert systemd.recv(1000) == b"READY=1"
            agent.reload()
            word, _, since = systemd.recv(1000).partition(b"\n")
            assert word == b"RELOADING=1"
            assert since.startswith(b"MONOTONIC_USEC=")
            assert systemd.recv(1000) == b"READY=1"
        assert systemd.recv(1000) == b"STOPPING=1"

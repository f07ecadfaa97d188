"""Fixtures for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.testing.sshd import PrivateSshd, available


def _need_sshd() -> None:
    """Skip the test where no private sshd can run; on CI (environment variable CI) fail it."""
    reason = available()
    if reason and os.environ.get("CI"):
        pytest.fail(f"no private sshd on CI: {reason}")
    if reason:
        pytest.skip(f"no private sshd: {reason}")


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateSshd]:
    """A running private sshd that all tests share: not to be stopped, paused or killed."""
    _need_sshd()
    with PrivateSshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def private_sshd(tmp_path: Path) -> Iterator[PrivateSshd]:
    """A running private sshd for one test, which may do to it what it likes."""
    _need_sshd()
    with PrivateSshd(tmp_path / "private-sshd") as server:
        yield server


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """An empty directory on a disk: events, renames and flushes are what is tested."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory

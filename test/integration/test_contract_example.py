"""The example of the documentation keeps the contract of transports, and can be installed beside the agent."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import laws
from contract import Contract, End, Traits
from mistamover.transport.by_file import ByFile
from support import TOP, Site

EXAMPLE = TOP / "doc/examples/plain_directory.py"


def _example() -> ModuleType:
    found = importlib.util.spec_from_file_location("plain_directory", EXAMPLE)
    assert found is not None and found.loader is not None
    module = sys.modules["plain_directory"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class _End(End):
    traits = Traits(links=False)


class TestExample(Contract):
    @pytest.fixture
    def end(self, scratch: Path) -> Iterator[End]:
        example = _example()
        made = _End(
            scratch,
            lambda end, target, keep: ByFile(
                lambda: example.PlainDirectory(target.directory),
                source=os.fsencode(end.source),
                target=target,
                run_dir=end.run,
                owner="me",
                keep_extra=keep,
            ),
        )
        yield made
        made.close()


class _Extended(Site):
    """A site whose agent has the example installed, as the package `plain`."""

    foreign = True

    def environment(self) -> dict[str, str]:
        """See `Site.environment`."""
        return {**super().environment(), "PYTHONPATH": f"{TOP / 'lib'}:{self.directory / 'installed'}"}


def install(scratch: Path) -> None:
    """Install the example below a directory, as pip does."""
    information = scratch / "installed/plain-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: plain\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[mistamover.transports]\nplain = plain_directory:make\n")
    (scratch / "installed/plain_directory.py").write_text(EXAMPLE.read_text())


def test_a_protocol_that_another_package_brings(scratch: Path) -> None:
    install(scratch)
    site = _Extended(scratch, outgoing={"transfer_protocol": "plain"}, extension={"transfer_mode": "move"})
    one = site.add(outgoing={"target_host": None})
    promised = {b"file %d" % n: laws.put(one.source / f"file {n}", b"%d" % n) for n in range(20)}
    with laws.lawful(site, one):
        laws.arrived(one, promised)
    assert {record["algorithm"] for record in site.history()} == {"sha256"}


def test_one_that_is_not_installed_is_not_known(scratch: Path) -> None:
    site = Site(scratch, outgoing={"transfer_protocol": "plain"})
    site.add(outgoing={"target_host": None})
    done = site.one_off()
    assert done.returncode == 2
    assert '"plain" is not known' in done.stderr

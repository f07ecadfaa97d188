"""The contract of transports, kept by `url`; and what only this one can be asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import laws
from contract import Contract, End, Traits, confirmed, deliver
from mistamover.config.access import UrlAccess
from mistamover.config.settings import TargetSettings
from mistamover.errors import TargetError
from mistamover.transport.base import Transport
from mistamover.transport.by_file import ByFile
from mistamover.transport.objects import FsspecFiles
from support import Site, contents


class Renaming(End):
    """An end whose filesystem renames files."""

    traits = Traits(links=False, attributes=False, reserve=False)
    url = ""

    def __init__(self, place: Path) -> None:
        super().__init__(place, self._to)

    def _to(self, _: End, target: TargetSettings, keep: bool) -> Transport:
        access = UrlAccess(url=f"file://{self.target}", renames=True, parents=True, options_file=None)
        return self.by(access, target, keep)

    def by(self, access: UrlAccess, target: TargetSettings, keep: bool) -> Transport:
        """Return the transport."""
        return ByFile(
            lambda: FsspecFiles(access),
            source=os.fsencode(self.source),
            target=target,
            run_dir=self.run,
            owner="me",
            keep_extra=keep,
        )


class TestUrl(Contract):
    @pytest.fixture
    def end(self, scratch: Path) -> Iterator[Renaming]:
        made = Renaming(scratch)
        yield made
        made.close()


@pytest.fixture
def end(scratch: Path) -> Iterator[Renaming]:
    made = Renaming(scratch)
    yield made
    made.close()


def test_a_directory_that_is_not_there_is_said(end: Renaming) -> None:
    end.target.rmdir()
    with pytest.raises(TargetError, match="not a directory"):
        end.transport().open()
    end.target.mkdir()


def test_a_filesystem_that_is_not_installed_is_said(end: Renaming) -> None:
    access = UrlAccess(url="no-such-scheme://host/x", renames=True, parents=True, options_file=None)
    with pytest.raises(TargetError, match="no-such-scheme"):
        end.by(access, end.transport()._target, False).open()  # type: ignore[attr-defined]


def test_where_what_is_written_is_seen_when_it_is_whole(end: Renaming) -> None:
    """`file` is not like that, but whoever says so gets it written in place, with its directories."""
    access = UrlAccess(url=f"file://{end.target}", renames=False, parents=True, options_file=None)
    transport = end.by(access, end.transport()._target, False)  # type: ignore[attr-defined]
    assert not transport.open().trees
    confirmed(deliver(transport, [end.put("deep/er/file"), end.sparse("big", 10 * 1024 * 1024)]))
    assert end.files() == contents(end.source)
    transport.close(finished=True)


def test_a_stream_moves_files_to_a_url(scratch: Path) -> None:
    site = Site(scratch)
    outgoing = {"transfer_protocol": "url", "target_host": None, "target_dir": None}
    where = scratch / "remote" / "one"
    one = site.add("one", data_stream={"settle_time": 0.3}, outgoing={**outgoing, "target_url": f"file://{where}"})
    promised = {f"d/file {n}".encode(): laws.put(one.source / f"d/file {n}", os.urandom(n * 50)) for n in range(100)}
    with laws.lawful(site, one):
        laws.arrived(one, promised, timeout=30)
    assert {record["algorithm"] for record in site.history() if record["kind"] == "file"} == {"xxh128"}

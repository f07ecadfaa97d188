"""What `status` tells of the disks, and that `why` does not mistake the guard's stop file for an operator's."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mistamover.cli import status, why
from mistamover.files import stopfile
from mistamover.report import disks, mastership
from mistamover.report.disks import DisksReport, FilesystemReport
from unit.cli.conftest import AskedSite

FILESYSTEM = FilesystemReport(
    mount="/data",
    level="LOW",
    hold="base",
    free=3 << 20,
    total=12 << 20,
    inodes_free=50,
    inodes=100,
    streams=("one",),
    stopped=("one",),
)


def report(site: AskedSite, **values: object) -> None:
    """Write what the guard says; it is this process."""
    plain = DisksReport(pid=os.getpid(), updated=time.time(), filesystems=(FILESYSTEM,))
    disks.write(site.state, replace(plain, **values), durable=False)  # type: ignore[arg-type]


@pytest.fixture
def guarded(site: AskedSite) -> AskedSite:
    """A site with a threshold."""
    site.write_global(disk_space_monitor={"level_low": 5})
    return site


def test_the_filesystems_and_who_has_to_wait(guarded: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    report(guarded, problems=("/mnt: cannot ask for its free space: \x1b[31m",))
    handle = mastership.claim(guarded.state)
    assert handle is not None
    try:
        with guarded.served():
            assert guarded.here(status) == 0
            text = capsys.readouterr().out
            assert "/data       LOW   3.0 MiB  12.0 MiB         50 %  one" in text
            assert "/mnt: cannot ask for its free space: \\x1b[31m" in text
            assert "nobody watches" not in text
            assert guarded.here(status, "--json") == 0
            (filesystem,) = json.loads(capsys.readouterr().out)["disks"]["filesystems"]
            assert (filesystem["mount"], filesystem["level"], filesystem["stopped"]) == ("/data", "LOW", ["one"])
            report(guarded, filesystems=(replace(FILESYSTEM, level="VLOW", inodes=0, inodes_free=0, stopped=()),))
            assert guarded.here(status) == 1
            assert "/data       VLOW  3.0 MiB  12.0 MiB            -  -" in capsys.readouterr().out
    finally:
        os.close(handle)


def test_numbers_of_a_guard_that_does_not_run_are_told_to_be_old(
    guarded: AskedSite, capsys: pytest.CaptureFixture[str]
) -> None:
    report(guarded)
    guarded.here(status)
    assert "nobody watches the disks now: the numbers are those of 20" in capsys.readouterr().out
    guarded.here(status, "--json")
    assert json.loads(capsys.readouterr().out)["disks"]["watched"] is False


@pytest.mark.parametrize("content", [None, "", "{}", '{"pid": 1, "updated": 2, "filesystems": [{}]}', "[]"])
def test_a_report_that_cannot_be_read_is_none(guarded: AskedSite, content: str | None) -> None:
    if content is not None:
        (guarded.state / "disks.json").write_text(content)
    assert disks.read(guarded.state) is None


def test_a_report_comes_back_as_it_was_written(guarded: AskedSite) -> None:
    written = DisksReport(pid=1, updated=2.0, filesystems=(FILESYSTEM,), stops=("/data/one/.stop",), problems=("x",))
    disks.write(guarded.state, written, durable=True)
    assert disks.read(guarded.state) == written


def test_without_a_threshold_there_are_no_disks(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    report(site)
    site.here(status, "--json")
    assert json.loads(capsys.readouterr().out)["disks"] is None


def test_the_guards_stop_file_is_no_reason_to_wait(site: AskedSite, capsys: pytest.CaptureFixture[str]) -> None:
    directory = Path(site.stream().directory)
    (directory / "new").write_text("hello")
    stopfile.make(stopfile.of(directory, ".stop"), "why")
    with site.served():
        site.here(why, "--json", directory / "new")
        reasons = {reason["code"] for reason in json.loads(capsys.readouterr().out)["reasons"]}
        assert "stop-here" not in reasons
        (directory / ".stop").touch()
        site.here(why, "--json", directory / "new")
        reasons = {reason["code"] for reason in json.loads(capsys.readouterr().out)["reasons"]}
        assert "stop-here" in reasons

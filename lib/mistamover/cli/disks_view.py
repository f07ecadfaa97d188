"""How `mistamover status` shows the disks: a table of the filesystems that the disk guard watches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from mistamover.cli.common import human_bytes, human_time, printable, table
from mistamover.cli.stream_report import SiteReport
from mistamover.report.disks import DisksReport, FilesystemReport

_HEADER = ("FILESYSTEM", "ROOM", "FREE", "OF", "INODES FREE", "STOPPED")


def disks_json(report: SiteReport) -> dict[str, Any] | None:
    """Given the report, return what is known of the disks as JSON takes it; None if nobody watches them."""
    disks = report.disks
    if disks is None:
        return None
    return {
        "watched": _watched(report, disks),
        "updated": disks.updated,
        "problems": list(disks.problems),
        "filesystems": [each.as_json() for each in disks.filesystems],
    }


def disks_in_words(report: SiteReport) -> Iterator[str]:
    """Given the report, yield the lines about the disks; none if nobody watches them."""
    disks = report.disks
    if disks is None:
        return
    yield ""
    yield from table(_HEADER, map(_row, disks.filesystems), left=(0, 1, 5))
    if not _watched(report, disks):
        yield f"nobody watches the disks now: the numbers are those of {human_time(disks.updated)}"
    for problem in disks.problems:
        yield printable(problem)


def _row(filesystem: FilesystemReport) -> tuple[str, ...]:
    inodes = f"{100 * filesystem.inodes_free / filesystem.inodes:.0f} %" if filesystem.inodes else "-"
    return (
        printable(filesystem.mount),
        filesystem.level,
        human_bytes(filesystem.free),
        human_bytes(filesystem.total),
        inodes,
        printable(" ".join(filesystem.stopped)) or "-",
    )


def _watched(report: SiteReport, disks: DisksReport) -> bool:
    return report.master is not None and os.path.exists(f"/proc/{disks.pid}")

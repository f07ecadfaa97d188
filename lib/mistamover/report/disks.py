"""What the disk guard last saw and did: written by its process, read by `status`, and by itself after a restart."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistamover.files.durable import write_whole

_FILE = "disks.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesystemReport:
    """One filesystem."""

    mount: str
    """Where it is mounted."""
    level: str
    hold: str
    """Who has to wait: none, base, all."""
    free: int
    total: int
    inodes_free: int
    inodes: int
    streams: tuple[str, ...]
    """Streams that have their directory or their incoming one here, the least important first."""
    stopped: tuple[str, ...] = ()
    """Those of them in whose directory a stop file is now, whoever made it."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisksReport:
    """Everything that the guard knows."""

    pid: int
    updated: float
    filesystems: tuple[FilesystemReport, ...] = ()
    stops: tuple[str, ...] = ()
    """Paths of stop files that the guard has made, or was about to make when it wrote this."""
    problems: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return dataclasses.asdict(self)


def status_file(state_dir: Path) -> Path:
    """Given the service's state directory, return the file of the report."""
    return state_dir / _FILE


def write(state_dir: Path, report: DisksReport, *, durable: bool) -> None:
    """Given the service's state directory, replace the report there. Raise OSError."""
    write_whole(status_file(state_dir), json.dumps(report.as_json()).encode(), durable=durable)


def read(state_dir: Path) -> DisksReport | None:
    """Given the service's state directory, return the last report, or None if there is none that can be read."""
    try:
        values: dict[str, Any] = json.loads(status_file(state_dir).read_bytes())
        values["filesystems"] = tuple(
            FilesystemReport(**{**each, "streams": tuple(each["streams"]), "stopped": tuple(each["stopped"])})
            for each in values["filesystems"]
        )
        values["stops"] = tuple(values["stops"])
        values["problems"] = tuple(values["problems"])
        return DisksReport(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def is_there(state_dir: Path) -> bool:
    """Given the service's state directory, tell whether a guard has left a report there."""
    return status_file(state_dir).exists()


def forget(state_dir: Path) -> None:
    """Given the service's state directory, remove the report: nothing is watched any more. Raise OSError."""
    status_file(state_dir).unlink(missing_ok=True)

"""What an arrival monitor last said of itself: written by its process, read by `status`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mistamover.files.durable import write_whole

#: Names in a stream's state directory: what is published, and the lock that its process holds.
_FILE = "arrivals.json"
LOCK_FILE = "arrivals.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalsReport:
    """How an arrival monitor is getting on."""

    delivered: int = 0
    """Since its process started."""
    waiting: int = 0
    """Control files that wait for something."""
    first: tuple[tuple[str, str], ...] = ()
    """Some of them, and what each waits for."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON takes it."""
        return asdict(self)


def write(state_dir: Path, report: ArrivalsReport) -> None:
    """Given a stream's state directory, replace the report there. Raise OSError."""
    write_whole(state_dir / _FILE, json.dumps(report.as_json()).encode(), durable=False)


def read(state_dir: Path) -> ArrivalsReport | None:
    """Given a stream's state directory, return the last report, or None if there is none that can be read."""
    try:
        values: dict[str, Any] = json.loads((state_dir / _FILE).read_bytes())
        values["first"] = tuple((str(name), str(reason)) for name, reason in values["first"])
        return ArrivalsReport(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None

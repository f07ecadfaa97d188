"""What a disk guard is made for; the master compares two of these, and imports nothing else of the guard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mistamover.config.settings import DiskSettings, StreamSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Everything that a guard must know; another value of it needs another guard."""

    disk: DiskSettings
    streams: tuple[StreamSettings, ...]
    state_dir: Path

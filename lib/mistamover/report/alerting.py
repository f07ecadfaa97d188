"""How the handing over of alerts goes: written by the process of alerts, read by `status`."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistamover.files.durable import write_whole

_STATUS = "status.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertReport:
    """What the process of alerts last said."""

    mails: int = 0
    """Mails that wait."""
    dropped: int = 0
    """Mails that could not be kept, and of which nobody was told yet."""
    mail_trouble: str = ""
    """Why the last attempt to send mail failed; empty if it did not."""
    notify_trouble: str = ""
    """The same for notifications by HTTP."""
    amqp_trouble: str = ""
    """The same for notifications by AMQP."""

    @property
    def well(self) -> bool:
        """Whether everything gets where it should."""
        return not (self.mail_trouble or self.notify_trouble or self.amqp_trouble or self.dropped)


def directory_of(state_dir: Path) -> Path:
    """Given a state directory, return the directory of alerts."""
    return state_dir / "alerts"


def write(state_dir: Path, report: AlertReport) -> None:
    """Given a state directory and a report, replace the last one. Raise OSError."""
    content = json.dumps(dataclasses.asdict(report)).encode()
    write_whole(directory_of(state_dir) / _STATUS, content, durable=False)


def read(state_dir: Path) -> AlertReport | None:
    """Given a state directory, return the last report, or None if there is none that can be read."""
    try:
        values: dict[str, Any] = json.loads((directory_of(state_dir) / _STATUS).read_bytes())
        return AlertReport(**values)
    except (OSError, ValueError, TypeError):
        return None

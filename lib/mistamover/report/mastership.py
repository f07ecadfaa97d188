"""Who owns a state directory: one master at a time, by a lock that the kernel drops when its holder dies."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mistamover.files.durable import write_whole
from mistamover.report.snapshot import lock

_LOCK = "master.lock"
_STATUS = "master.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildReport:
    """How the master sees a process that it watches over."""

    name: str
    state: str
    pid: int | None
    restarts: int
    retry_at: float | None
    last_exit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterReport:
    """What the master last said about itself."""

    pid: int
    started: float
    config: str
    host: str
    mode: str
    """`one-off`, `daemon` or `foreground`."""
    problems: tuple[str, ...] = ()
    """What is wrong with the configuration files; the last good ones are in force."""
    children: tuple[ChildReport, ...] = ()
    helpers: tuple[ChildReport, ...] = ()
    """The processes of the job front."""

    def words(self) -> str:
        """Return who it is, for people."""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"process {self.pid} on {self.host} ({self.mode}, since {since}, with {self.config})"


def lock_file(state_dir: Path) -> Path:
    """Given a state directory, return the file whose lock its owner holds."""
    return state_dir / _LOCK


def status_file(state_dir: Path) -> Path:
    """Given a state directory, return the file in which its owner reports."""
    return state_dir / _STATUS


def unknown() -> MasterReport:
    """Return the report of an owner that has not said anything yet."""
    return MasterReport(pid=0, started=0.0, config="", host="", mode="")


def claim(state_dir: Path) -> int | None:
    """Given a state directory, own it for as long as the returned descriptor is open; None if another owns it."""
    return lock(lock_file(state_dir))


def write(state_dir: Path, report: MasterReport) -> None:
    """Given a state directory and the owner's report, replace the last one. Raise OSError."""
    content = json.dumps(dataclasses.asdict(report)).encode()
    write_whole(status_file(state_dir), content, durable=False)


def read(state_dir: Path) -> MasterReport | None:
    """Given a state directory, return the last report of its last owner, or None if there is none to be read."""
    try:
        values: dict[str, Any] = json.loads(status_file(state_dir).read_bytes())
        for key in ("children", "helpers"):
            values[key] = tuple(ChildReport(**child) for child in values[key])
        values["problems"] = tuple(values["problems"])
        return MasterReport(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def this_process(config: Path, mode: str) -> MasterReport:
    """Given the global file and the mode, return the report of this process."""
    return MasterReport(pid=os.getpid(), started=time.time(), config=str(config), host=socket.gethostname(), mode=mode)

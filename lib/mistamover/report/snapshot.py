"""The state of a stream on disk: written by its process, read by `status`, also when nothing runs."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mistamover.files.durable import write_whole
from mistamover.model import StreamState

STATUS_FILE = "status.json"
LOCK_FILE = "lock"

#: struct flock of fcntl(2): type, whence, start, length, pid, padding.
_FLOCK = "hhqqi4x"


@dataclass(frozen=True, slots=True, kw_only=True)
class Undelivered:
    """One unit that waits, or that a one-off run leaves behind."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a stream's process last said about itself.

    seen = delivered + quarantined + released + ignored + waiting, since the process started.
    """

    name: str
    state: StreamState
    since: float = 0.0
    """Start of the process, in seconds since the epoch."""
    updated: float = 0.0
    pid: int = 0
    seen: int = 0
    delivered: int = 0
    quarantined: int = 0
    released: int = 0
    """Quarantined, and taken out of the stream for good by an operator."""
    ignored: int = 0
    waiting: int = 0
    """On the roll and not delivered, those on their way included."""
    sending: int = 0
    sent: int = 0
    """Of those that are on their way: read to their end, not yet confirmed."""
    bytes_sending: int = 0
    """Bytes of the units that are on their way."""
    bytes_sent: int = 0
    """Of large files on their way: bytes that were sent."""
    more_on_disk: bool = False
    """The roll is full: more units wait than are counted."""
    bytes_delivered: int = 0
    rate: float = 0.0
    """Bytes a second over the last seconds in which something was delivered."""
    oldest_waiting: float | None = None
    """When the unit that has waited longest was first seen."""
    last_error: str | None = None
    last_error_at: float | None = None
    hold: str | None = None
    """Why the whole stream sends nothing at the moment."""
    retry_at: float | None = None
    """When a target that failed is tried again."""
    directories: int = 0
    """Emptied directories that wait for their age."""
    scan_problems: int = 0
    undelivered: tuple[Undelivered, ...] = field(default=())
    """The first of those that wait for a reason, for people."""

    def as_json(self) -> dict[str, Any]:
        """Return the snapshot as JSON takes it."""
        values = dataclasses.asdict(self)
        values["state"] = self.state.value
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Snapshot:
        """Given what `as_json` returned, return the snapshot; fields of other versions are passed over."""
        known = {f.name for f in dataclasses.fields(cls)}
        values = {key: value for key, value in values.items() if key in known}
        values["state"] = StreamState(values["state"])
        values["undelivered"] = tuple(Undelivered(**each) for each in values.get("undelivered", ()))
        return cls(**values)


def write(state_dir: Path, snapshot: Snapshot) -> None:
    """Given a stream's state directory, replace its snapshot. Raise OSError."""
    content = json.dumps(snapshot.as_json()).encode()
    write_whole(state_dir / STATUS_FILE, content, durable=False)


def read(state_dir: Path) -> Snapshot | None:
    """Given a stream's state directory, return the last snapshot, or None if there is none that can be read."""
    try:
        return Snapshot.from_json(json.loads((state_dir / STATUS_FILE).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def lock(path: Path) -> int | None:
    """Given a lock file, take its lock for as long as the returned descriptor is open; None if another holds it.

    An "open file description" lock (fcntl(2)): the kernel drops it with its last holder, and `is_locked` can ask
    for it without taking it, so that a question never gets in the way of a start.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):
        os.close(handle)
        return None
    return handle


def is_locked(path: Path) -> bool:
    """Given a lock file, tell whether a process holds its lock. Raise OSError if the file may not be read."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(handle, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(handle)
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)

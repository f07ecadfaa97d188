"""What is wrong at one moment, from what the master and the streams keep on disk.

Files that have not changed since the last look are not read again: a look at many idle streams is a few system calls
for each.  Another source of conditions is added to `conditions`.
"""

from __future__ import annotations

import logging
import os
import shlex
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mistamover.alerts.incidents import Condition, Kind
from mistamover.config.settings import Settings, StreamSettings
from mistamover.errors import LedgerError
from mistamover.files.names import display
from mistamover.model import StreamState
from mistamover.report import disks, mastership
from mistamover.report import snapshot as snapshots
from mistamover.report.disks import DisksReport
from mistamover.report.mastership import MasterReport
from mistamover.report.snapshot import Snapshot
from mistamover.stream.ledger import Ledger, Trouble
from mistamover.stream.records import still_there
from mistamover.stream.words import retry_command

logger = logging.getLogger(__name__)

#: Units that a message names.
MOST_NAMED = 20

LEDGER = "ledger.sqlite"

_MIB = 1024 * 1024

Mark = tuple[tuple[int, int, int] | None, ...]


class Looker:
    """Looks at one configuration's state, again and again."""

    def __init__(self, settings: Settings, master: int) -> None:
        """Given the settings and the pid of the master that serves them, have seen nothing yet."""
        self._settings = settings
        self._master = master
        self._seen: dict[Path, tuple[Mark, Any]] = {}

    def conditions(self) -> list[Condition]:
        """Return everything that is wrong now."""
        found = [*self._of_the_master(), *self._unreachable(), *self._full_disks()]
        for stream in self._settings.streams:
            found += self._quarantined(stream)
        return found

    def _fresh(self, path: Path, beside: Iterable[Path], read: Callable[[], Any]) -> Any:
        """Given a file, others that change with it, and how it is read, return what is in it now."""
        mark = marks((path, *beside))
        known = self._seen.get(path)
        if known is None or known[0] != mark:
            known = self._seen[path] = (mark, read())
        return known[1]

    # -- the master ---------------------------------------------------------------------------

    def _of_the_master(self) -> Iterator[Condition]:
        state_dir = self._settings.state_dir
        report: MasterReport | None = self._fresh(
            mastership.status_file(state_dir), (), lambda: mastership.read(state_dir)
        )
        # An older one speaks of processes that are gone.
        if report is None or report.pid != self._master:
            return
        if report.problems:
            yield Condition(
                kind=Kind.CONFIGURATION,
                subject=str(self._settings.file),
                words="the configuration has problems; the last good one is in force",
                details=tuple(_printable(line) for line in report.problems[:MOST_NAMED]),
                retry="correct the file; it is read again by itself",
            )
        for child in (*report.children, *report.helpers):
            stream = child in report.children
            what = f"stream {child.name}" if stream else child.name
            # Restarts without a lasting life: a process that runs for a while is RUNNING.
            if child.state == "BACKOFF" or (child.state == "STARTING" and child.restarts):
                yield Condition(
                    kind=Kind.DYING,
                    subject=child.name,
                    words=f"the process of {what} does not stay alive: it {child.last_exit}",
                    streams=(child.name,) if stream else (),
                    details=(f"It was started again {child.restarts} times.",),
                    retry=self._reload(),
                )

    def _reload(self) -> str:
        return f"kill -HUP $(cat {shlex.quote(str(self._settings.pid_file))})"

    # -- targets ------------------------------------------------------------------------------

    def _unreachable(self) -> Iterator[Condition]:
        by_target: dict[str, list[tuple[StreamSettings, Snapshot]]] = {}
        for stream in self._settings.streams:
            last = self._snapshot(stream)
            if last is not None and _cannot_be_used(last) and os.path.exists(f"/proc/{last.pid}"):
                for target in stream.targets:
                    port = f" port {target.ssh.port}" if target.ssh.port else ""
                    by_target.setdefault(f"{target.host}{port}", []).append((stream, last))
        for where, concerned in by_target.items():
            stream, last = concerned[0]
            names = [f"{each.name}: {unit.name}" for each, said in concerned for unit in said.undelivered]
            yield Condition(
                kind=Kind.UNREACHABLE,
                subject=where,
                words=f"the target {where} cannot be used",
                streams=tuple(each.name for each, _ in concerned),
                details=tuple(dict.fromkeys(_printable(said.hold or said.last_error or "") for _, said in concerned)),
                files=tuple(names[:MOST_NAMED]),
                count=sum(said.waiting for _, said in concerned),
                example=_example(stream, last),
                retry=self._reload(),
            )

    def _snapshot(self, stream: StreamSettings) -> Snapshot | None:
        found: Snapshot | None = self._fresh(
            stream.state_dir / snapshots.STATUS_FILE, (), lambda: snapshots.read(stream.state_dir)
        )
        return found

    # -- disks --------------------------------------------------------------------------------

    def _full_disks(self) -> Iterator[Condition]:
        if not self._settings.disk.enabled:
            return
        state_dir = self._settings.state_dir
        report: DisksReport | None = self._fresh(disks.status_file(state_dir), (), lambda: disks.read(state_dir))
        for each in report.filesystems if report is not None else ():
            if each.hold == "none":
                continue
            inodes = f", {each.inodes_free} of {each.inodes} inodes" if each.inodes else ""
            yield Condition(
                kind=Kind.DISK,
                subject=each.mount,
                words=f"{each.mount} has little room left: those who deliver there are asked to wait",
                streams=each.stopped,
                details=(f"Free: {each.free // _MIB} of {each.total // _MIB} MiB{inodes}.",),
                retry="make room; they are let go by themselves",
            )

    # -- quarantine ---------------------------------------------------------------------------

    def _quarantined(self, stream: StreamSettings) -> Iterator[Condition]:
        ledger = stream.state_dir / LEDGER
        try:
            noted: tuple[Trouble, ...] = self._fresh(ledger, journal_of(ledger), lambda: _quarantined_in(ledger))
        except LedgerError as error:
            # That it cannot be read now does not end an incident: what was seen last holds.
            logger.error("%s", error)
            noted = self._seen[ledger][1] if ledger in self._seen else ()
        root = os.fsencode(stream.directory)
        there = [trouble for trouble in noted if still_there(trouble, root)]
        if not there:
            return
        first = there[0]
        yield Condition(
            kind=Kind.QUARANTINED,
            subject=stream.name,
            words=f"stream {stream.name} has set aside what it cannot deliver",
            streams=(stream.name,),
            files=tuple(f"{display(each.name)}: {_printable(each.reason)}" for each in there[:MOST_NAMED]),
            count=len(there),
            example=os.fsdecode(first.moved_to or root + b"/" + first.name),
            retry=retry_command(stream.name, first.name if len(there) == 1 else None, self._settings.file),
        )


def _cannot_be_used(last: Snapshot) -> bool:
    """Whether a stream's target has failed; a pause that came then does not say that it works again."""
    failed = last.state is StreamState.PAUSED and last.retry_at is not None
    return failed or last.state is StreamState.UNREACHABLE


def marks(paths: Iterable[Path]) -> Mark:
    """Given files, return what changes with their content; None for one that is not there."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = os.stat(path)
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            found.append(None)
    return tuple(found)


def journal_of(ledger: Path) -> tuple[Path, ...]:
    """Given a ledger, return the file beside it that what was written last is in."""
    return (ledger.with_name(ledger.name + "-wal"),)


def _quarantined_in(ledger: Path) -> tuple[Trouble, ...]:
    if not ledger.exists():
        return ()
    try:
        with Ledger(ledger, read_only=True) as opened:
            return tuple(trouble for trouble in opened.troubles() if trouble.quarantined)
    except sqlite3.Error as error:
        raise LedgerError(f"{ledger}: {error}") from error


def _example(stream: StreamSettings, last: Snapshot) -> str:
    """The path of a waiting unit; empty if its name for people is not its name."""
    for unit in last.undelivered:
        path = stream.directory / unit.name
        if os.path.lexists(path):
            return str(path)
    return ""


def _printable(text: str) -> str:
    return display(text.encode("utf-8", "surrogateescape"))

"""What a one-off run shows: a line that moves while it works, and what became of everything at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import TextIO

from mistamover.cli.common import human_bytes
from mistamover.config.settings import Settings, StreamSettings, StreamStatus
from mistamover.files.names import display
from mistamover.report import arrivals
from mistamover.report import snapshot as snapshots
from mistamover.report.arrivals import ArrivalsReport
from mistamover.report.snapshot import Snapshot
from mistamover.stream import pause
from mistamover.stream.ledger import Ledger

#: Seconds between two changes of the moving line.
_EVERY = 0.25


class Progress:
    """One line on a terminal, written over and over."""

    def __init__(self, terminal: TextIO) -> None:
        """Given the terminal, have written nothing."""
        self._terminal = terminal
        self._next = 0.0
        self._started = time.time()

    def tick(self, settings: Settings) -> float:
        """Given the settings, bring the line up to date if it is time; return seconds until the next time."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            parts = [self._words(stream.state_dir, stream.name) for stream in settings.streams]
            line = "   ".join(part for part in parts if part)
            width = shutil.get_terminal_size().columns - 1
            self._terminal.write(f"\r\x1b[K{line[:width]}")
            self._terminal.flush()
        return self._next - now

    def clear(self) -> None:
        """Take the line away."""
        self._terminal.write("\r\x1b[K")
        self._terminal.flush()

    def _words(self, state_dir: Path, name: str) -> str:
        snapshot = snapshots.read(state_dir)
        if snapshot is None or snapshot.since < self._started - 1:
            return f"{name}: starting"
        rate = f" at {human_bytes(snapshot.rate)}/s" if snapshot.rate else ""
        return f"{name}: {snapshot.delivered} delivered, {snapshot.waiting} to go{rate} ({under_way(snapshot)})"


def under_way(snapshot: Snapshot) -> str:
    """Given a snapshot, return its state in words, with how far what is on its way has come."""
    if not snapshot.sending:
        return snapshot.state.value
    if snapshot.bytes_sent:
        return f"sending {human_bytes(snapshot.bytes_sent)} of {human_bytes(snapshot.bytes_sending)}"
    return f"sending {snapshot.sent} of {snapshot.sending}, {human_bytes(snapshot.bytes_sending)}"


def report(settings: Settings, failed: Collection[str], started: float, out: TextIO, problems: TextIO) -> bool:
    """Given the settings, the streams that left something and the start of the run, print what became of every stream.

    Return whether everything was delivered.
    """
    everything = True
    for stream in settings.streams:
        if stream.status is StreamStatus.RUNNING and stream.monitor is not None:
            everything &= stream.name not in failed
            _arrived(stream, problems if stream.name in failed else out)
            if not stream.works:
                continue
        if stream.parts and not stream.works and stream.status is StreamStatus.RUNNING:
            # Each of its targets is a mirror, and was told of.
            continue
        if not stream.works:
            print(f"{stream.name}: not run ({stream.status.value if stream.targets else 'no transfer'})", file=out)
            continue
        snapshot = snapshots.read(stream.state_dir)
        if snapshot is None or snapshot.since < started:
            print(f"{stream.name}: did not run; see dtc_{stream.name}.log in {settings.log.directory}", file=problems)
            everything = False
            continue
        size = human_bytes(snapshot.bytes_delivered)
        print(f"{stream.name}: {snapshot.delivered} delivered ({size}), {snapshot.waiting} left", file=out)
        if (paused := pause.read(stream.state_dir)) is not None:
            print(f"{stream.name}: {paused.words(stream.name)}", file=problems)
        if stream.name in failed:
            everything = False
            _list_left(stream.state_dir, snapshot, problems)
    return everything


def _arrived(stream: StreamSettings, out: TextIO) -> None:
    """Say what the arrival monitor of a stream has taken in, and what it could not."""
    last = arrivals.read(stream.state_dir) or ArrivalsReport()
    log = stream.log.directory / f"arrmon_{stream.name}.log"
    print(f"{stream.name}: arrivals: {last.delivered} delivered, {last.waiting} wait; see {log}", file=out)
    for name, reason in last.first:
        print(f"{stream.name}: arrivals: {name}: {reason}", file=out)


def _list_left(state_dir: Path, snapshot: Snapshot, out: TextIO) -> None:
    for unit in snapshot.undelivered:
        print(f"{snapshot.name}: not delivered: {unit.name}: {unit.reason}", file=out)
    if snapshot.waiting > len(snapshot.undelivered):
        print(f"{snapshot.name}: ... and {snapshot.waiting - len(snapshot.undelivered)} more", file=out)
    with Ledger(state_dir / "ledger.sqlite", read_only=True) as ledger:
        for trouble in ledger.troubles():
            if trouble.quarantined and (trouble.moved_to is None or trouble.since >= snapshot.since - 1):
                print(f"{snapshot.name}: quarantined: {display(trouble.name)}: {trouble.reason}", file=out)
    if snapshot.last_error and not snapshot.waiting and not snapshot.quarantined:
        print(f"{snapshot.name}: {snapshot.last_error}", file=out)

"""What `mistamover why` says of a file that others deliver and an arrival monitor has not taken in yet, or has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mistamover.cli.common import human_bytes, human_time, is_held, printable
from mistamover.config.settings import MonitorSettings, StreamSettings, StreamStatus
from mistamover.errors import MistamoverError, PeerFileError
from mistamover.files.identity import DirectoryHandles
from mistamover.files.names import display
from mistamover.handshake import lists, messages, tidy
from mistamover.handshake.arrival import Announced, Listed, measure, read_control
from mistamover.handshake.receipts import GIVEN, Book, Entry
from mistamover.report import arrivals
from mistamover.report.arrivals import LOCK_FILE

#: Bytes up to which content is hashed to find out whether it is what was announced.
_MOST_HASHED = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What there is of one name in the incoming directory of a stream."""

    path: bytes
    """Absolute, of the data."""
    size: int | None
    """Of what is there; None if nothing is."""
    announced: Announced | None
    """By its control file, or by a list that names it."""
    reason: str
    """What it waits for; empty if it does not wait."""
    given: Entry | None
    """The last receipt for it."""


def arrival_of(stream: StreamSettings, name: bytes) -> Arrival | None:
    """Given a stream and a name relative to its incoming directory, of data or of their control file, return what there
    is of it; None if nothing is known.  Raise LedgerError, MistamoverError.
    """
    monitor = stream.monitor
    if monitor is None:
        return None
    name = _of_data(monitor, name)
    root = os.fsencode(monitor.directory)
    try:
        with DirectoryHandles(root) as handles:
            size = _size(handles, name)
            control, announced, refused = _control(handles, root, monitor, name)
            reason = ""
            if size is not None or announced is not None or refused:
                reason = refused or _reason(stream, handles, name, control, announced)
    except FileNotFoundError:
        size, announced, reason = None, None, ""
    except OSError as error:
        raise MistamoverError(
            f"{display(root + b'/' + name)} cannot be looked at: {error.strerror}: "
            f"ask as the user of the service, or as root"
        ) from error
    given = _given(stream, name)
    if size is None and not reason and given is None:
        return None
    return Arrival(path=root + b"/" + name, size=size, announced=announced, reason=reason, given=given)


def _of_data(monitor: MonitorSettings, name: bytes) -> bytes:
    """Given a name, return that of the data it is about."""
    above, slash, last = name.rpartition(b"/")
    suffix = monitor.control_suffix.encode()
    is_control = last.startswith(b".") and last.endswith(suffix) and not last.startswith(b"." + lists.ITEM)
    return above + slash + last[1 : -len(suffix)] if is_control else name


def _size(handles: DirectoryHandles, name: bytes) -> int | None:
    try:
        return handles.lstat(name).st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _control(
    handles: DirectoryHandles, root: bytes, monitor: MonitorSettings, name: bytes
) -> tuple[bytes, Announced | None, str]:
    """Return the path of the control file that announces a name, what it says, and why it cannot be used."""
    above, slash, last = name.rpartition(b"/")
    path = above + slash + messages.control_name(last, monitor.control_suffix)
    try:
        read = read_control(handles, path)
        return path, read if isinstance(read, Announced) else None, ""
    except (FileNotFoundError, NotADirectoryError):
        found = _listed(handles, root, monitor, name)
        return (found.path, found, "") if found is not None else (path, None, "")
    except PeerFileError as error:
        return path, None, f"its control file is refused: {error}"


def _listed(handles: DirectoryHandles, root: bytes, monitor: MonitorSettings, name: bytes) -> Announced | None:
    for entry in os.listdir(root):
        if entry.startswith(b"." + lists.ITEM) and entry.endswith(monitor.control_suffix.encode()):
            try:
                read = read_control(handles, entry)
            except (PeerFileError, FileNotFoundError):
                continue
            found = read.announced if isinstance(read, Listed) else ()
            for announced in found:
                if announced.name == name:
                    return announced
    return None


def _reason(
    stream: StreamSettings, handles: DirectoryHandles, name: bytes, control: bytes, announced: Announced | None
) -> str:
    """Say what it waits for: as the monitor has said it, or else as it would."""
    assert stream.monitor is not None
    if not is_held(stream.state_dir / LOCK_FILE):
        stopped = stream.status is not StreamStatus.RUNNING
        why = f"status = {stream.status.value} in {printable(stream.file)}" if stopped else "see `mistamover status`"
        return f"no process serves the arrivals of this stream: {why}"
    if announced is None:
        if tidy.is_being_written(handles, name):
            return "it is being written, and no control file has come for it"
        return "no control file has come for it: its sender is not done, or asks for no receipts"
    last = arrivals.read(stream.state_dir)
    for path, reason in last.first if last is not None else ():
        if path == display(control):
            return reason
    if announced.control.size > _MOST_HASHED:
        return "it is large, and its checksum is being compared"
    measured = measure(os.fsencode(stream.monitor.directory), handles, announced)
    return measured.words or "nothing: it is as announced, and is delivered at the next look"


def _given(stream: StreamSettings, name: bytes) -> Entry | None:
    path = stream.state_dir / GIVEN
    if not path.exists():
        return None
    book = Book(path, read_only=True)
    try:
        return book.newest([name]).get(name)
    finally:
        book.close()


# -- how it reads -----------------------------------------------------------------------------


def verdict(arrival: Arrival) -> str:
    """Given an arrival of which nothing else is known, return the answer in one line."""
    if arrival.reason:
        return f"WAIT: it is not taken in yet: {printable(arrival.reason)}."
    assert arrival.given is not None
    return f"TAKEN IN at {human_time(arrival.given.at)}: its sender was given a receipt, and it is gone here."


def in_words(arrival: Arrival) -> Iterator[str]:
    """Given an arrival, yield the lines about it."""
    yield ""
    yield f"Arrival in {display(arrival.path)}:"
    if arrival.reason:
        yield f"  it waits for this: {printable(arrival.reason)}"
    if arrival.size is not None:
        yield f"  {human_bytes(arrival.size)} = {arrival.size} bytes are there"
    if arrival.announced is not None:
        control = arrival.announced.control
        yield (
            f"  announced by {display(arrival.announced.path)} of {printable(arrival.announced.peer)}: "
            f"{control.size} bytes, {control.checksum}"
        )
    if arrival.given is not None:
        yield f"  receipt given {human_time(arrival.given.at)} for {arrival.given.size} bytes, {arrival.given.checksum}"


def as_json(arrival: Arrival) -> dict[str, Any]:
    """Given an arrival, return it as JSON takes it."""
    announced, given = arrival.announced, arrival.given
    return {
        "path": display(arrival.path),
        "size": arrival.size,
        "reason": printable(arrival.reason) or None,
        "control_file": display(announced.path) if announced is not None else None,
        "announced_size": announced.control.size if announced is not None else None,
        "announced_checksum": str(announced.control.checksum) if announced is not None else None,
        "receipt_given_at": given.at if given is not None else None,
    }

"""`mistamover quarantine list`: what lies in quarantine, since when, why and where, from the ledgers and the disk."""

from __future__ import annotations

import argparse
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mistamover.cli.common import (
    add_config_option,
    emit,
    human_age,
    human_bytes,
    iso_time,
    load_settings,
    print_json,
    printable,
    reading,
    streams_named,
    table,
)
from mistamover.config.settings import StreamSettings
from mistamover.files.names import display, json_name
from mistamover.stream.ledger import Trouble
from mistamover.stream.records import still_there

_EPILOG = """\
SINCE is when a unit was first seen; for one that was delivered but cannot be removed, when that was found. Such a unit,
and one that could not be moved, is listed where it is: in the stream's own directory.

Exit status: 0 the ledgers could be read, also if nothing is in quarantine; 1 they could not; 2 wrong words or
configuration.

Examples:
  mistamover quarantine list -c conf/global.ini      what lies in quarantine, of all streams
  mistamover quarantine list demo                    of one stream
  mistamover quarantine list --json                  one JSON object a line, for programs
"""


if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def configure(verbs: Verbs) -> None:
    """Given where the verbs of `quarantine` are kept, add this one."""
    listing = verbs.add_parser(
        "list",
        help="list what lies in quarantine, the oldest of each stream first",
        description="List what lies in quarantine. It answers while the service is down, too.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listing.set_defaults(act=run)
    add_config_option(listing)
    listing.add_argument("streams", metavar="STREAM", nargs="*", help="streams to list (default: all)")
    listing.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, print what is in quarantine; return 0. Raise MistamoverError."""
    found = list(in_quarantine(streams_named(load_settings(arguments), arguments.streams)))
    if arguments.json:
        for stream, trouble in found:
            print_json(record(stream, trouble), indent=None)
    elif found:
        now = time.time()
        header = ("STREAM", "SINCE", "SIZE", "FAULT", "NAME", "WHERE", "REASON")
        emit(*table(header, (_row(stream, trouble, now) for stream, trouble in found), left=(0, 3, 4, 5, 6)))
    else:
        emit("Nothing is in quarantine.")
    return 0


def record(stream: StreamSettings, trouble: Trouble) -> dict[str, Any]:
    """Given a stream and the note of a quarantine, return it as JSON takes it."""
    path = where(stream, trouble)
    return {
        **json_name(trouble.name),
        "stream": stream.name,
        "target": trouble.target,
        "since": trouble.since,
        "since_at": iso_time(trouble.since),
        "attempts": trouble.attempts,
        "fault": trouble.fault.value,
        "reason": printable(trouble.reason),
        "moved": trouble.moved_to is not None,
        "where": json_name(path),
        "size": size_of(path),
    }


def where(stream: StreamSettings, trouble: Trouble) -> bytes:
    """Given a stream and the note of a quarantine, return the path where the unit lies."""
    return trouble.moved_to or os.fsencode(stream.directory) + b"/" + trouble.name


def size_of(path: bytes) -> int | None:
    """Given a path, return the bytes of the file, or of all files below the directory; None if we may not look."""
    try:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            return status.st_size
        with os.scandir(path) as entries:
            sizes = [size_of(entry.path) for entry in entries]
    except OSError:
        return None
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def in_quarantine(streams: Iterable[StreamSettings]) -> Iterator[tuple[StreamSettings, Trouble]]:
    """Given streams, yield what lies in their quarantines, the oldest of each first. Raise MistamoverError."""
    for stream in streams:
        root = os.fsencode(stream.directory)
        with reading(stream.state_dir) as ledger:
            troubles = ledger.troubles() if ledger is not None else []
        yield from ((stream, t) for t in troubles if t.quarantined and still_there(t, root))


def _row(stream: StreamSettings, trouble: Trouble, now: float) -> tuple[str, ...]:
    path = where(stream, trouble)
    size = size_of(path)
    return (
        printable(stream.name),
        human_age(now - trouble.since),
        human_bytes(size) if size is not None else "-",
        trouble.fault.value,
        display(trouble.name),
        display(path),
        printable(trouble.reason),
    )

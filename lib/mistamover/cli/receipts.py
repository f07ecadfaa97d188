"""`mistamover receipts`: what other agents confirmed to us and we to them, and the proof that nothing in it was
changed.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mistamover.cli.common import (
    add_config_option,
    emit,
    human_bytes,
    human_time,
    iso_time,
    load_settings,
    print_json,
    printable,
    streams_named,
    table,
)
from mistamover.config.settings import StreamSettings
from mistamover.errors import MistamoverError
from mistamover.files.names import display, json_name
from mistamover.handshake.receipts import GIVEN, TAKEN, Book, Entry, first_broken

NAME = "receipts"
HELP = "list the receipts of other agents, and prove that none was changed"

_TABLE_LIMIT = 50

#: How the two books of a stream are called.
_BOOKS = {"taken": TAKEN, "given": GIVEN}

_EPILOG = """\
TAKEN are the receipts that the arrival monitors of targets gave this host, GIVEN those that its own
monitors gave to others.

Each receipt is sealed with the hash of the one before. "verify" computes every seal anew: an entry that was changed,
taken out or put in is named. That nothing was cut off at the end, only you can tell: keep the last seal somewhere else
now and then, and ask later with --contains whether it is still there.

Exit status: 0 well; 1 a book is broken, cannot be read, or does not hold the seal; 2 wrong words or configuration.

Examples:
  mistamover receipts list -c conf/global.ini       the last 50 receipts of all streams
  mistamover receipts list demo --json              all of one stream, one JSON object a line
  mistamover receipts verify                        prove every book, and print its last seal
  mistamover receipts verify demo --contains 3f8a...   prove that nothing since that seal was cut off
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.description = "List and prove receipts. It answers while the service is down, too."
    parser.epilog = _EPILOG
    parser.add_argument("action", choices=("list", "verify"), help="what to do")
    parser.add_argument("streams", metavar="STREAM", nargs="*", help="streams to look at (default: all)")
    add_config_option(parser)
    parser.add_argument("--limit", metavar="N", type=int, help=f"list at most N (default: {_TABLE_LIMIT} in the table)")
    parser.add_argument("--contains", metavar="SEAL", help="verify: fail unless one of the books holds this seal")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, do what it says; return the exit status."""
    streams = streams_named(load_settings(arguments), arguments.streams)
    if arguments.action == "list":
        return _list(streams, arguments)
    return _verify(streams, arguments)


def _books(streams: tuple[StreamSettings, ...]) -> Iterator[tuple[str, str, Book]]:
    """Yield the stream, the kind, and the book, for every book there is."""
    for stream in streams:
        for kind, name in _BOOKS.items():
            path: Path = stream.state_dir / name
            try:
                there = path.exists()
            except OSError as error:
                raise MistamoverError(f"{path} cannot be seen: {error.strerror}") from None
            if there:
                yield stream.name, kind, Book(path, read_only=True)


def _list(streams: tuple[StreamSettings, ...], arguments: argparse.Namespace) -> int:
    limit = arguments.limit or (None if arguments.json else _TABLE_LIMIT)
    found: list[tuple[str, str, Entry]] = []
    for stream, kind, book in _books(streams):
        entries = itertools.islice(book.entries(newest_first=True), limit)
        if arguments.json:
            for entry in entries:
                print_json(_record(stream, kind, entry), indent=None)
        else:
            found += [(stream, kind, entry) for entry in entries]
        book.close()
    if arguments.json:
        return 0
    found.sort(key=lambda row: row[2].at, reverse=True)
    if not found:
        emit("There is no receipt yet.")
        return 0
    header = ("AT", "STREAM", "BOOK", "SIZE", "PEER", "CHECKSUM", "NAME")
    emit(*table(header, (_row(*each) for each in found[:limit]), left=(0, 1, 2, 4, 5, 6)))
    return 0


def _verify(streams: tuple[StreamSettings, ...], arguments: argparse.Namespace) -> int:
    well, contained = True, arguments.contains is None
    for stream, kind, book in _books(streams):
        last = ""

        def watched(entries: Iterator[Entry]) -> Iterator[Entry]:
            nonlocal last, contained
            for entry in entries:
                yield entry
                last = entry.seal
                contained |= entry.seal == arguments.contains

        good, broken = first_broken(watched(book.entries()))
        book.close()
        well &= broken is None
        if arguments.json:
            print_json(
                {"stream": stream, "book": kind, "receipts": good, "whole": broken is None, "last_seal": last},
                indent=None,
            )
        elif broken is None:
            emit(f"{printable(stream)}, {kind}: {good} receipts, none was changed; the last seal is {last or '-'}")
        else:
            emit(
                f"{printable(stream)}, {kind}: BROKEN after {good} receipts: the next one, of "
                f"{display(broken.name)} at {human_time(broken.at)}, or one before it was changed, taken out or put in"
            )
    if not contained:
        emit(
            f"No book holds the seal {printable(arguments.contains)}: something was cut off, or another book is meant."
        )
    return 0 if well and contained else 1


def _record(stream: str, kind: str, entry: Entry) -> dict[str, Any]:
    return {
        **json_name(entry.name),
        "stream": stream,
        "book": kind,
        "size": entry.size,
        "checksum": entry.checksum,
        "at": entry.at,
        "at_iso": iso_time(entry.at),
        "peer": entry.peer,
        "receipt": display(entry.receipt),
        "seal": entry.seal,
    }


def _row(stream: str, kind: str, entry: Entry) -> tuple[str, ...]:
    return (
        human_time(entry.at),
        printable(stream),
        kind,
        human_bytes(entry.size),
        printable(entry.peer),
        printable(entry.checksum),
        display(entry.name),
    )

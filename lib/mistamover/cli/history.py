"""`mistamover history`: what was delivered, when, where to, with which hash; also as a list that `md5sum -c` reads."""

from __future__ import annotations

import argparse
import heapq
import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from mistamover.cli.common import (
    add_config_option,
    emit,
    human_age,
    human_bytes,
    human_time,
    iso_time,
    load_settings,
    note,
    print_json,
    printable,
    reading,
    streams_named,
    table,
)
from mistamover.cli.selection import Selection, select, selection_of
from mistamover.config.settings import StreamSettings
from mistamover.files.names import display, json_name
from mistamover.model import Kind
from mistamover.stream.ledger import Delivery

NAME = "history"
HELP = "list what was delivered"

_TABLE_LIMIT = 50

_EPILOG = """\
GLOB is compared with the whole name relative to the stream's directory; * and ? match a / as well. Quote it.
WHEN is a day (2026-11-22), a moment (2026-11-22T10:00, local time) or an age (90s, 30m, 2h, 3d, 2w).

A manifest lists the latest delivery of each file of one stream, for md5sum -c, sha1sum -c or xxh128sum -c; which
one it is, is told on standard error. Run it in the target directory:
  mistamover history demo --manifest > demo.sums     here
  cd /archive/demo && xxh128sum -c demo.sums         at the target

Exit status: 0 the history could be read, also if it is empty; 1 it could not; 2 wrong words or configuration.

Examples:
  mistamover history -c conf/global.ini              the last 50 deliveries of all streams
  mistamover history demo --since 2h --name '*.nc'   those of one stream, in the last two hours, by name
  mistamover history --since 2026-11-22 --json       one JSON object a line, for programs
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "List what was delivered, the newest first. It answers while the service is down, too."
    parser.epilog = _EPILOG
    add_config_option(parser)
    parser.add_argument("streams", metavar="STREAM", nargs="*", help="streams to list (default: all)")
    parser.add_argument("--since", metavar="WHEN", help="only what was delivered since then")
    parser.add_argument("--name", metavar="GLOB", help="only names that match, for instance '*.nc' or 'run7/*'")
    parser.add_argument("--algorithm", metavar="NAME", help="only what has a hash of this kind: xxh128, md5, sha1")
    parser.add_argument(
        "--limit", metavar="N", type=int, help=f"at most so many (default: {_TABLE_LIMIT} in the table, else all)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")
    form.add_argument("--manifest", action="store_true", help="print HASH  NAME, as md5sum -c and its like read it")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, print the history; return 0. Raise ConfigError, UsageError, LedgerError."""
    selection = selection_of(arguments, time.time())
    streams = streams_named(load_settings(arguments), arguments.streams)
    if arguments.manifest:
        from mistamover.cli.manifest import write_manifest

        write_manifest(streams, selection, sys.stdout.buffer, note)
    elif arguments.json:
        _print_json(streams, selection)
    else:
        _print_table(streams, selection)
    return 0


def record(stream: str, delivery: Delivery) -> dict[str, Any]:
    """Given a stream's name and a delivery, return it as JSON takes it."""
    return {
        **json_name(delivery.name),
        "stream": stream,
        "size": delivery.identity.size,
        "kind": delivery.kind.value,
        "algorithm": delivery.algorithm,
        "digest": delivery.digest,
        "target": delivery.target,
        "lane": delivery.lane,
        "attempts": delivery.attempts,
        "first_seen": delivery.first_seen,
        "started": delivery.started,
        "confirmed": delivery.confirmed,
        "handed_over": delivery.handed_over,
        "delivered_at": iso_time(delivery.confirmed),
        "kept": delivery.kept,
    }


def newest_first(
    streams: Iterable[StreamSettings], selection: Selection, limit: int | None, stack: ExitStack
) -> Iterator[tuple[str, Delivery]]:
    """Given streams and what is wanted of them, yield each delivery with the name of its stream.

    The ledgers stay open until `stack` is closed.  Raise LedgerError.
    """

    def of_one(stream: StreamSettings) -> Iterator[tuple[str, Delivery]]:
        ledger = stack.enter_context(reading(stream.state_dir))
        if ledger is not None:
            # The ledger's own pattern is not used: SQLite may be built so that GLOB never matches bytes.
            found = select(ledger.history(since=selection.since), selection)
            yield from ((stream.name, delivery) for delivery in found)

    merged = heapq.merge(*map(of_one, streams), key=lambda pair: pair[1].confirmed, reverse=True)
    return itertools.islice(merged, limit)


def _print_json(streams: Iterable[StreamSettings], selection: Selection) -> None:
    with ExitStack() as stack:
        for stream, delivery in newest_first(streams, selection, selection.limit, stack):
            print_json(record(stream, delivery), indent=None)


def _print_table(streams: Iterable[StreamSettings], selection: Selection) -> None:
    limit = selection.limit or _TABLE_LIMIT
    with ExitStack() as stack:
        found = list(newest_first(streams, selection, limit + 1, stack))
    if not found:
        wanted = selection.since is not None or selection.glob is not None or selection.algorithm is not None
        emit("Nothing that was delivered matches." if wanted else "Nothing was delivered yet.")
        return
    header = ("DELIVERED", "STREAM", "SIZE", "TOOK", "TARGET", "HASH", "NAME")
    emit(*table(header, (_row(*pair) for pair in found[:limit]), left=(0, 1, 4, 5, 6)))
    if len(found) > limit:
        emit(
            "", f"There is more: these are the newest {limit}. See more with --limit N, or choose by --since or --name."
        )


def _row(stream: str, delivery: Delivery) -> tuple[str, ...]:
    nouns = {Kind.LINK: "link", Kind.DIRECTORY: "directory", Kind.TREE: "unit"}
    remarks = [f"{delivery.attempts} failed before"] if delivery.attempts else []
    remarks += [printable(delivery.kept)] if delivery.kept else []
    return (
        human_time(delivery.confirmed),
        printable(stream),
        nouns.get(delivery.kind) or human_bytes(delivery.identity.size),
        human_age(delivery.confirmed - delivery.first_seen),
        printable(delivery.target),
        f"{delivery.algorithm}:{delivery.digest}" if delivery.digest else "-",
        display(delivery.name) + (f"  ({'; '.join(remarks)})" if remarks else ""),
    )

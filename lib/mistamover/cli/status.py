"""`mistamover status`: what every stream is doing, from what its process last wrote and from its ledger."""

from __future__ import annotations

import argparse
import sys
import threading
import time

from mistamover.cli.common import add_config_option, emit, load_settings, print_json, printable, streams_named
from mistamover.cli.status_view import as_json, in_words
from mistamover.cli.stream_report import SiteReport, report_on
from mistamover.errors import ConfigError, UsageError

NAME = "status"
HELP = "show what every stream is doing"

_PERIOD = 2.0
_LONGEST_PERIOD = 86400.0

_EPILOG = """\
Exit status: 0 all is well; 1 a stream that should run is down, or its target cannot be reached, or it has units in
quarantine, or its ledger cannot be read, or a disk is nearly full, or alerts cannot be handed over; 2 wrong words or
configuration.

Examples:
  mistamover status -c conf/global.ini           all streams
  mistamover status demo                         one stream, with its waiting and quarantined units
  mistamover status demo --watch                 the same, drawn anew every 2 seconds until Ctrl-C
  mistamover status --json | jq '.streams[] | {name, state, waiting}'
  mistamover status --json | jq '.disks.filesystems[] | {mount, level, free, stopped}'
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Show what every stream is doing. It reads what the streams keep on disk, so it answers\n"
        "while the service is down, too."
    )
    parser.epilog = _EPILOG
    add_config_option(parser)
    parser.add_argument("streams", metavar="STREAM", nargs="*", help="streams to show (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")
    parser.add_argument(
        "--watch",
        metavar="SECONDS",
        nargs="?",
        type=float,
        const=_PERIOD,
        help=f"draw it anew every so many seconds until Ctrl-C (default: {_PERIOD:g}); put it after the streams",
    )


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, print the status; return the exit status. Raise ConfigError, UsageError."""
    if arguments.watch is not None:
        return _watch(arguments)
    report = _look(arguments)
    _show(arguments, report)
    return 0 if report.well else 1


def _look(arguments: argparse.Namespace) -> SiteReport:
    settings = load_settings(arguments)
    streams = streams_named(settings, arguments.streams)
    return report_on(settings, streams, with_unconfigured=not arguments.streams, now=time.time())


def _show(arguments: argparse.Namespace, report: SiteReport) -> None:
    if arguments.json:
        print_json(as_json(report), indent=None if arguments.watch is not None else 2)
    else:
        emit(*in_words(report, details=bool(arguments.streams)))


def _watch(arguments: argparse.Namespace) -> int:
    period: float = arguments.watch
    if not 0.1 <= period <= _LONGEST_PERIOD:
        raise UsageError("--watch takes a number of seconds from 0.1 to 86400")
    never = threading.Event()
    clear = sys.stdout.isatty() and not arguments.json
    report = _look(arguments)
    try:
        while True:
            if clear:
                sys.stdout.write("\x1b[H\x1b[2J")
            _show(arguments, report)
            if not arguments.json and not clear:
                emit("")
            sys.stdout.flush()
            never.wait(period)
            report = _look_again(arguments, report)
    except KeyboardInterrupt:
        return 0


def _look_again(arguments: argparse.Namespace, before: SiteReport) -> SiteReport:
    """The configuration may be edited while we watch: what is wrong with it is shown, and the last good one used."""
    try:
        return _look(arguments)
    except (ConfigError, UsageError) as error:
        names = {stream.name for stream in before.streams}
        streams = tuple(stream for stream in before.settings.streams if stream.name in names)
        problems = tuple(printable(line) for line in str(error).splitlines())
        return report_on(
            before.settings,
            streams,
            with_unconfigured=not arguments.streams,
            now=time.time(),
            problems=problems,
        )

"""`mistamover resume`: let paused streams go on."""

from __future__ import annotations

import argparse

from mistamover.cli.common import (
    add_config_option,
    emit,
    human_time,
    is_served,
    load_settings,
    print_json,
    printable,
    senders_named,
)
from mistamover.config.settings import StreamSettings
from mistamover.errors import MistamoverError
from mistamover.stream import pause
from mistamover.stream.alarm import ring
from mistamover.stream.pause import Pause

NAME = "resume"
HELP = "let paused streams go on"

_EPILOG = """\
Exit status: 0 the streams are not paused, also if they were not before; 1 the end of a pause cannot be written down;
2 wrong words or configuration: nothing was done.

Examples:
  mistamover resume demo
  mistamover resume demo other --json       one JSON object a line, for programs
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Let streams that were paused go on, at once if a process serves them."
    parser.epilog = _EPILOG
    add_config_option(parser)
    parser.add_argument("streams", metavar="STREAM", nargs="+", help="streams to resume")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, resume the streams; return 0. Raise MistamoverError."""
    for stream in senders_named(load_settings(arguments), arguments.streams):
        before = _resume(stream)
        if arguments.json:
            print_json({"stream": stream.name, "paused": None, "changed": before is not None}, indent=None)
        elif before is None:
            emit(f"{stream.name}: it was not paused")
        else:
            since = f" (it was paused since {human_time(before.since)} by {before.who})" if before.since else ""
            down = "" if is_served(stream.state_dir) else "; no process serves it now"
            emit(f"{stream.name}: resumed{since}{down}")
    return 0


def _resume(stream: StreamSettings) -> Pause | None:
    try:
        before = pause.end(stream.state_dir)
    except OSError as error:
        raise MistamoverError(
            f"stream {stream.name} is not resumed: {printable(stream.state_dir)}: {error.strerror or error}"
        ) from error
    ring(stream.state_dir)
    return before

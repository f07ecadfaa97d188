"""`mistamover pause`: let streams send nothing, until they are resumed."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict

from mistamover.cli.common import (
    add_config_option,
    emit,
    is_served,
    load_settings,
    print_json,
    printable,
    senders_named,
    who_asks,
)
from mistamover.config.settings import StreamSettings
from mistamover.errors import MistamoverError
from mistamover.stream import pause
from mistamover.stream.alarm import ring
from mistamover.stream.pause import Pause

NAME = "pause"
HELP = "let streams send nothing, until they are resumed"

_EPILOG = """\
A paused stream finishes what is on its way and sends nothing more, also after a restart of the service or of the host,
until `mistamover resume`. It goes on watching its directory, and keeps what comes for later. What others deliver to us
is taken in as before. A one-off run leaves everything of a paused stream where it is, says so, and ends with status 1
if anything is left. No alert is sent because of a pause.

Exit status: 0 the streams are paused, also if they were before (who has paused them first is kept); 1 a pause cannot be
written down; 2 wrong words or configuration: nothing was done.

Examples:
  mistamover pause demo                                         until: mistamover resume demo
  mistamover pause demo other --reason "the target is moved"    `status` and `why` tell the reason
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Let streams send nothing, until they are resumed."
    parser.epilog = _EPILOG
    add_config_option(parser)
    parser.add_argument("streams", metavar="STREAM", nargs="+", help="streams to pause")
    parser.add_argument("--reason", metavar="TEXT", default="", help="why, for those who will ask")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, pause the streams; return 0. Raise MistamoverError."""
    wanted = Pause(who=who_asks(), since=time.time(), reason=printable(arguments.reason))
    for stream in senders_named(load_settings(arguments), arguments.streams):
        before = _pause(stream, wanted)
        now = before or wanted
        if arguments.json:
            words = {"stream": stream.name, "paused": asdict(now), "changed": before is None}
            print_json(words, indent=None)
        else:
            emit(f"{stream.name}: {'already ' if before else ''}{now.words(stream.name)}{_rest(stream)}")
    return 0


def _pause(stream: StreamSettings, wanted: Pause) -> Pause | None:
    try:
        before = pause.begin(stream.state_dir, wanted)
    except OSError as error:
        raise MistamoverError(
            f"stream {stream.name} is not paused: {printable(stream.state_dir)}: {error.strerror or error}"
        ) from error
    ring(stream.state_dir)
    return before


def _rest(stream: StreamSettings) -> str:
    return "; what is on its way is finished" if is_served(stream.state_dir) else "; no process serves it now"

"""`mistamover quarantine retry` and `release`: how a quarantine ends."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mistamover.cli.common import add_config_option, emit, load_settings, note, plural, print_json, who_asks
from mistamover.cli.quarantine_find import NAMES_HELP, named_units
from mistamover.cli.quarantine_list import in_quarantine
from mistamover.config.settings import Settings, StreamSettings
from mistamover.errors import UsageError
from mistamover.files.names import display, json_name
from mistamover.stream.requests import Ended, Meant, Request, Verb

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]

#: Seconds that a stream's process may take to answer.
_TIMEOUT = 10.0
_LONGEST_TIMEOUT = 86400.0

_STATUS = """\
The stream's process does it, at once; while none runs, this command does it itself. A process that does not answer
within --timeout does it later.

Exit status: 0 all units are as was asked; 1 some are not, and each is named with the reason, or the process has not
answered yet; 2 wrong words or configuration: nothing was done.
"""

_RETRY_EPILOG = f"""\
A unit that was moved goes back to where it came from, never in the place of something else: if its name is taken
there, it stays in quarantine, and so it is said. One that could not be moved, or could not be removed after its
delivery, or belongs to a mirror, is tried again where it is. Its attempts are counted anew.

{_STATUS}
Examples:
  mistamover quarantine retry --all                  everything, of all streams
  mistamover quarantine retry demo --all             everything of the stream demo
  mistamover quarantine retry demo run7.nc d/x.dat   two units of it
  mistamover quarantine retry run7.nc                whichever stream it belongs to
  mistamover quarantine retry -- demo -strange       a name that begins with a dash
"""

_RELEASE_EPILOG = f"""\
The unit stays out of the stream for good, and MiStaMover looks after it no more: it is yours. It stays where it lies,
or goes to DIR, below which it keeps its name, never in the place of something else. What lies in the stream's own
directory (of a mirror, or what could not be moved) is not sent any more, unless it changes.
`mistamover why` tells afterwards who has released it, and when.

{_STATUS}
Examples:
  mistamover quarantine release demo run7.nc                it stays in the quarantine directory
  mistamover quarantine release demo run7.nc --to /srv/bad  it goes to /srv/bad/run7.nc
"""


def configure(verbs: Verbs) -> None:
    """Given where the verbs of `quarantine` are kept, add these."""
    retry = verbs.add_parser(
        "retry",
        help="put units back, to be tried again",
        usage="mistamover quarantine retry [-h] [-c GLOBAL_INI] [STREAM] [NAME ...] | [STREAM] --all",
        description="Put quarantined units back, to be tried again.",
        epilog=_RETRY_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    retry.add_argument("words", metavar="[STREAM] NAME", nargs="*", help=NAMES_HELP)
    retry.add_argument("--all", action="store_true", help="all that lies in quarantine, of the stream or of all")
    retry.set_defaults(act=run, verb=Verb.RETRY, to=None)
    release = verbs.add_parser(
        "release",
        help="take units out of the stream for good",
        usage="mistamover quarantine release [-h] [-c GLOBAL_INI] [STREAM] NAME ... [--to DIR]",
        description="End the quarantine of units: they stay out of the stream for good.",
        epilog=_RELEASE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    release.add_argument("words", metavar="[STREAM] NAME", nargs="+", help=NAMES_HELP)
    release.add_argument("--to", metavar="DIR", help="move them to this directory, which must exist")
    release.set_defaults(act=run, verb=Verb.RELEASE, all=False)
    for parser in (retry, release):
        add_config_option(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")
        parser.add_argument(
            "--timeout",
            metavar="SECONDS",
            type=float,
            default=_TIMEOUT,
            help=f"wait so long for the answer of a stream's process (default: {_TIMEOUT:g})",
        )


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, do it; return 0 if every unit is as was asked, else 1. Raise MistamoverError."""
    timeout: float = arguments.timeout
    if not 0 <= timeout <= _LONGEST_TIMEOUT:
        raise UsageError(f"--timeout takes a number of seconds from 0 to {_LONGEST_TIMEOUT:g}")
    # The work of a stream is only imported for who wants it done.
    from mistamover.cli.asking import ask

    settings = load_settings(arguments)
    wanted = _wanted(arguments, settings)
    to = _directory(arguments.to, wanted) if arguments.to is not None else None
    if not wanted and not arguments.json:
        emit("Nothing is in quarantine.")
    well = True
    for stream, units in wanted.items():
        request = Request(verb=arguments.verb, units=tuple(units), who=who_asks(), to=to)
        ended = ask(stream, request, timeout)
        well = _tell(stream, len(units), ended, as_json=arguments.json) and well
    return 0 if well else 1


def _wanted(arguments: argparse.Namespace, settings: Settings) -> dict[StreamSettings, list[Meant]]:
    """Return the units that are spoken of, by their streams. Raise UsageError."""
    words: Sequence[str] = arguments.words
    if not arguments.all:
        return named_units(settings, words)
    streams = settings.streams
    if words:
        stream = settings.stream(words[0])
        if len(words) > 1 or stream is None:
            raise UsageError("--all takes the name of one stream at most, and no names of units")
        streams = (stream,)
    return _by_stream((stream, Meant(trouble.name, trouble.moved_to)) for stream, trouble in in_quarantine(streams))


def _by_stream(found: Iterable[tuple[StreamSettings, Meant]]) -> dict[StreamSettings, list[Meant]]:
    result: dict[StreamSettings, list[Meant]] = {}
    for stream, unit in found:
        result.setdefault(stream, []).append(unit)
    return result


def _directory(to: str, wanted: Mapping[StreamSettings, object]) -> bytes:
    """Given the directory that was named, return its absolute path. Raise UsageError if units must not go there."""
    path = os.path.realpath(os.fsencode(to))
    if not os.path.isdir(path):
        raise UsageError(f"--to: there is no directory {display(path)}; make it first")
    for stream in wanted:
        for own in (stream.directory, stream.quarantine_dir):
            above = os.path.realpath(os.fsencode(own))
            if path == above or path.startswith(above.rstrip(b"/") + b"/"):
                raise UsageError(
                    f"--to: {display(path)} is in {display(above)}, which belongs to the stream {stream.name}: "
                    f"name a directory outside of it"
                )
    return path


def _tell(stream: StreamSettings, number: int, ended: Sequence[Ended] | None, *, as_json: bool) -> bool:
    """Say what became of each unit; return whether all are as was asked."""
    if ended is None:
        note(
            f"mistamover: {stream.name}: its process has not answered yet; it is told to do it, and does it as soon as "
            f"it can ({plural(number, 'unit')})"
        )
        return False
    for each in ended:
        if as_json:
            print_json({"stream": stream.name, **_json(each)}, indent=None)
        elif each.done:
            emit(_line(stream, each))
        else:
            note(f"mistamover: {_line(stream, each)}")
    return all(each.done for each in ended)


def _line(stream: StreamSettings, each: Ended) -> str:
    return f"{stream.name}: {display(each.name)}: {each.words}"


def _json(each: Ended) -> dict[str, object]:
    return {
        **json_name(each.name),
        "done": each.done,
        "outcome": each.outcome.value,
        "text": each.words,
        "where": json_name(each.where) if each.where is not None else None,
    }

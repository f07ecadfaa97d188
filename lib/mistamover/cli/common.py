"""What the commands that answer questions share: the configuration, the streams' files, and how things are printed.

Nothing here imports the configuration's parser or SQLite before it is needed: `--help` must be instant.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistamover.config.settings import Settings, StreamSettings
from mistamover.errors import LedgerError, MistamoverError, UsageError
from mistamover.files.names import display
from mistamover.report.snapshot import LOCK_FILE, is_locked

if TYPE_CHECKING:
    from mistamover.stream.ledger import Ledger

CONFIG_VARIABLE = "MISTAMOVER_CONFIG"
DEFAULT_CONFIG = "conf/global.ini"
LEDGER_FILE = "ledger.sqlite"


# -- configuration ----------------------------------------------------------------------------


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Given a command's parser, add the option that names the global INI file."""
    parser.add_argument(
        "-c",
        "--config",
        metavar="GLOBAL_INI",
        type=Path,
        help=f"the global configuration file (default: ${CONFIG_VARIABLE}, else {DEFAULT_CONFIG})",
    )


def load_settings(arguments: argparse.Namespace) -> Settings:
    """Given the parsed command line, return the settings it speaks of.

    Raise UsageError when no configuration was named and there is none at the default place, ConfigError when it
    cannot be used.
    """
    named: Path | None = arguments.config
    from_environment = os.environ.get(CONFIG_VARIABLE)
    if named is None and from_environment:
        named = Path(from_environment)
    if named is None:
        named = Path(DEFAULT_CONFIG)
        if not named.exists():
            raise UsageError(
                f"there is no {DEFAULT_CONFIG} in {printable(os.getcwd())}: "
                f"name the global configuration file with -c, or in the variable {CONFIG_VARIABLE}"
            )
    from mistamover.config.load import load

    return load(named, os.environ)


def streams_named(settings: Settings, names: Sequence[str]) -> tuple[StreamSettings, ...]:
    """Given names from the command line, return their streams, all of them for no name. Raise UsageError."""
    if not names:
        return settings.streams
    return tuple(_stream_named(settings, name) for name in dict.fromkeys(names))


def senders_named(settings: Settings, names: Sequence[str]) -> tuple[StreamSettings, ...]:
    """As `streams_named`, with the parts of a stream that has several targets in its place: they are what sends."""
    found = (each for stream in streams_named(settings, names) for each in stream.parts or (stream,))
    return tuple({stream.name: stream for stream in found}.values())


def _stream_named(settings: Settings, name: str) -> StreamSettings:
    stream = settings.stream(name)
    if stream is not None:
        return stream
    known = [each.name for each in settings.streams]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the streams are: {', '.join(known) or 'none'}"
    raise UsageError(f'there is no stream called "{printable(name)}" in {settings.file}; {hint}')


def who_asks() -> str:
    """Return the name of the person who runs this command, for the records."""
    import pwd

    try:
        own = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        own = f"user {os.getuid()}"
    # Who has become root by sudo is known by his own name.
    return (os.environ.get("SUDO_USER") or own) if os.getuid() == 0 else own


# -- what the streams have on disk ------------------------------------------------------------


def is_held(lock_file: Path) -> bool:
    """Given a lock file, tell whether a process holds it. Raise MistamoverError where that cannot be seen."""
    return _is_there(lock_file) and is_locked(lock_file)


def _is_there(path: Path) -> bool:
    """Tell whether there is a file; unlike Path.exists never say no where the truth is "not to be seen by you"."""
    try:
        os.stat(path)
        readable = os.access(path, os.R_OK)
    except FileNotFoundError:
        return False
    except OSError:
        readable = False
    if not readable:
        raise MistamoverError(f"{path} cannot be read: ask again as the user of the service, or as root")
    return True


def is_served(state_dir: Path) -> bool:
    """Given a stream's state directory, tell whether a process serves the stream. Raise MistamoverError."""
    return is_held(state_dir / LOCK_FILE)


@contextmanager
def reading(state_dir: Path) -> Iterator[Ledger | None]:
    """Given a stream's state directory, open its ledger for reading; None if there is none yet.

    Raise LedgerError when it cannot be used, also while it is read; MistamoverError when we may not see it.
    """
    import sqlite3

    from mistamover.stream.ledger import Ledger

    path = state_dir / LEDGER_FILE
    if not _is_there(path):
        yield None
        return
    try:
        with Ledger(path, read_only=True) as ledger:
            yield ledger
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {error}") from error


# -- printing ---------------------------------------------------------------------------------


def printable(text: str | Path) -> str:
    """Given text that may hold anything, return one line of it that cannot disturb a terminal."""
    return display(str(text).encode("utf-8", "surrogateescape"))


def emit(*lines: str) -> None:
    """Given lines, print them; what the terminal's encoding cannot show is spelled out."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    for line in lines:
        print(line.encode(encoding, "backslashreplace").decode(encoding))


def note(line: str) -> None:
    """Given a line that is for the operator and no part of the answer, print it to standard error."""
    print(line.encode("ascii", "backslashreplace").decode("ascii"), file=sys.stderr)


def print_json(value: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Given a value, print it as JSON; with indent None on one line."""
    print(json.dumps(value, indent=indent))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: Iterable[int] = (0,)) -> list[str]:
    """Given a header, rows of as many cells, and which columns stand at the left, return aligned lines."""
    whole = [list(header), *([*row] for row in rows)]
    widths = [max(len(row[column]) for row in whole) for column in range(len(header))]
    at_left = set(left)

    def line(row: Sequence[str]) -> str:
        cells = (
            cell.ljust(width) if column in at_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    return [line(row) for row in whole]


def human_bytes(size: float) -> str:
    """Given a number of bytes, return it for people: 999 B, 1.5 KiB, 53 MiB."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        # 1023.96 would be printed as 1024.0: it is one of the next unit.
        if round(size, 1) < 1024:
            return f"{size:.1f} {unit}" if size < 100 else f"{size:.0f} {unit}"
    return f"{size / 1024:.1f} PiB"


def human_age(seconds: float) -> str:
    """Given a length of time, return it for people, in the largest unit that it fills: 3s, 2m, 5h, 4d."""
    seconds = max(0.0, seconds)
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds >= 1 or not seconds else f"{seconds * 1000:.0f}ms"


def human_time(when: float) -> str:
    """Given a moment, return it in local time: 2026-11-22 10:15:00."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def human_wait(until: float, now: float) -> str:
    """Given a moment to come and the time, return how long until then and when that is."""
    return f"in {human_age(until - now)} ({human_time(until)})" if until > now else "now"


def iso_time(when: float) -> str:
    """Given a moment, return it for programs: ISO 8601 in local time with its offset."""
    import datetime

    return datetime.datetime.fromtimestamp(when).astimezone().isoformat(timespec="milliseconds")


def plural(number: int, noun: str) -> str:
    """Given a number and a noun, return both: 1 file, 2 files."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

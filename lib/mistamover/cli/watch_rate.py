"""`mistamover watch-rate`: how fast what is on disk below a path, or on its filesystem, grows."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mistamover.cli.common import emit, human_bytes, human_time, iso_time, note, print_json, printable
from mistamover.errors import MistamoverError, UsageError
from mistamover.files.names import display, json_name

NAME = "watch-rate"
HELP = "show how fast a directory grows"

_EPILOG = """\
What counts is the space that files take on the disk, a file with several names once; links are not followed. A rate
is negative while more is removed than comes. Ctrl-C ends it.

Exit status: 0 it was watched; 1 the path cannot be read, or has gone; 2 wrong words.

Examples:
  mistamover watch-rate /data/incoming                every 5 seconds, until Ctrl-C
  mistamover watch-rate -f -i 1m /data                the whole filesystem, every minute
  mistamover watch-rate --count 10 --json /data       ten looks, one JSON object a line
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was found at one moment."""

    when: float
    """On a clock that only goes on."""
    used: int
    """Bytes on disk."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Show how much is on disk below a path, and how fast that grows: now, and since the start."
    parser.epilog = _EPILOG
    parser.add_argument("path", metavar="PATH", type=os.fsencode, help="a directory or a file")
    parser.add_argument("-f", "--filesystem", action="store_true", help="watch all of the filesystem that it is on")
    parser.add_argument("-i", "--interval", metavar="SECONDS", default="5", help="between two looks (default: 5)")
    parser.add_argument("--count", metavar="N", type=int, help="end after so many rates")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, print rates until Ctrl-C; return 0. Raise MistamoverError."""
    interval = _interval(arguments.interval)
    if arguments.count is not None and arguments.count < 1:
        raise UsageError(f"--count {arguments.count} is out of range, expected 1 or more")
    path: bytes = arguments.path
    try:
        for number, (first, before, now) in enumerate(_looks(path, _measure(arguments.filesystem), interval), start=1):
            if arguments.json:
                print_json(_record(path, first, before, now), indent=None)
            else:
                emit(_line(first, before, now))
            if number == arguments.count:
                break
    except KeyboardInterrupt:
        pass
    return 0


def rate(before: Look, now: Look) -> float:
    """Given two looks, return by how many bytes a second it has grown between them."""
    return (now.used - before.used) / max(now.when - before.when, 1e-9)


class Below:
    """What is below a path; a directory there that may not be read is told once."""

    def __init__(self) -> None:
        """Begin."""
        self._told: set[bytes] = set()

    def used(self, path: bytes) -> int:
        """Given a path, return the bytes on disk of all that is there. Raise OSError if it cannot be read itself.

        What vanishes meanwhile does not count.
        """
        seen: set[tuple[int, int]] = set()
        used = os.stat(path).st_blocks * 512
        waiting = [path] if os.path.isdir(path) else []
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        used += _used_by(entry, seen, waiting)
            except OSError as error:
                if directory == path:
                    raise
                self._tell(directory, error)
        return used

    def _tell(self, directory: bytes, error: OSError) -> None:
        if directory not in self._told and not isinstance(error, FileNotFoundError):
            self._told.add(directory)
            note(f"mistamover: {display(directory)} does not count: {error.strerror}")


def used_on(path: bytes) -> int:
    """Given a path, return the bytes in use on its filesystem. Raise OSError."""
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def _used_by(entry: os.DirEntry[bytes], seen: set[tuple[int, int]], waiting: list[bytes]) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if entry.is_dir(follow_symlinks=False):
        waiting.append(entry.path)
    elif status.st_nlink > 1:
        if (status.st_dev, status.st_ino) in seen:
            return 0
        seen.add((status.st_dev, status.st_ino))
    return status.st_blocks * 512


def _measure(filesystem: bool) -> Callable[[bytes], int]:
    return used_on if filesystem else Below().used


def _looks(path: bytes, measure: Callable[[bytes], int], interval: float) -> Iterator[tuple[Look, Look, Look]]:
    """Yield the first look, the one before, and the newest, each time when the interval is over."""
    pause = threading.Event()
    first = before = _look(path, measure)
    while True:
        # A look at a large tree takes its time: the rate is by the clock, the interval is between two looks.
        pause.wait(interval)
        now = _look(path, measure)
        yield first, before, now
        before = now


def _look(path: bytes, measure: Callable[[bytes], int]) -> Look:
    try:
        used = measure(path)
    except OSError as error:
        raise MistamoverError(f"{display(path)} cannot be looked at: {error.strerror}") from error
    return Look(when=time.monotonic(), used=used)


def _interval(text: str) -> float:
    from mistamover.config.check import CheckError, seconds

    try:
        return seconds(text, min="0.05")
    except CheckError as error:
        raise UsageError(f'--interval "{printable(text)}" {error}') from None


def _line(first: Look, before: Look, now: Look) -> str:
    rates = f"{_signed(rate(before, now)):>13}/s now  {_signed(rate(first, now)):>13}/s on average"
    return f"{human_time(time.time())}  {human_bytes(now.used):>10}  {rates}"


def _signed(size: float) -> str:
    return f"{'-' if size < 0 else '+'}{human_bytes(abs(size))}"


def _record(path: bytes, first: Look, before: Look, now: Look) -> dict[str, Any]:
    return {
        **json_name(path),
        "at": iso_time(time.time()),
        "bytes": now.used,
        "bytes_per_second": round(rate(before, now), 1),
        "average_bytes_per_second": round(rate(first, now), 1),
        "seconds": round(now.when - first.when, 3),
    }

"""Following log files: what was added to them since the last look, from a level on."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from mistamover.alerts.digest import Line

#: Our own log is not followed: a mail that fails must not lead to a mail.
OWN = "alerts"

CONFIGURATION = ":configuration"
"""Owner of messages about configuration files; no stream has such a name."""

_SUFFIX = ".log"

#: Bytes of one file that are read at one look; what is more is read at the next.
_MOST = 1 << 20

_LINE = re.compile(r"\[[-0-9]{10} [:0-9]{8}\] ([A-Z]+) \(pid=[0-9]+\) (.*)")
_OF_STREAM = re.compile(r"stream ([A-Za-z0-9][A-Za-z0-9._-]*): ")
_STREAM_LOG = "dtc_"

Position = tuple[int, int]
"""Inode and offset."""


def at_the_end(directories: Iterable[Path]) -> dict[str, Position]:
    """Given directories of logs, return the position behind all that is in them."""
    found: dict[str, Position] = {}
    for path in _logs(directories):
        status = os.stat(path)
        found[path] = (status.st_ino, status.st_size)
    return found


def follow(
    directories: Iterable[Path], before: Mapping[str, Position], threshold: str
) -> tuple[dict[str, Position], list[Line]]:
    """Given directories of logs, how far they were read, and a level, return how far they are read now, and the lines
    at or above the level.  A file that is new, or was put in the place of another, is read from its beginning.
    """
    least = logging.getLevelName(threshold)
    positions: dict[str, Position] = {}
    lines: list[Line] = []
    for path in _logs(directories):
        try:
            status = os.stat(path)
            inode, offset = before.get(path, (0, 0))
            if inode != status.st_ino or offset > status.st_size:
                offset = 0
            text, end = _whole_lines(path, offset) if status.st_size > offset else (b"", offset)
        except OSError:
            # Renamed by a rotation at this moment; the next look finds the new one.
            continue
        positions[path] = (status.st_ino, end)
        lines += _parsed(os.path.basename(path).removesuffix(_SUFFIX), text, least)
    return positions, lines


def _logs(directories: Iterable[Path]) -> list[str]:
    found: list[str] = []
    for directory in dict.fromkeys(map(str, directories)):
        try:
            with os.scandir(directory) as entries:
                found += [
                    e.path for e in entries if e.name.endswith(_SUFFIX) and e.name != OWN + _SUFFIX and e.is_file()
                ]
        except OSError:
            # That of a stream which has not started yet is not there.
            continue
    return sorted(found)


def _whole_lines(path: str, offset: int) -> tuple[bytes, int]:
    with open(path, "rb") as file:
        file.seek(offset)
        text = file.read(_MOST)
    end = text.rfind(b"\n") + 1
    if not end and len(text) == _MOST:
        # No log of ours has such a line: do not stay before it for ever.
        end = len(text)
    return text[:end], offset + end


def _parsed(component: str, text: bytes, least: int) -> Iterable[Line]:
    for line in text.decode("utf-8", "replace").splitlines():
        # What does not match is the rest of a traceback.
        if (match := _LINE.fullmatch(line)) is None:
            continue
        level, message = match.groups()
        if logging.getLevelNamesMapping().get(level, 0) >= least:
            yield Line(component=component, owner=_owner(component, message), level=level, message=message)


def _owner(component: str, message: str) -> str:
    if component.startswith(_STREAM_LOG):
        return component.removeprefix(_STREAM_LOG)
    if message.endswith("the last good configuration stays in force"):
        return CONFIGURATION
    match = _OF_STREAM.match(message)
    return match[1] if match else ""

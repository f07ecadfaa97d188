"""File names: bytes inside, readable text outside.

Names never become text on their way to a target.  Text is made here, for people
and for JSON, so that a name with a newline or an escape sequence cannot disturb
a terminal or a log.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MARK = b".mistamover"
"""First part of every name that we create beside other people's data."""

ZIP = b".zip"
"""What is put behind a directory unit's name to make that of its zip."""

LONGEST_NAME = 255
"""Bytes that filesystems take for one name."""

#: Numbers that are tried for a zip whose name is taken.
_MOST_NUMBERS = 1_000

_ESCAPED = re.compile(rb"\\#([0-3][0-7]{2})")
_RSYNC_TEMPORARY = re.compile(rb"\A\..+\.[A-Za-z0-9]{6}\Z", re.DOTALL)


def display(name: bytes) -> str:
    r"""Given a name, return one line of printable text: `\n`, `\xff` and the like are spelled out."""
    text = name.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def json_name(name: bytes) -> dict[str, str]:
    """Given a name, return its JSON fields: `name` for people, `name_hex` as well where text loses bytes."""
    text = display(name)
    if text.encode() == name:
        return {"name": text}
    return {"name": text, "name_hex": name.hex()}


def from_rsync(text: bytes) -> bytes:
    r"""Given a name as rsync prints it with --8-bit-output, return the name: `\#012` is one byte."""
    if b"\\#" not in text:
        return text
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), text)


def parent(name: bytes) -> bytes:
    """Given a relative name, return the name of its directory; empty for a top-level name."""
    return name.rpartition(b"/")[0]


def base(name: bytes) -> bytes:
    """Given a relative name, return its last part."""
    return name.rpartition(b"/")[2]


def zip_names(directory: bytes, *, numbered: bool) -> Iterator[bytes]:
    """Given a directory unit's name, yield `NAME.zip` and, if `numbered`, `NAME.1.zip` and so on, if they fit."""
    for number in range(_MOST_NUMBERS if numbered else 1):
        name = directory + (b".%d" % number if number else b"") + ZIP
        if len(name) <= LONGEST_NAME:
            yield name


def is_ours(name: bytes) -> bool:
    """Given a relative name, tell whether one of its parts carries our mark."""
    return name.startswith(MARK) or b"/" + MARK in name


def looks_like_rsync_temporary(last: bytes) -> bool:
    """Given the last part of a name, tell whether it has the form of an rsync temporary (`.NAME.XXXXXX`)."""
    return _RSYNC_TEMPORARY.match(last) is not None

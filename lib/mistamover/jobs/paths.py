"""Paths of jobs: what clients write, cleaned; pure, and never looked at on any disk.

A clean path is relative to its endpoint's base, with `/` between its parts; it has no `.` and no `..`, no empty part
and no zero byte.  Control characters may stand in names, as they may on a disk, never in what is said about them.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from urllib.parse import quote, unquote_to_bytes

from mistamover.errors import JobRefused
from mistamover.files.names import LONGEST_NAME, MARK, display

#: Characters that let a name stand for several.
WILDCARDS = frozenset("*?[")

#: Bytes of a whole path; see PATH_MAX in limits.h.
_LONGEST = 4000

#: A slash that is not to be taken for one: what looks at the URL and what opens the file must see the same parts.
_HIDDEN = re.compile(r"%2[fF]|%00")


def cleaned(path: str, base: str = "", *, empty: bool = False) -> str:
    """Given a path as a client wrote it, and the base of its endpoint, return it clean.

    An absolute one must lie inside the base.  The base itself (an empty result) is refused unless `empty`.  A slash at
    the end is dropped.  Raise JobRefused (`bad-path`).
    """
    if "\0" in path:
        raise _bad(path, "it holds a zero byte")
    if len(os.fsencode(path)) > _LONGEST:
        raise _bad(path[:80], f"it has more than {_LONGEST} bytes")
    inside = _relative(path, base) if path.startswith("/") else path
    parts = inside.removesuffix("/").split("/")
    if parts == [""]:
        parts = []
    parts = [part for part in parts if part != "."]
    if not parts and not empty:
        raise _bad(path, "it names nothing inside the endpoint")
    for part in parts:
        if part == "..":
            raise _bad(path, "`..` is not allowed")
        if not part:
            raise _bad(path, "a part of it is empty")
        if len(os.fsencode(part)) > LONGEST_NAME:
            raise _bad(path[:80], f"a part of it has more than {LONGEST_NAME} bytes")
        if os.fsencode(part).startswith(MARK):
            raise _bad(path, f"names that begin with {MARK.decode()} are ours")
    return "/".join(parts)


def decoded(written: str) -> str:
    """Given the path of a URL, return it with its percent signs resolved.

    Raise JobRefused (`bad-path`) where these hide a slash or a zero byte.
    """
    if _HIDDEN.search(written):
        raise _bad(written, "a slash or a zero byte is written with %")
    return os.fsdecode(unquote_to_bytes(written))


def encoded(path: str) -> str:
    """Given a path, return it as it stands in a URL."""
    return quote(os.fsencode(path))


def joined(directory: str, name: str) -> str:
    """Given a clean path (empty: the base) and what is below it, return both as one."""
    return f"{directory}/{name}" if directory else name


def base_name(path: str) -> str:
    """Given a clean path, return its last part."""
    return path.rpartition("/")[2]


def parent(path: str) -> str:
    """Given a clean path, return that of its directory; empty for the base."""
    return path.rpartition("/")[0]


def is_inside(path: str, directory: str) -> bool:
    """Given two clean paths, tell whether the first is the second, or below it."""
    return not directory or path == directory or path.startswith(f"{directory}/")


def has_wildcards(path: str) -> bool:
    """Given a clean path, tell whether it may stand for several names."""
    return bool(WILDCARDS.intersection(path))


def matches(names: Sequence[str], pattern: str) -> list[str]:
    """Given names and a pattern of one part, return those that it stands for, dot-names only if it says so."""
    hidden = pattern.startswith(".")
    return sorted(name for name in names if fnmatch.fnmatchcase(name, pattern) and (hidden or not name.startswith(".")))


def shown(path: str) -> str:
    """Given a path, return it as one printable line."""
    return display(os.fsencode(path))


def file_name(text: str) -> str:
    """Given what a server calls a file, return a name that is safe here; empty if nothing is left of it.

    Only the last part counts, whoever's slashes they are; what cannot be printed goes, and so does a dot in front.
    """
    last = re.split(r"[/\\]", text)[-1]
    # Blanks and dots go together: a dot behind a blank would be in front once that is gone.
    name = "".join(character for character in last if character.isprintable()).rstrip().lstrip(". ")
    while len(os.fsencode(name)) > LONGEST_NAME:
        name = name[1:].lstrip(". ")
    return name


def _relative(path: str, base: str) -> str:
    top = [part for part in base.split("/") if part] if base.startswith("/") else None
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if top is None or parts[: len(top)] != top:
        raise _bad(path, "it is absolute, and not inside the base of its endpoint")
    return "/".join(parts[len(top) :]) + ("/" if path.endswith("/") else "")


def _bad(path: str, why: str) -> JobRefused:
    return JobRefused("bad-path", f"the path {shown(path)!r} cannot be taken: {why}")

"""The types of schema.ini: each turns the text of a value into a Python value, or says what was expected.

The functions are registered with configobj's Validator.  They see one value at a
time and touch no file.  This module never imports other modules of this room.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

from configobj.validate import ValidateError

NOTES = ("required", "otherwise", "new", "scope")
"""Arguments of a type in schema.ini that describe the key and do not check its value."""

_TRUE = frozenset(("true", "yes", "on", "1"))
_FALSE = frozenset(("false", "no", "off", "0"))
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,3}))?\s*([smhd]?)", re.IGNORECASE)
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*(?:([kKMGTP])?(iB|B|b))?")
_WORD = re.compile(r"""[\s,]*(?:"([^"]*)"|'([^']*)'|([^\s,"'][^\s,]*))(?=[\s,]|$)""")
_NO_WORD = re.compile(r"[\s,]*")
_BANDWIDTH = re.compile(r"[0-9]+(?:\.[0-9]+)?[kKmMgG]?")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|\[?[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?\]?")


class CheckError(ValidateError):
    """A value that does not fit its type; `what` reads on after the quoted value."""

    def __init__(self, what: str, expected: str, hint: str = "") -> None:
        super().__init__(f"{what}, expected {expected}")
        self.what = what
        self.expected = expected
        self.hint = hint


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Given a word and the words that would be right, return a question naming the nearest, or ""."""
    near = nearest(word, known)
    return f'did you mean "{near}"?' if near else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """Given a word and the words that would be right, return the one most like it, or "" if none is."""
    spelled = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(word.lower(), list(spelled), n=1)
    return spelled[near[0]] if near else ""


def text(value: str) -> str:
    """Given any text, return it."""
    return value


def boolean(value: str) -> bool:
    """Given a word for true or false, return which. Raise CheckError for another word."""
    word = value.lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise CheckError("is neither true nor false", "True or False")


def replaced(value: str, instead: str, kind: str = "text") -> str | Path:
    """Given the value of a key that something else has replaced, return it, as a path if it is still read as one."""
    return path(value) if kind == "path" else value


def integer(value: str, min: str | None = None, max: str | None = None) -> int:
    """Given a whole number within the bounds, return it. Raise CheckError otherwise."""
    expected = "a whole number" + _bounds(min, max)
    # The length is bounded because int() refuses very long texts with an error of its own.
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", value):
        raise CheckError("is not a whole number", expected)
    return int(_within(int(value), min, max, expected))


def number(value: str, min: str | None = None, max: str | None = None) -> float:
    """Given a finite number within the bounds, return it. Raise CheckError otherwise."""
    expected = "a number" + _bounds(min, max)
    try:
        amount = float(value)
    except ValueError:
        raise CheckError("is not a number", expected) from None
    if not math.isfinite(amount) or "_" in value:
        raise CheckError("is not a number", expected)
    return _within(amount, min, max, expected)


def seconds(value: str, min: str = "0") -> float:
    """Given a time in seconds, or with a unit, return seconds. Raise CheckError otherwise."""
    return _duration(value, "s", float(min), f"seconds{_bounds(min, None)}, or a number with s, m, h or d such as 5m")


def days(value: str) -> float:
    """Given a time in days, or with a unit, return seconds. Raise CheckError otherwise."""
    return _duration(value, "d", 0.0, "days, 0 or more, or a number with s, m, h or d such as 12h")


def size(value: str) -> int:
    """Given a number of bytes, alone or with a unit, return it. Raise CheckError otherwise.

    The units are those of the data cart: KB, MB, GB and TB count by 1000, Kb, Mb, Gb and Tb by 1024, as KiB and so on.
    """
    expected = "bytes, or a number with KB, MB, GB or TB (by 1000) or KiB, MiB, GiB or TiB (by 1024)"
    match = _SIZE.fullmatch(value)
    if match is None:
        raise CheckError("is not a size", expected)
    amount, prefix, unit = match.groups()
    base = 1024 if unit in ("iB", "b") and prefix else 1000
    return int(Decimal(amount) * base ** (" kmgtp".index(prefix.lower()) if prefix else 0))


def words(value: str) -> tuple[str, ...]:
    """Given words separated by blanks or commas, or in quotes, return them. Raise CheckError for an open quote."""
    found: list[str] = []
    position = 0
    while not _NO_WORD.fullmatch(value, position):
        match = _WORD.match(value, position)
        if match is None:
            raise CheckError("has a quote that does not enclose a whole word", "words separated by blanks or commas")
        found.append(next(group for group in match.groups() if group is not None))
        position = match.end()
    return tuple(found)


def choice(value: str, *names: str) -> str:
    """Given one of the names in any case, return it as the schema spells it. Raise CheckError otherwise."""
    for name in names:
        if name.lower() == value.lower():
            return name
    raise CheckError("is not known", f"one of {', '.join(names)}", did_you_mean(value, names))


def path(value: str) -> Path:
    """Given a local path, return it with ~ expanded; it may still be relative. Raise CheckError if ~ names nobody."""
    try:
        return Path(value).expanduser()
    except RuntimeError:
        raise CheckError("begins with ~ but names no user of this host", "a path") from None


def filename(value: str) -> str:
    """Given a name without a directory, return it. Raise CheckError otherwise."""
    if "/" in value or value in (".", "..") or len(value.encode()) > 255:
        raise CheckError("is not the name of a file", "a name of at most 255 bytes, without a directory")
    return value


def host(value: str) -> str:
    """Given a host name or address, return it. Raise CheckError for what ssh could take for something else."""
    if _HOST.fullmatch(value):
        return value
    if "@" in value:
        hint = "a login name goes into the key username"
    elif re.fullmatch(r"[^:]+:[0-9]+", value):
        hint = "a port goes into the key port"
    else:
        hint = ""
    raise CheckError("is not a host", "a host name or an address", hint)


def address(value: str) -> str:
    """Given a host, or host:port, return it; `split_address` takes it apart. Raise CheckError as `host` does."""
    host(split_address(value)[0])
    return value


def split_address(value: str) -> tuple[str, int | None]:
    """Given a host, or host:port, return both; a host that is an IPv6 address needs brackets for a port."""
    match = re.fullmatch(r"([^:]+|\[[^]]+\]):([0-9]{1,5})", value)
    return (match[1], int(match[2])) if match else (value, None)


def login(value: str) -> str:
    """Given a login name, return it. Raise CheckError for what a program could take for something else."""
    if value.startswith("-") or re.search(r"[\s:/]", value):
        raise CheckError("is not a login name", "a name without blanks, colons and slashes")
    return value


def command(value: str) -> tuple[str, ...]:
    """Given a command line, return its words; no shell ever sees it. Raise CheckError for an open quote."""
    try:
        return tuple(shlex.split(value))
    except ValueError:
        raise CheckError("has an open quote", "a command with its quotes in pairs") from None


def bandwidth(value: str) -> str:
    """Given a rate as rsync's --bwlimit takes it, return it. Raise CheckError otherwise."""
    if not _BANDWIDTH.fullmatch(value):
        raise CheckError("is not a rate", "KiB per second, or a number with K, M or G such as 2.5M")
    return value


_TYPES: tuple[Callable[..., Any], ...] = (
    text, boolean, replaced, integer, number, seconds, days, size, words, choice, path, filename, host, address, login,
    command, bandwidth,
)  # fmt: skip
NAMES = tuple(function.__name__ for function in _TYPES)


def functions() -> list[tuple[str, Callable[..., Any]]]:
    """Return the name and the function of each type, ready for a Validator: the notes of the schema are left out."""
    return [(function.__name__, _noteless(function)) for function in _TYPES]


def _noteless(function: Callable[..., Any]) -> Callable[..., Any]:
    def check(value: str, *args: str, **kwargs: str) -> Any:
        return function(value, *args, **{name: kwargs[name] for name in kwargs if name not in NOTES})

    return check


def _duration(value: str, unit: str, least: float, expected: str) -> float:
    match = _DURATION.fullmatch(value)
    if match is None:
        raise CheckError("is not a time", expected)
    mantissa, exponent, suffix = match.groups()
    amount = float(f"{mantissa}e{exponent or 0}") * _UNITS[suffix.lower() or unit]
    if not math.isfinite(amount) or amount < least:
        raise CheckError("is out of range", expected)
    return amount


def _within(amount: float, least: str | None, most: str | None, expected: str) -> float:
    if (least is not None and amount < float(least)) or (most is not None and amount > float(most)):
        raise CheckError("is out of range", expected)
    return amount


def _bounds(least: str | None, most: str | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    return f", {least} or more" if least is not None else ""

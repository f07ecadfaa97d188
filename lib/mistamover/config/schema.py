"""The list of all keys, read once from schema.ini: the spec that checks values, and what is known of each key.

Nothing here reads an operator's file.  This module imports only `check` of this room.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistamover.config import check

if TYPE_CHECKING:
    from configobj import ConfigObj

STREAM_SECTIONS = ("data_stream", "outgoing", "rsync_ssh", "global")
"""The sections that a misplaced key of a stream is looked for in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What schema.ini says about one key."""

    section: str
    key: str
    type: str
    arguments: tuple[str, ...]
    """The names of a choice, or the text of a replaced key."""
    bounds: tuple[tuple[str, str], ...]
    default: str | None
    """As written in the schema; it may hold references to other keys."""
    help: str
    required: str
    """When the key must be set; "" if never."""
    otherwise: str
    new: bool
    service: bool
    """Only the global file's value counts."""

    @property
    def replaced(self) -> str:
        """What took the key's place, or ""."""
        return self.arguments[0] if self.type == "replaced" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of schema.ini with its options in order."""

    name: str
    help: str
    options: tuple[Option, ...]


@functools.cache
def spec() -> ConfigObj:
    """Return schema.ini as a configobj configspec."""
    from configobj import ConfigObj

    lines = Path(__file__).with_name("schema.ini").read_text("utf-8").splitlines()
    return ConfigObj(lines, interpolation=False, list_values=False, raise_errors=True, _inspec=True)


@functools.cache
def sections() -> tuple[Section, ...]:
    """Return everything that schema.ini says, in its order."""
    tree = spec()
    return tuple(
        Section(
            name=name,
            # What stands above the first section is the head of the file to configobj.
            help=_help(tree.comments[name] or tree.initial_comment),
            options=tuple(_option(name, key, tree[name][key], tree[name].comments[key]) for key in tree[name].scalars),
        )
        for name in tree.sections
    )


@functools.cache
def options() -> tuple[Option, ...]:
    """Return all options in the order of schema.ini."""
    return tuple(option for section in sections() for option in section.options)


@functools.cache
def find(section: str, key: str) -> Option | None:
    """Given a section and a key, return what is known of it, or None if there is no such key."""
    return next((option for option in options() if option.section == section and option.key == key), None)


@functools.cache
def keys(section: str) -> tuple[str, ...]:
    """Given a section, return its keys; none if there is no such section."""
    return tuple(option.key for option in options() if option.section == section)


@functools.cache
def word_keys() -> frozenset[str]:
    """Return the keys whose quotes belong to the words of the value and not to the INI syntax."""
    return frozenset(option.key for option in options() if option.type == "words")


def is_secret(key: str) -> bool:
    """Given a key, return whether its value may appear in no message."""
    return key == "password"


def home_of(key: str, *, new: bool) -> str:
    """Given a key, return the only section of a stream that has it (as one of our own, if `new`), or ""."""
    homes = [
        option.section
        for option in options()
        if option.key == key and option.section in STREAM_SECTIONS and (option.new or not new)
    ]
    return homes[0] if len(homes) == 1 else ""


def _help(comments: list[str]) -> str:
    """Given the comments above an entry, return the text of those directly above it."""
    lines: list[str] = []
    for comment in reversed(comments):
        if not comment.strip():
            break
        lines.append(comment.strip().removeprefix("#").strip())
    return " ".join(reversed(lines))


def _option(section: str, key: str, described: str, comments: list[str]) -> Option:
    from configobj.validate import Validator

    # configobj's own parser takes the description apart: each type, asked for any value, returns its arguments.
    parser = Validator({name: _describe(name) for name in check.NAMES})
    type_, arguments, named = parser.check(described, "")
    default = parser.get_default_value(described)
    return Option(
        section=section,
        key=key,
        type=type_,
        arguments=arguments,
        bounds=tuple((name, value) for name, value in named.items() if name not in (*check.NOTES, "value")),
        default=None if default is None else default[2]["value"],
        help=_help(comments),
        required=named.get("required", ""),
        otherwise=named.get("otherwise", ""),
        new="new" in named,
        service=named.get("scope") == "service",
    )


def _describe(name: str) -> Callable[..., Any]:
    return lambda value, *arguments, **named: (name, arguments, {**named, "value": value})

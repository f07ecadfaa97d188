"""One INI file of the dialect in use since MiStaMover 0.9, read into a ConfigObj with the line of every value.

The dialect is that of Python 2's ConfigParser, which configobj's own line parser
does not speak (`key: value`, `;` comments, continuation lines, repeated sections).
Two parsers that disagree about a line would be worse than one, so the lines are
understood here and configobj is given the tree.  No problem ends the reading: all
are collected.  A message never repeats the text of a line that was not understood,
because it may be a password.  Never imports `load` or what checks values.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistamover.config.expand import Entry, Place
from mistamover.errors import Problem

if TYPE_CHECKING:
    from configobj import ConfigObj

LARGEST_FILE = 1024 * 1024
LONGEST_LINE = 16 * 1024

_KEY = re.compile(r"([^\s:=\[][^:=]*)[:=](.*)", re.DOTALL)
_PLAIN_KEY = re.compile(r"[A-Za-z_][\w.-]*\s*[:=]")
_COMMENT = re.compile(r"\s[#;]")
_QUOTED = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)')\s*(?:\s[#;].*)?""")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")
_EVAL = "{{eval:"


@dataclass(frozen=True, slots=True, kw_only=True)
class IniFile:
    """What one file says, and what is wrong with how it says it."""

    path: Path
    config: ConfigObj
    origins: dict[tuple[str, str], int]
    """The line of each (section, key); of each section under the key ""."""
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    exposed: bool
    """Whether group or others may read the file."""
    readable: bool
    """Whether there was a content to take apart; if not, the only problem says why."""

    def entries(self) -> tuple[Entry, ...]:
        """Return the values of all sections of the first level, with their places."""
        return tuple(
            Entry(
                place=Place(section, key),
                text=self.config[section][key],
                file=str(self.path),
                line=self.origins[section, key],
            )
            for section in self.config.sections
            for key in self.config[section].scalars
        )


def read(path: Path, *, word_keys: Collection[str] = (), draft: bytes | None = None) -> IniFile:
    """Given a file and the keys whose values are lists of words, return its content.

    Quotes round a whole value are taken off, except for word_keys, where they hold a word together.
    A draft is what the file is going to hold: it is read in its place.
    """
    parser = _Parser(path, word_keys)
    exposed = False
    if draft is not None:
        parser.parse(draft)
        return parser.result(exposed)
    try:
        # Without O_NONBLOCK the opening of a FIFO would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                parser.complain(None, "is not a regular file, expected an INI file", "name another file")
            else:
                exposed = bool(status.st_mode & (stat.S_IRGRP | stat.S_IROTH))
                parser.parse(file.read(LARGEST_FILE + 1))
    except FileNotFoundError:
        parser.complain(None, "does not exist, expected an INI file", "create it or name another file")
    except PermissionError:
        hint = f"run as a user who may read it, now user id {os.geteuid()}, or change its owner or mode"
        parser.complain(None, "cannot be read: permission denied", hint)
    except OSError as error:
        parser.complain(None, f"cannot be read: {error.strerror}", "name a readable file")
    return parser.result(exposed)


class _Parser:
    """The state of the reading of one file: where the next key belongs, and what may be continued."""

    def __init__(self, path: Path, word_keys: Collection[str]) -> None:
        self.path = path
        self.word_keys = word_keys
        self.tree: dict[str, Any] = {}
        self.origins: dict[tuple[str, str], int] = {}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.trail: list[str] = []
        self.skipping = False
        self.last_key = ""
        self.indent = 0
        self.readable = False

    def complain(self, line: int | None, message: str, hint: str = "", key: str = "", *, warning: bool = False) -> None:
        section = "/".join(self.trail)
        problem = Problem(file=str(self.path), line=line, section=section, key=key, message=message, hint=hint)
        (self.warnings if warning else self.problems).append(problem)

    def result(self, exposed: bool) -> IniFile:
        from configobj import ConfigObj

        return IniFile(
            path=self.path,
            config=ConfigObj(self.tree, interpolation=False, list_values=False),
            origins=self.origins,
            problems=tuple(self.problems),
            warnings=tuple(self.warnings),
            exposed=exposed,
            readable=self.readable,
        )

    def parse(self, content: bytes) -> None:
        if len(content) > LARGEST_FILE:
            expected = f"expected at most {LARGEST_FILE // 1024} KiB"
            self.complain(None, f"is too large for a configuration file, {expected}", "is this the right file?")
            return
        self.readable = True
        for number, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
            self.line(number, raw.removesuffix(b"\r"))

    def line(self, number: int, raw: bytes) -> None:
        if len(raw) > LONGEST_LINE:
            self.complain(number, f"the line is too long, expected at most {LONGEST_LINE // 1024} KiB", "shorten it")
            return
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            self.complain(
                number, "the line holds bytes that are not UTF-8, expected UTF-8 text", "save the file as UTF-8"
            )
            return
        if _CONTROL.search(text):
            self.complain(number, "the line holds a control character, expected plain text", "remove it")
            return
        stripped = text.strip()
        if not stripped or stripped[0] in "#;":
            return
        indent = len(text) - len(text.lstrip())
        if stripped[0] == "[":
            self.header(number, stripped)
        elif self.last_key and indent > self.indent and not _PLAIN_KEY.match(stripped):
            self.continuation(number, text)
        else:
            self.indent = indent
            self.key_line(number, stripped)

    def header(self, number: int, text: str) -> None:
        self.last_key = ""
        comment = _COMMENT.search(text)
        header = text[: comment.start()].rstrip() if comment else text
        depth = len(header) - len(header.lstrip("["))
        name = header[depth:-depth].strip()
        if header[-depth:] != "]" * depth or not name or set(name) & set("[]"):
            self.skip(
                number, "a section begins with a [ that is not closed properly, expected [name] alone on the line"
            )
            return
        if depth > len(self.trail) + 1 or (depth > 1 and self.skipping):
            self.skip(number, "a subsection stands below no section, expected a [section] above it")
            return
        self.trail = [*self.trail[: depth - 1], name]
        self.skipping = False
        parent = self.branch(self.trail[:-1])
        if not isinstance(parent.setdefault(name, {}), dict):
            self.skip(number, "a subsection has the name of a key of its section, expected another name")
            return
        self.origins.setdefault(("/".join(self.trail), ""), number)

    def skip(self, number: int, message: str) -> None:
        # Keys below a broken header belong to nobody: to give them to the section above would raise false problems.
        self.complain(number, message, "the keys below it are not read until it is corrected")
        self.skipping = True

    def branch(self, trail: list[str]) -> dict[str, Any]:
        branch = self.tree
        for name in trail:
            branch = branch[name]
        return branch

    def key_line(self, number: int, text: str) -> None:
        self.last_key = ""
        match = _KEY.fullmatch(text)
        if match is None:
            self.complain(number, "the line is not understood, expected key = value, [section] or a comment")
            return
        if self.skipping:
            return
        key = match[1].strip().lower()
        if not self.trail:
            self.complain(number, "stands above the first section, expected a [section] before it", key=key)
            return
        section, branch = "/".join(self.trail), self.branch(self.trail)
        if isinstance(branch.get(key), dict):
            self.complain(number, "has the name of a subsection, expected another name", key=key)
            return
        if key in branch:
            first = self.origins[section, key]
            self.complain(
                number, f"is set twice, in lines {first} and {number}; line {number} counts", key=key, warning=True
            )
        self.last_key = key
        self.origins[section, key] = number
        branch[key] = self.value(number, key, match[2])

    def continuation(self, number: int, text: str) -> None:
        branch = self.branch(self.trail)
        joined = (branch[self.last_key], self.value(number, self.last_key, text))
        value = " ".join(part for part in joined if part)
        if len(value) > LONGEST_LINE:
            expected = f"expected at most {LONGEST_LINE // 1024} KiB"
            self.complain(number, f"is too long with its continuation lines, {expected}", "shorten it", self.last_key)
            self.last_key = ""
            return
        branch[self.last_key] = value

    def value(self, number: int, key: str, text: str) -> str:
        """Given what stands behind the separator, return it without comment and quotes."""
        quoted = _QUOTED.fullmatch(text)
        if quoted is not None:
            comment = _COMMENT.search(text, max(quoted.end(1), quoted.end(2)))
            value = text[: comment.start()].strip() if comment else text.strip()
            value = value if key in self.word_keys else value[1:-1]
        else:
            comment = _COMMENT.search(text)
            value = text[: comment.start()].strip() if comment else text.strip()
        if _EVAL in value:
            message = "holds {{eval:...}}; Python in configuration is not evaluated, expected a plain value"
            self.complain(number, message, "write the value itself", key)
        return value

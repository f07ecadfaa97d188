"""The values in force for the service or for one stream: expanded, checked by configobj, each still knowing its origin.

Never imports what builds settings from them.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from configobj import ConfigObj, flatten_errors
from configobj.validate import Validator

from mistamover.config import check, schema
from mistamover.config.expand import DEFAULTS, Context, Entry, ExpandError, Place
from mistamover.config.report import Report
from mistamover.errors import Problem

_LONGEST_SHOWN = 80


class Values:
    """Given a context, the typed value of every key of the schema; all that is wrong goes to the report.

    A value that cannot be used counts as not set, so that what depends on others can still be checked.
    """

    def __init__(self, context: Context, *, file: Path, base: Path, report: Report, stream: str = "") -> None:
        self.context = context
        self.file = file
        self.base = base
        self.report = report
        self._stream = stream
        self._failed: set[Place] = set()
        self._checked = self._check(self._expand())

    def text(self, section: str, key: str) -> str | None:
        """Return the value of a key of text, or None."""
        value: str | None = self._checked[section][key]
        return value

    def flag(self, section: str, key: str) -> bool:
        """Return the value of a switch."""
        return bool(self._checked[section][key])

    def whole(self, section: str, key: str) -> int | None:
        """Return the value of a whole number, or None."""
        value: int | None = self._checked[section][key]
        return value

    def amount(self, section: str, key: str) -> float:
        """Return the value of a number or time that has a default."""
        return float(self._checked[section][key])

    def words(self, section: str, key: str) -> tuple[str, ...]:
        """Return the words of a value."""
        value: tuple[str, ...] | None = self._checked[section][key]
        return value or ()

    def path(self, section: str, key: str) -> Path | None:
        """Return the value of a path, absolute, or None.  A relative one is relative to the global file's directory."""
        value: Path | None = self._checked[section][key]
        return self.base / value if value is not None else None

    def is_set(self, section: str, key: str) -> bool:
        """Return whether a file or the environment gave the key a value, be it a good one or not."""
        entry = self.context.entry(Place(section, key))
        return entry is not None and entry.is_set

    def has(self, section: str, key: str) -> bool:
        """Return whether the key has a usable value, its default included."""
        return self._checked[section][key] is not None

    def problem(self, section: str, key: str, message: str, hint: str = "") -> None:
        """Given what is wrong with the value of a key, report it where the value is written."""
        self.report.problem(self.finding(section, key, message, hint), self._stream)

    def warn(self, section: str, key: str, message: str, hint: str = "") -> None:
        """Given what the operator should know about the value of a key, report it where the value is written."""
        self.report.warn(self.finding(section, key, message, hint))

    def finding(self, section: str, key: str, message: str, hint: str = "") -> Problem:
        """Given words about the value of a key, return them with the place where it is written, or should be."""
        entry = self.context.entry(Place(section, key))
        if entry is not None:
            return entry.problem(message, hint)
        return Problem(file=str(self.file), line=None, section=section, key=key, message=message, hint=hint)

    def require(self, section: str, key: str, expected: str) -> None:
        """Given a key that must be set, report it if it is not; a value already reported does not count as missing."""
        if self._checked[section][key] is None and Place(section, key) not in self._failed:
            self.problem(section, key, f"is not set, expected {expected}", f"add {key} = ... to [{section}]")

    def _expand(self) -> dict[str, dict[str, str]]:
        texts: dict[str, dict[str, str]] = {section.name: {} for section in schema.sections()}
        for option in schema.options():
            if option.service and self._stream:
                continue
            place = Place(option.section, option.key)
            entry = self.context.entry(place)
            default = self.context.default(place)
            # configobj knows the plain defaults itself; those that refer to other keys are filled in here.
            if (
                not (entry and entry.is_set)
                and (default is None or default == option.default)
                and "$(" not in str(default)
            ):
                continue
            try:
                text = self.context.expanded(place)
            except ExpandError as error:
                self._failed.add(place)
                self.report.problem(error.problem, self._stream)
                continue
            if text is not None:
                texts[option.section][option.key] = text
        return texts

    def _check(self, texts: dict[str, dict[str, str]]) -> ConfigObj:
        def checked() -> tuple[ConfigObj, bool | dict[str, Any]]:
            config = ConfigObj(texts, configspec=schema.spec(), interpolation=False, list_values=False)
            return config, config.validate(_validator(), preserve_errors=True)

        config, outcome = checked()
        if outcome is not True:
            for (section, *_), key, error in flatten_errors(config, outcome):
                if key is not None and isinstance(error, check.CheckError):
                    self._complain(Place(section, key), texts[section].pop(key), error)
            config, outcome = checked()
        return config

    def _complain(self, place: Place, text: str, error: check.CheckError) -> None:
        self._failed.add(place)
        message = f"{self._shown(place, text)} {error.what}, expected {error.expected}"
        self.problem(place.section, place.key, message, error.hint)

    def _shown(self, place: Place, text: str) -> str:
        entry = self.context.entry(place)
        return quoted(entry.text if entry and self._holds_secret(text) else text)

    def _holds_secret(self, text: str) -> bool:
        for place in self.context.places():
            if schema.is_secret(place.key) and (secret := self._secret(place)) and secret in text:
                return True
        return False

    def _secret(self, place: Place) -> str | None:
        try:
            return self.context.expanded(place)
        except ExpandError:
            return None


def quoted(text: str) -> str:
    """Given any text, return it in quotes on one line, shortened if it is long."""
    shown = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."
    return '"' + "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown) + '"'


def defaults() -> list[Entry]:
    """Return the defaults of the schema as entries, for references to keys that nobody set."""
    return [
        Entry(place=Place(option.section, option.key), text=option.default, file=DEFAULTS, line=None)
        for option in schema.options()
        if option.default is not None
    ]


@functools.cache
def _validator() -> Validator:
    # One for all streams: it remembers how each line of the schema is taken apart.
    return Validator(dict(check.functions()))

"""Substitution: `$(section:key)` and `%(key)s` in values, without reading any file.

A Context answers for one file: a value that the global file wrote is expanded among
the global file's values, also when a stream inherits it.  This module imports
nothing of this room but `check` for the wording of a suggestion.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mistamover.config.check import nearest
from mistamover.errors import Problem

DEFAULT = "DEFAULT"
"""The section whose values every other section of the file can refer to."""

DEFAULTS = "the defaults"
"""Stands for the file of a value that nobody wrote."""

_REFERENCE = re.compile(r"\$\((?P<section>[A-Za-z0-9_-]+):(?P<key>[^()]*)\)|%\((?P<same>[^()]+)\)s")
_LONGEST = 65536
_DEEPEST = 50


class Place(NamedTuple):
    """A section and a key in it."""

    section: str
    key: str

    def __str__(self) -> str:
        return f"{self.section}:{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One value as it is written, and where."""

    place: Place
    text: str
    file: str
    line: int | None

    @property
    def is_set(self) -> bool:
        """Whether the value says anything; an empty one and None ask for the default."""
        return self.text not in ("", "None")

    def problem(self, message: str, hint: str = "") -> Problem:
        """Given what is wrong with the value, return it as a problem at the value's place."""
        return Problem(
            file=self.file,
            line=self.line,
            section=self.place.section,
            key=self.place.key,
            message=message,
            hint=hint,
        )


class ExpandError(Exception):
    """A reference that leads nowhere; `problem` names the value that holds it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Context:
    """The values in force for one file: its own, then those of the file it inherits from, then the defaults."""

    def __init__(
        self, entries: Iterable[Entry], *, defaults: Iterable[Entry] = (), inherits: Context | None = None
    ) -> None:
        self._own = {entry.place: entry for entry in entries}
        self._defaults = {entry.place: entry for entry in defaults}
        self._inherits = inherits
        self._done: dict[Entry, str | ExpandError] = {}

    def entry(self, place: Place) -> Entry | None:
        """Given a place, return the entry in force, or None if nobody wrote one.  It may ask for the default."""
        if place in self._own or self._inherits is None:
            return self._own.get(place)
        return self._inherits.entry(place)

    def own(self, place: Place) -> Entry | None:
        """Given a place, return what this file itself wrote there."""
        return self._own.get(place)

    def own_defaults(self) -> list[Entry]:
        """Return the defaults that are this file's and not inherited."""
        return list(self._defaults.values())

    def default(self, place: Place) -> str | None:
        """Given a place, return the text of its default, not expanded."""
        found = self._default(place)
        return found[0].text if found else None

    def places(self) -> list[Place]:
        """Return every place that has a value or a default here."""
        inherited = self._inherits.places() if self._inherits else []
        return list(dict.fromkeys((*self._own, *self._defaults, *inherited)))

    def expanded(self, place: Place) -> str | None:
        """Given a place, return its value with references replaced, or None. Raise ExpandError if one leads nowhere."""
        return self._expanded(place, ())

    def _default(self, place: Place) -> tuple[Entry, Context] | None:
        if place in self._defaults:
            return self._defaults[place], self
        return self._inherits._default(place) if self._inherits else None

    def _expanded(self, place: Place, trail: tuple[Entry, ...]) -> str | None:
        if place in self._own:
            entry, context = self._own[place], self
        elif self._inherits is not None and self._inherits.entry(place) is not None:
            return self._inherits._expanded(place, trail)
        else:
            return self._expanded_default(place, trail)
        if not entry.is_set:
            return self._expanded_default(place, trail)
        return context._replaced(entry, trail)

    def _expanded_default(self, place: Place, trail: tuple[Entry, ...]) -> str | None:
        found = self._default(place)
        return found[1]._replaced(found[0], trail) if found else None

    def _replaced(self, entry: Entry, trail: tuple[Entry, ...]) -> str:
        """Given an entry of this context, return its text with all references replaced, remembering the outcome."""
        known = self._done.get(entry)
        if known is None:
            try:
                known = self._replace(entry, trail)
            except ExpandError as error:
                known = error
            self._done[entry] = known
        if isinstance(known, ExpandError):
            raise known
        return known

    def _replace(self, entry: Entry, trail: tuple[Entry, ...]) -> str:
        if entry in trail:
            raise ExpandError(_circle(trail[trail.index(entry) :]))
        if len(trail) >= _DEEPEST:
            raise ExpandError(entry.problem(f"is more than {_DEEPEST} references deep", "write the value itself"))
        inner = (*trail, entry)
        value = ""
        position = 0
        for match in _REFERENCE.finditer(entry.text):
            value += entry.text[position : match.start()] + self._referred(entry, match, inner)
            position = match.end()
            if len(value) > _LONGEST:
                too_long = f"becomes longer than {_LONGEST} characters when its references are replaced"
                raise ExpandError(entry.problem(too_long, "write a shorter value"))
        return value + entry.text[position:]

    def _referred(self, entry: Entry, match: re.Match[str], trail: tuple[Entry, ...]) -> str:
        if match["same"] is not None:
            for section in (entry.place.section, DEFAULT):
                place = Place(section, match["same"].strip().lower())
                written = self.entry(place)
                if written is not None and written.is_set:
                    return self._expanded(place, trail) or ""
            return match[0]
        place = Place(match["section"], match["key"].strip().lower())
        value = self._expanded(place, trail)
        if value is None:
            message = f"refers to $({place}), which is not set, expected a key that has a value"
            raise ExpandError(entry.problem(message, self._hint(place, entry.place)))
        return value

    def _hint(self, missing: Place, holder: Place) -> str:
        known = [place for place in self.places() if place != holder and self._is_set(place)]
        section = nearest(missing.section, (place.section for place in known))
        key = nearest(missing.key, (place.key for place in known if place.section == section))
        return f'did you mean "{section}:{key}"?' if key else "set that key or correct the reference"

    def _is_set(self, place: Place) -> bool:
        written = self.entry(place)
        return (written is not None and written.is_set) or self._default(place) is not None


def _circle(entries: tuple[Entry, ...]) -> Problem:
    # Every member of the circle finds it; all must report the same one, so it is told from its first place on.
    # A default cannot be at fault: the value that refers to it is.
    first = min(range(len(entries)), key=lambda index: (entries[index].file == DEFAULTS, entries[index].place))
    chain = entries[first:] + entries[:first]
    told = " -> ".join(str(entry.place) for entry in (*chain, chain[0]))
    return chain[0].problem(f"refers to itself in a circle: {told}", "write one of these values without a reference")

"""The configuration that `mistamover init` is about to write, judged after each answer as if it were there already."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from mistamover.cli.init_files import Change, fresh, is_set, parsed, with_key, with_word
from mistamover.cli.init_questions import DIRECTORY, NAME
from mistamover.config import schema
from mistamover.config.expand import Place
from mistamover.config.load import load
from mistamover.config.settings import Settings, StreamSettings
from mistamover.errors import ConfigError, Problem, UsageError

_LIST = Place("global", "data_stream_list")
_DIRECTORIES = (Place("global", "data_stream_config_dir"), Place("global", "dataset_config_dir"))
_PATTERNS = ("ds_{}.ini", "dataset_{}.ini", "data_stream_{}.ini", "{}.ini")

#: Sections that speak of the service, even where a stream's file could override them.
_OF_ALL = ("global", "logging", "disk_space_monitor")


class Draft:
    """A global file and one more stream, as they will be."""

    def __init__(self, file: Path) -> None:
        """Given the global file, which need not exist, begin. Raise UsageError or ConfigError if it cannot be used."""
        self.file = Path(os.path.abspath(file.expanduser()))
        self._answers: dict[Place, str] = {}
        if self.file.exists() and not self.file.is_file():
            raise UsageError(f"{self.file} is not a file, expected the global configuration file")
        try:
            self._before: bytes | None = self.file.read_bytes()
        except FileNotFoundError:
            self._before = None
        except OSError as error:
            raise UsageError(f"{self.file} cannot be read: {error.strerror}") from error
        text = self._before or b""
        # A list counts as one even if it is empty.
        self._names_listed = _LIST in parsed(text).origins or not any(is_set(text, place) for place in _DIRECTORIES)
        # What is wrong already is to be mended first: nobody could tell what an answer changes.
        settings = load(self.file, {}, drafts={self.file: self._global()})
        self._there = tuple(stream.name for stream in settings.streams)
        self.streams_dir = settings.sources[1]

    @property
    def is_new(self) -> bool:
        """Whether there is no global file yet."""
        return self._before is None

    @property
    def name(self) -> str:
        """The stream's name; empty until it is given."""
        return self._answers.get(NAME, "")

    @property
    def stream_file(self) -> Path:
        """The file of the new stream."""
        return self.streams_dir / _PATTERNS[0].format(self.name)

    def given(self, place: Place) -> str | None:
        """Given a key, return what was answered."""
        return self._answers.get(place)

    def inherited(self, place: Place) -> str | None:
        """Given a key, return what the existing global file says of it, as it is written there."""
        if self._before is None:
            return None
        if place == DIRECTORY and is_set(self._before, Place("global", "base_data_dir")):
            return f"$(global:base_data_dir)/{self.name}"
        if place == Place("incoming", "directory") and is_set(self._before, Place("global", "base_incoming_dir")):
            return f"$(global:base_incoming_dir)/{self.name}"
        entry = is_set(self._before, place)
        return entry.text if entry else None

    def answer(self, place: Place, text: str) -> list[str]:
        """Given a key and an answer, take it; return in words what is wrong with it, and forget it then.

        An empty answer leaves the key out.
        """
        before = self._answers.copy()
        self._answers.pop(place, None)
        if text:
            self._answers[place] = text
        try:
            wrong = self._complaints(place)
        except UsageError as error:
            wrong = [str(error)]
        if wrong:
            self._answers = before
        return wrong

    def forget(self, places: Sequence[Place]) -> None:
        """Given keys, forget what was answered."""
        for place in places:
            self._answers.pop(place, None)

    def settings(self) -> Settings:
        """Return the whole configuration as it will be. Raise ConfigError with all that is wrong."""
        found = load(self.file, {}, drafts={change.path: change.after for change in self.changes()})
        missing = {*self._there, self.name} - {stream.name for stream in found.streams}
        if missing - {""}:
            # The list was written in a way that could not be edited.
            raise UsageError(f"{self.file}: add {self.name} to data_stream_list by hand")
        return found

    def stream(self) -> StreamSettings:
        """Return the settings of the new stream as they will be. Raise ConfigError."""
        stream = self.settings().stream(self.name)
        assert stream is not None
        return stream

    def changes(self) -> list[Change]:
        """Return what is to be done to the files: that of the stream first, as the global file names it."""
        changes = []
        if self.name:
            words = f"The stream {self.name} of MiStaMover."
            own = [answer for answer in self._answers.items() if not is_global(answer[0])]
            changes.append(Change(path=self.stream_file, before=None, after=fresh(words, own)))
        after = self._global()
        if after != self._before:
            changes.append(Change(path=self.file, before=self._before, after=after))
        return changes

    def lines(self) -> list[str]:
        """Return what was answered, for people; secrets are not shown."""
        shown = [
            (place, "(not shown)" if schema.is_secret(place.key) else text) for place, text in self._answers.items()
        ]
        return [f"[{place.section}] {place.key} = {text}" for place, text in shown]

    def _complaints(self, place: Place) -> list[str]:
        if place == NAME and (unusable := self._why_unusable()):
            return [unusable]
        try:
            self.settings()
        except ConfigError as error:
            # What is not asked yet, or belongs to another key, is told in its time.
            return [_words(problem) for problem in error.problems if self._concerns(problem, place)]
        return []

    def _concerns(self, problem: Problem, place: Place) -> bool:
        if place == NAME and (problem.section, problem.key) in (_LIST, *_DIRECTORIES):
            return True
        # Without a key it is the file that is wrong, and it was right before.
        return not problem.key or (problem.section, problem.key) == place

    def _why_unusable(self) -> str:
        if not self.name:
            return "is not set, expected the name of the stream"
        if self.name in self._there:
            return f'there is a stream "{self.name}" already, expected another name'
        for pattern in _PATTERNS if "/" not in self.name else ():
            path = self.streams_dir / pattern.format(self.name)
            if path.exists() and path != self.file:
                return f"{path} exists already, expected another name"
        return ""

    def _global(self) -> bytes:
        """Return the global file as it will be."""
        answers = [answer for answer in self._answers.items() if is_global(answer[0])]
        # Quotes hold a name together, so that it is judged as a whole.
        name = f'"{self.name}"' if re.search(r"[\s,]", self.name) else self.name
        if self._before is None:
            names = [(_LIST, name)]
            return fresh("The global file of MiStaMover: what the service as a whole needs.", [*names, *answers])
        text = self._before
        if self._names_listed:
            if name:
                text = with_word(text, _LIST, name)
            elif _LIST not in parsed(text).origins:
                # At the end, so that what is wrong is still told by its line. This text is judged and never written.
                text += b"\n[global]\ndata_stream_list =\n"
        for place, value in answers:
            text = with_key(text, place, value)
        return text


def is_global(place: Place) -> bool:
    """Given a key, tell whether it goes into the global file."""
    option = schema.find(*place)
    return option is not None and (option.service or place.section in _OF_ALL)


def _words(problem: Problem) -> str:
    return f"{problem.message} ({problem.hint})" if problem.hint else problem.message

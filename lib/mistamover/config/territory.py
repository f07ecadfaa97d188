"""No two streams in one directory, and none of the service's own files where a stream would send them away.

What comes in counts as well: two arrival monitors in one directory would each take what is meant for the other.

Compares resolved paths; never opens a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mistamover.config.settings import StreamSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarrel:
    """Why a stream cannot have one of its directories."""

    section: str
    """Of the key `directory` that says so."""
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """A directory that a stream has, or wants to have."""

    directory: Path
    section: str
    what: str
    stream: StreamSettings

    @property
    def of_whom(self) -> str:
        return f'{self.what} of the stream "{self.stream.name}" ({self.stream.file})'


class Territory:
    """The directories that are taken so far, each with the stream that has it."""

    def __init__(self) -> None:
        self._owners: dict[Path, _Claim] = {}
        self._above: dict[Path, _Claim] = {}

    def quarrel(self, stream: StreamSettings) -> Quarrel | None:
        """Given a stream, return why it cannot have its directories beside those that are taken, or None."""
        for claim in _claims(stream):
            words = self._words(claim)
            if words:
                return Quarrel(section=claim.section, words=words)
        return None

    def take(self, stream: StreamSettings) -> None:
        """Given a stream without a quarrel, give it its directories."""
        for claim in _claims(stream):
            wanted = _real(claim.directory)
            self._owners[wanted] = claim
            for parent in wanted.parents:
                self._above.setdefault(parent, claim)

    def _words(self, claim: _Claim) -> str:
        wanted, directory = _real(claim.directory), claim.directory
        if wanted in self._owners:
            return f"{directory} is also {self._owners[wanted].of_whom}"
        for parent in wanted.parents:
            if parent in self._owners:
                owner = self._owners[parent]
                return f"{directory} lies inside {owner.directory}, {owner.of_whom}"
        if wanted in self._above:
            inner = self._above[wanted]
            return f"{directory} holds {inner.directory}, {inner.of_whom}"
        return ""


def _claims(stream: StreamSettings) -> list[_Claim]:
    claims = [_Claim(directory=stream.directory, section="data_stream", what="the directory", stream=stream)]
    if stream.monitor is not None:
        what = "the incoming directory"
        claims.append(_Claim(directory=stream.monitor.directory, section="incoming", what=what, stream=stream))
    return claims


def inside(directory: Path, paths: Iterable[tuple[str, Path]]) -> str:
    """Given a stream's directory and named paths, return which of them the stream would send away, or ""."""
    watched = _real(directory)
    for what, path in paths:
        if _real(path).is_relative_to(watched):
            return f"{directory} holds {what} {path}, which would be sent away with the data"
    return ""


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))

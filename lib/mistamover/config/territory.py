"""No two streams in one directory, and none of the service's own files where a stream would send them away.

Compares resolved paths; never opens a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from mistamover.config.settings import StreamSettings


class Territory:
    """The directories that are taken so far, each with the stream that has it."""

    def __init__(self) -> None:
        self._owners: dict[Path, StreamSettings] = {}
        self._above: dict[Path, StreamSettings] = {}

    def quarrel(self, stream: StreamSettings) -> str:
        """Given a stream, return why it cannot have its directory beside those that are taken, or ""."""
        wanted = _real(stream.directory)
        if wanted in self._owners:
            return f'{stream.directory} is also the directory of the stream "{self._owners[wanted].name}"'
        for parent in wanted.parents:
            if parent in self._owners:
                owner = self._owners[parent]
                return f'{stream.directory} lies inside {owner.directory}, the directory of the stream "{owner.name}"'
        if wanted in self._above:
            inner = self._above[wanted]
            return f'{stream.directory} holds {inner.directory}, the directory of the stream "{inner.name}"'
        return ""

    def take(self, stream: StreamSettings) -> None:
        """Given a stream without a quarrel, give it its directory."""
        wanted = _real(stream.directory)
        self._owners[wanted] = stream
        for parent in wanted.parents:
            self._above.setdefault(parent, stream)


def inside(directory: Path, paths: Iterable[tuple[str, Path]]) -> str:
    """Given a stream's directory and named paths, return which of them the stream would send away, or ""."""
    watched = _real(directory)
    for what, path in paths:
        if _real(path).is_relative_to(watched):
            return f"{directory} holds {what} {path}, which would be sent away with the data"
    return ""


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))

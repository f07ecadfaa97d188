"""Importers: schemes of URLs that stand for several files, made by a program of ours or of another package.

Those of other packages are found by an entry point of the group `mistamover.importers`: its name is the scheme, its
value a function without arguments that returns an `Importer`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from mistamover.config.serving import FrontSettings

GROUP = "mistamover.importers"

#: Module and function of those that come with us, by their schemes.
_OURS: Mapping[str, str] = {"ala": "mistamover.jobs.transfer.ala:importer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A file that an importer has made."""

    path: Path
    name: str
    """What it is to be called at the destination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What an importer works with."""

    directory: Path
    """Empty, ours, and removed behind it."""
    front: FrontSettings
    fetch: Callable[[str, Path], None]
    """Given a URL and a path, fetch it there; raises what the item is then blamed for."""
    post: Callable[[str, bytes, Mapping[str, str]], bytes]
    """Given a URL, a body and headers, return the answer, of at most some MiB."""
    go_on: Callable[[], None]
    """To be called now and then: raises when the job is to end."""
    where: Callable[[str], str]
    """Given a file's name, return its path at the destination."""


class Importer(Protocol):
    """One kind of source."""

    def check(self, url: str) -> None:
        """Given a URL of its scheme, raise JobRefused (`bad-url`) if it cannot be one."""

    def pause(self, front: FrontSettings) -> float:
        """Return how many seconds to wait at least before another attempt."""

    def make(self, url: str, bench: Bench) -> Sequence[Made]:
        """Given a URL, make its files in the bench's directory. Raise JobRefused, TransportError, OSError."""


@lru_cache(maxsize=64)
def find(scheme: str) -> Importer | None:
    """Given a scheme, return its importer, or None."""
    if scheme in ("http", "https"):
        return None  # most are, and to look among all packages takes a while
    if scheme in _OURS:
        module, _, function = _OURS[scheme].partition(":")
        made: Importer = getattr(importlib.import_module(module), function)()
        return made
    for point in entry_points(group=GROUP, name=scheme):
        found: Importer = point.load()()
        return found
    return None


def scheme_of(url: str) -> str:
    """Given a URL, return its scheme if that has an importer; empty otherwise."""
    scheme = url.partition("://")[0]
    return scheme if find(scheme) is not None else ""

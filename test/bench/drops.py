"""Dropping single files and seeing when they arrive at the target and go from the source."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Self

from bench.inotify import IN_CREATE, IN_DELETE, IN_MOVED_FROM, IN_MOVED_TO, Inotify
from bench.results import NotDelivered

SIZE = 4096
#: Seconds within which a single file must have gone through.
_LIMIT = 60.0
#: Seconds between one file and the next, when each waits for the one before.
_IDLE = (0.05, 0.15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How long a file took from its close at the source, in milliseconds."""

    final: float
    """To its final name at the target."""
    removed: float | None
    """To its removal from the source; None where nothing is removed."""


class Ends:
    """Both ends of a stream, watched."""

    def __init__(self, source: Path, target: Path, *, removal: bool = True) -> None:
        """Given the directories, and whether delivered files are removed, watch for what happens in them."""
        self._source, self._target, self._removal = source, target, removal
        self._closed: dict[bytes, int] = {}
        self._final: dict[bytes, int] = {}
        self._removed: dict[bytes, int] = {}
        self._inotify = Inotify()
        self._watch = self._inotify.add(target, IN_CREATE | IN_MOVED_TO)
        if removal:
            self._inotify.add(source, IN_DELETE | IN_MOVED_FROM)

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no more."""
        self._inotify.close()

    def drop(self, name: str) -> None:
        """Given a name, write a file of that name into the source, directly."""
        handle = os.open(self._source / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(handle, content(name))
        self._closed[os.fsencode(name)] = time.monotonic_ns()  # before close: nothing is measured too short
        os.close(handle)

    def look(self, seconds: float) -> None:
        """Given a limit, wait for something to happen and note it."""
        for event in self._inotify.read(seconds):
            (self._final if event.watch == self._watch else self._removed).setdefault(event.name, event.at_ns)

    def done(self, name: str) -> bool:
        """Tell whether the file of that name has gone all its way."""
        key = os.fsencode(name)
        return key in self._final and (key in self._removed or not self._removal)

    def wait(self, name: str, seconds: float = _LIMIT) -> None:
        """Given a name, wait until it is done; raise NotDelivered if that takes too long."""
        deadline = time.monotonic() + seconds
        while not self.done(name):
            self.look(deadline - time.monotonic())
            if time.monotonic() > deadline:
                raise NotDelivered(f"{name} is not delivered {seconds:g} s after it was closed")

    def check(self, name: str) -> None:
        """Given the name of a file that is done, raise NotDelivered unless its content is at the target."""
        if (self._target / name).read_bytes() != content(name):
            raise NotDelivered(f"{name} has another content at the target")
        if (self._source / name).exists() is self._removal:
            raise NotDelivered(f"{name} {'still is' if self._removal else 'is not'} at the source")

    def lag(self, name: str) -> Lag:
        """Given the name of a file that is done, return how long it took."""
        key = os.fsencode(name)
        closed = self._closed[key]
        removed = (self._removed[key] - closed) / 1e6 if self._removal else None
        return Lag(final=(self._final[key] - closed) / 1e6, removed=removed)


def content(name: str) -> bytes:
    """Given a file's name, return its content: no two are the same."""
    return (name.encode() + b"\n").ljust(SIZE, b".")


def one_by_one(ends: Ends, count: int, kick: Callable[[str], Popen[bytes]] | None = None) -> list[Lag]:
    """Given both ends, drop files, each when the one before is done and a pause is over; return how long they took.

    `kick` starts what delivers a file, where nothing runs that notices it by itself.
    """
    names = [f"drop-{number:05d}" for number in range(count)]
    for name in ["first", "second", *names]:
        ends.drop(name)
        process = kick(name) if kick is not None else None
        ends.wait(name)
        if process is not None and process.wait(_LIMIT):
            raise NotDelivered(f"{name}: status {process.returncode} of {process.args!r}")
        time.sleep(random.uniform(*_IDLE))
    for name in names:
        ends.check(name)
    return [ends.lag(name) for name in names]


def steadily(ends: Ends, every: float, more: Callable[[int], bool], prefix: str = "drop") -> list[Lag]:
    """Given both ends, drop a file every so many seconds while `more(number)`; return how long they took."""
    begin, names = time.monotonic(), list[str]()
    while more(len(names)):
        while (left := begin + every * len(names) - time.monotonic()) > 0:
            ends.look(left)
        names.append(f"{prefix}-{len(names):06d}")
        ends.drop(names[-1])
    for name in names:
        ends.wait(name)
        ends.check(name)
    return [ends.lag(name) for name in names]

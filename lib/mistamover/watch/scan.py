"""The truth: what a directory tree holds right now.

`walk` is lazy: a tree with millions of names is read as fast as its reader takes
them, and no faster.  Links are reported, never followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from mistamover.files.identity import identity_of, kind_of
from mistamover.files.names import MARK
from mistamover.model import Identity, Kind, TreeEntry


class Sighting(NamedTuple):
    """One name as it was seen; `status` is None when the name is gone."""

    name: bytes
    kind: Kind
    status: os.stat_result | None
    entries: int = 0
    """Directories: how many names it held, our own included."""


Problem = Callable[[bytes, OSError], None]


def walk(
    root: bytes, start: bytes, *, excluded: frozenset[bytes], whole_directories: bool, problem: Problem
) -> Iterator[Sighting]:
    """Given a root and a directory below it (empty for the root), yield what is below, a directory after its content.

    `excluded` names (relative to the root) and names that carry our mark are passed over with all they hold.
    With `whole_directories` a top-level directory is one sighting of kind TREE.
    What cannot be read is told to `problem`; a name that vanished meanwhile is left out.
    """
    first = _open(root, start, problem)
    if first is None:
        return
    stack = [first]
    while stack:
        level = stack[-1]
        try:
            entry = next(level.iterator, None)
        except OSError as error:
            problem(level.name, error)
            entry = None
        if entry is None:
            stack.pop().iterator.close()
            if level.name and level.status is not None:
                yield Sighting(level.name, Kind.DIRECTORY, level.status, level.entries)
            continue
        level.entries += 1
        name = level.prefix + entry.name
        if name in excluded or entry.name.startswith(MARK):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                problem(name, error)
            continue
        kind = kind_of(status)
        if kind is not Kind.DIRECTORY:
            yield Sighting(name, kind, status)
        elif whole_directories and not level.name:
            yield Sighting(name, Kind.TREE, status)
        else:
            below = _open(root, name, problem, status)
            if below is not None:
                stack.append(below)


def manifest(root: bytes, name: bytes, *, limit: int = 0) -> tuple[TreeEntry, ...]:
    """Given a directory unit, return an entry for everything below it. Raise OSError if a part cannot be read."""

    def fail(_: bytes, error: OSError) -> None:
        raise error

    prefix = len(name) + 1
    entries = []
    for sighting in walk(root, name, excluded=frozenset(), whole_directories=False, problem=fail):
        if sighting.name == name or sighting.status is None:
            continue
        entries.append(
            TreeEntry(name=sighting.name[prefix:], kind=sighting.kind, identity=identity_of(sighting.status))
        )
        if limit and len(entries) > limit:
            break
    return tuple(entries)


def tree_identity(status: os.stat_result, entries: Iterable[TreeEntry]) -> Identity:
    """Given the lstat of a directory unit and its manifest, return an identity that changes with anything below it.

    Whatever is added, removed, renamed or changed gives some entry, or the directory that holds it, a newer ctime.
    """
    top = identity_of(status)
    size, mtime, ctime = 0, top.mtime_ns, top.ctime_ns
    for entry in entries:
        size += entry.identity.size if entry.kind is Kind.FILE else 0
        mtime = max(mtime, entry.identity.mtime_ns)
        ctime = max(ctime, entry.identity.ctime_ns)
    return Identity(top.dev, top.ino, size, mtime, ctime)


class _Level:
    """One directory that is being read."""

    __slots__ = ("entries", "iterator", "name", "prefix", "status")

    def __init__(self, name: bytes, iterator: os._ScandirIterator[bytes], status: os.stat_result | None) -> None:
        self.name = name
        self.prefix = name + b"/" if name else b""
        self.iterator = iterator
        self.status = status
        self.entries = 0


def _open(root: bytes, name: bytes, problem: Problem, status: os.stat_result | None = None) -> _Level | None:
    path = root + b"/" + name if name else root
    try:
        if status is None:
            status = os.stat(path, follow_symlinks=not name)
        return _Level(name, os.scandir(path), status)
    except OSError as error:
        if name and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return None
        problem(name, error)
        return None

"""The truth: what a directory tree holds right now.

`walk` is lazy: a tree with millions of names is read as fast as its reader takes
them, and no faster.  Links are reported, never followed.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple

from mistamover.files.identity import identity_of, kind_of
from mistamover.files.names import MARK
from mistamover.model import Identity, Kind, TreeEntry
from mistamover.watch.memory import Contents, Memory


class Sighting(NamedTuple):
    """One name as it was seen; `status` is None when the name is gone."""

    name: bytes
    kind: Kind
    status: os.stat_result | None
    entries: int = 0
    """Directories: how many names it held, our own included."""


#: Looking a member of an enum up takes as long as the rest of a comparison: this one is done for each name.
_DIRECTORY = Kind.DIRECTORY

Problem = Callable[[bytes, OSError], None]

Ignored = Callable[[bytes, Kind], bool]
"""Tells of a name whether it is ignored for ever, whatever it holds."""


def walk(
    root: bytes,
    start: bytes,
    *,
    excluded: frozenset[bytes],
    whole_directories: bool,
    problem: Problem,
    visit: Callable[[bytes], None] | None = None,
    memory: Memory | None = None,
    ignored: Ignored | None = None,
) -> Iterator[Sighting]:
    """Given a root and a directory below it (empty for the root), yield what is below, a directory after its content.

    `excluded` names (relative to the root) and names that carry our mark are passed over with all they hold.
    With `whole_directories` a top-level directory is one sighting of kind TREE.
    What cannot be read is told to `problem`; a name that vanished meanwhile is left out.
    `visit` is called with the name of each directory just before it is looked into.
    What `memory` knows is not listed; the directories in it are visited all the same.  A directory is given to it only
    if all that was sighted in it is `ignored`.
    """
    pending: list[bytes | Sighting] = [start]
    while pending:
        name = pending.pop()
        if isinstance(name, Sighting):
            yield name
            continue
        if visit is not None:
            visit(name)
        path = root + b"/" + name if name else root
        looked_ns = time.time_ns()
        try:
            status = os.stat(path, follow_symlinks=not name)
            if name and not stat.S_ISDIR(status.st_mode):
                # Something has taken its place since its name was read; a link would lead out of the tree.
                continue
            contents = memory.recall(name, status) if memory is not None else None
            if contents is None:
                trees = whole_directories and not name
                contents, idle = yield from _list(path, name, excluded, trees, problem, ignored)
                if memory is not None and idle:
                    memory.learn(name, status, looked_ns, contents)
        except OSError as error:
            if not name or not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                problem(name, error)
            continue
        if name:
            pending.append(Sighting(name, Kind.DIRECTORY, status, contents.entries))
        pending.extend(contents.directories)


def _list(
    path: bytes, name: bytes, excluded: frozenset[bytes], trees: bool, problem: Problem, ignored: Ignored | None
) -> Generator[Sighting, None, tuple[Contents, bool]]:
    """Yield the units in one directory; return what else is in it, and whether all those units are `ignored`.

    Raise OSError if it cannot be read.
    """
    prefix = name + b"/" if name else b""
    count, directories, idle = 0, [], True
    with os.scandir(path) as entries:
        for entry in entries:
            count += 1
            below = prefix + entry.name
            if below in excluded or entry.name.startswith(MARK):
                continue
            try:
                # Its kind comes with its name; the stat that a directory needs is made when it is visited.
                if not trees and entry.is_dir(follow_symlinks=False):
                    directories.append(below)
                    continue
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                idle = False
                problem(below, error)
                continue
            kind = kind_of(status)
            if kind is _DIRECTORY:
                if not trees:
                    directories.append(below)
                    continue
                kind = Kind.TREE
            if idle:
                idle = ignored is not None and ignored(below, kind)
            yield Sighting(below, kind, status)
    return Contents(count, tuple(directories)), idle


def directories(root: bytes, top: bytes) -> Iterator[bytes]:
    """Given a root and a directory below it, yield its name and those of all directories below, each before it is read.

    What cannot be read is left out, and so are names that carry our mark.
    """
    pending = [top]
    while pending:
        name = pending.pop()
        yield name
        try:
            with os.scandir(root + b"/" + name) as entries:
                pending += [
                    name + b"/" + entry.name
                    for entry in entries
                    if not entry.name.startswith(MARK) and entry.is_dir(follow_symlinks=False)
                ]
        except OSError:
            continue


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

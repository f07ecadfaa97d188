"""Which processes have a file open, as /proc tells; a process of another user is told only to root."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from mistamover.cli.common import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class Opener:
    """One process that has one of the files open."""

    pid: int
    program: str
    user: str
    writing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Openers:
    """What could be seen, and of how many processes nothing could be seen."""

    seen: tuple[Opener, ...]
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenFile:
    """What to look for: a file by its device and inode; its last name spares a look at most descriptors."""

    dev: int
    ino: int
    last_name: bytes
    links: int = 1


def openers_of(files: Collection[OpenFile]) -> Openers:
    """Given files, return the processes that have one of them open, our own not; never raises."""
    wanted = {(file.dev, file.ino) for file in files}
    # A file with one link has one name, whichever way it was opened.  Others, and a file that was renamed, need a stat.
    names = {file.last_name for file in files}
    any_name = any(file.links > 1 for file in files)
    seen: list[Opener] = []
    hidden = 0
    for pid in _processes():
        try:
            writing = _open_in(pid, wanted, None if any_name else names)
        except PermissionError:
            hidden += 1
            continue
        except OSError:
            # It ended while we looked.
            continue
        if writing is not None:
            seen.append(_describe(pid, writing))
    return Openers(seen=tuple(seen), hidden=hidden)


def _processes() -> Iterator[int]:
    own = os.getpid()
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != own:
            yield int(entry)


def _open_in(pid: int, wanted: Collection[tuple[int, int]], names: Collection[bytes] | None) -> bool | None:
    """Return whether the process writes to one of the files; None if it has none of them open."""
    directory = b"/proc/%d/fd/" % pid
    found: bool | None = None
    for number in os.listdir(directory):
        try:
            path = os.readlink(directory + number)
            if not path.startswith(b"/") or (names is not None and path.rpartition(b"/")[2] not in names):
                continue
            status = os.stat(directory + number)
            if (status.st_dev, status.st_ino) in wanted:
                found = bool(found) or _is_writing(pid, number)
        except OSError:
            # Closed while we looked.
            continue
    return found


def _is_writing(pid: int, number: bytes) -> bool:
    with open(b"/proc/%d/fdinfo/%s" % (pid, number), "rb") as lines:
        for line in lines:
            if line.startswith(b"flags:"):
                return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def _describe(pid: int, writing: bool) -> Opener:
    import psutil

    try:
        process = psutil.Process(pid)
        program, user = process.name(), process.username()
    except psutil.Error:
        program, user = "(ended)", "?"
    return Opener(pid=pid, program=printable(program), user=printable(user), writing=writing)

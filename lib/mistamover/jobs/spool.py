"""Content that came with a request, kept in private files until its job has taken it to where it belongs.

A file's name tells which installation has it: several may share a store, and none sees the files of another.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection
from pathlib import Path

from mistamover.jobs.installation import identity

_SPOOL = "spool"
_NAME = re.compile(r"[0-9a-f]{32}")


def new(directory: Path) -> tuple[str, int]:
    """Given the directory of the jobs, make an empty file; return its name and a descriptor to write to.

    Raise OSError.
    """
    spool = directory / _SPOOL
    spool.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark = identity(directory)
    name = mark + os.urandom(16).hex()[len(mark) :]
    return name, os.open(spool / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def path_of(directory: Path, name: str) -> Path:
    """Given the directory of the jobs and a file's name, return its path. Raise ValueError if it is no such name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no file of the spool")
    return directory / _SPOOL / name


def is_elsewhere(directory: Path, name: str) -> bool:
    """Given the directory of the jobs and a file's name, tell whether the spool of another installation has it."""
    return not path_of(directory, name).exists() and not name.startswith(identity(directory))


def remove(directory: Path, name: str) -> None:
    """Given the directory of the jobs and a file's name, remove the file; content if it is gone."""
    path_of(directory, name).unlink(missing_ok=True)


def sweep(directory: Path, keep: Collection[str], older_than: float) -> int:
    """Given the names that unfinished jobs need, and an age in seconds, remove older ones; return how many.

    A request that was cut off leaves one behind, and so does a job that failed and was not tried again.
    """
    removed = 0
    before = time.time() - older_than
    try:
        entries = list(os.scandir(directory / _SPOOL))
    except FileNotFoundError:
        return 0
    for entry in entries:
        if _NAME.fullmatch(entry.name) and entry.name not in keep and entry.stat().st_mtime < before:
            Path(entry.path).unlink(missing_ok=True)
            removed += 1
    return removed

"""What tells the directory of one installation's jobs from those of all others that share its store."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from mistamover.files.durable import write_whole

#: Hexadecimal digits of it.
DIGITS = 12

_FILE = "worker.id"


def identity(directory: Path) -> str:
    """Given the directory of jobs, return what tells it from all other ones, made by whoever asks first.

    Raise OSError.
    """
    path = directory / _FILE
    with contextlib.suppress(FileNotFoundError):
        return path.read_text("ascii").strip()
    mine = directory / f".{_FILE}-{os.urandom(6).hex()}"
    try:
        write_whole(mine, os.urandom(DIGITS // 2).hex().encode())
        # Of two that ask at once one is first, and the other takes what that one has made.
        with contextlib.suppress(FileExistsError):
            os.link(mine, path)
    finally:
        mine.unlink(missing_ok=True)
    return path.read_text("ascii").strip()

"""Files that hold a secret: only their owner may be able to read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mistamover.errors import SecretError

#: Bytes; a secret is short.
_MOST = 4096


def why_not_private(path: Path) -> str:
    """Given a file, return in words what is wrong with it as the place of a secret; empty if nothing is."""
    try:
        status = path.stat()
    except OSError as error:
        return f"{path} cannot be looked at ({error.strerror})"
    return _why_not(path, status)


def read_private(path: Path) -> list[str]:
    """Given a file that holds a secret, return its lines. Raise SecretError if it is not private, or not readable."""
    try:
        with path.open("rb") as file:
            # Of the very file that is read: another one may have taken its name since it was checked.
            reason = _why_not(path, os.fstat(file.fileno()))
            content = file.read(_MOST)
    except OSError as error:
        raise SecretError(f"{path} cannot be read ({error.strerror})") from error
    if reason:
        raise SecretError(reason)
    try:
        return content.decode().splitlines()
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not UTF-8 text") from None


def _why_not(path: Path, status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is not a file"
    if status.st_mode & 0o077:
        return f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}): run chmod 600 on it"
    return ""

"""Stop files that the disk guard makes, and how they are told from an operator's.

A stop file in a directory asks those who deliver into it to wait.  The guard's own carries a sign: a modification time
in the past that no clock gives, and a content of ours, or none where the disk had no room for one.  Whoever touches or
rewrites it makes it his: the sign is gone, and the guard leaves it alone.  The sign needs no record elsewhere, so it is
believed after any crash, and by any process.

An operator's stop file also pauses the stream that sends out of the directory.  The guard's does not: that stream is
the one that makes room.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from mistamover.files.names import MARK

#: 2001-09-09 01:46:40 UTC: whole and even seconds, so that every filesystem keeps it as it is.
_SIGN = 1_000_000_000

_HEAD = b"made by the disk guard of MiStaMover\n"

#: Under this name it is made ready; it then appears at one blow, or not at all.
_READY = MARK + b"-stop.new"


def pauses(path: bytes) -> bool:
    """Given the path of a stop file, tell whether one is there that pauses the stream of its directory."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return not (_signed(status) and _made_by_guard(path))


def is_of_guard(path: bytes) -> bool:
    """Given the path of a stop file, tell whether it is there and was made by a disk guard."""
    try:
        return _signed(os.lstat(path)) and _made_by_guard(path)
    except OSError:
        return False


def make(path: bytes, words: str) -> bool:
    """Given the path of a stop file and why it is made, make it; False if there is one already, whoever made it.

    It appears whole, by a link, and never in the place of another.  Raise OSError if it cannot be made.
    """
    if os.path.lexists(path):
        return False
    ready = os.path.dirname(path) + b"/" + _READY
    with contextlib.suppress(FileNotFoundError):
        # Left over from a crash, or put there to lead us elsewhere: it is made anew.
        os.unlink(ready)
    handle = os.open(ready, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        # A disk that is full to the last byte takes a name still, though no content.
        with contextlib.suppress(OSError), os.fdopen(os.dup(handle), "wb") as file:
            file.write(_HEAD + words.encode("utf-8", "backslashreplace") + b"\n")
        _make_whole(handle)
        os.utime(handle, (_SIGN, _SIGN))
        os.link(ready, path, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        os.close(handle)
        os.unlink(ready)
    return True


def remove(path: bytes) -> bool:
    """Given the path of a stop file, remove it if a guard made it; return whether it did. Raise OSError."""
    if not is_of_guard(path):
        return False
    os.unlink(path)
    return True


def _make_whole(handle: int) -> None:
    """Given a file of which a part only may have found room, see to it that it has all or nothing."""
    if os.fstat(handle).st_size < len(_HEAD):
        os.ftruncate(handle, 0)


def _signed(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_mtime_ns == _SIGN * 1_000_000_000


def _made_by_guard(path: bytes) -> bool:
    """Tell whether a file that has the sign has our content as well, or none; one that may not be read has it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except PermissionError:
        return True
    except OSError:
        return False
    try:
        return os.read(handle, len(_HEAD)) in (b"", _HEAD)
    finally:
        os.close(handle)


def of(directory: Path, name: str) -> bytes:
    """Given a directory and the name of its stop file, return the path."""
    return os.fsencode(directory) + b"/" + os.fsencode(name)

"""Writing files of our own so that they survive a crash, and are never seen half written."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def write_whole(
    path: Path, content: bytes, *, mode: int = 0o600, durable: bool = True, owner_of: Path | None = None
) -> None:
    """Given a path and its whole content, make the file appear by rename; with `durable`, also on the disk.

    Where root writes it, it belongs to the owner of `owner_of`, if that is given.

    Raise OSError when it cannot be written; an older file of the name is then untouched.
    """
    temporary = path.with_name(f".mistamover-{os.getpid()}-{os.urandom(4).hex()}.new")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(handle, "wb") as stream:
            if owner_of is not None and os.geteuid() == 0:
                status = os.stat(owner_of)
                os.fchown(stream.fileno(), status.st_uid, status.st_gid)
            stream.write(content)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.rename(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path | bytes) -> None:
    """Given a directory, wait until its entries are on the disk. Raise OSError if that fails."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_filesystem(handle: int) -> None:
    """Given a descriptor, wait until all of its filesystem is on the disk. Raise OSError if that fails."""
    if ctypes.CDLL(None, use_errno=True).syncfs(handle) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


#: sync_file_range(2): send what is not on its way to the disk yet, and wait for nothing.
_WRITE = 2


def begin_writing(handle: int, offset: int, length: int) -> None:
    """Given a descriptor and a range, let the disk begin with it, so that little is left when it is flushed.

    Unlike an advice that it is not needed any more, this lets it stay in memory.  It promises nothing and never fails.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.sync_file_range(ctypes.c_int(handle), ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(_WRITE))

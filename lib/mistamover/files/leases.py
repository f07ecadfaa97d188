"""Read leases: the kernel's answer to "is anyone writing to this file?".

`fcntl(F_SETLEASE, F_RDLCK)` is refused with EAGAIN while any process has the
file open for writing.  Once granted, a later writer waits in `open` until we let
go, and we hear of it by SIGIO.  The default action of SIGIO ends a process, so
`hear_breaks` must run before the first lease is taken.  See fcntl(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
from collections.abc import Callable

from mistamover.model import Writers

_OPEN_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

#: Descriptors that are left for everything else than leases: pipes, sockets, logs, SQLite, directories.
_OTHER_DESCRIPTORS = 512


def hear_breaks(heard: Callable[[], None] | None = None) -> None:
    """Given what to call when a writer waits for a lease of ours, install it; without it, breaks are only survived."""
    signal.signal(signal.SIGIO, lambda *_: heard() if heard else None)


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files to the hard limit; return how many leases may be held at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(16, soft - _OTHER_DESCRIPTORS)


def take(name: bytes, *, dir_fd: int | None = None) -> tuple[int, Writers]:
    """Given a regular file, open it and ask for a read lease.

    Return the descriptor and the kernel's answer: NONE with the lease held until
    the descriptor is closed; SOME or UNKNOWN without a lease.  The descriptor is
    the caller's to close.  Raise OSError if the file cannot be opened.
    """
    handle = os.open(name, _OPEN_FLAGS, dir_fd=dir_fd)
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return handle, Writers.SOME
        return handle, Writers.UNKNOWN
    return handle, Writers.NONE


def held(handle: int) -> bool:
    """Given a descriptor on which a lease was taken, tell whether it is whole: no writer came or waits."""
    return fcntl.fcntl(handle, fcntl.F_GETLEASE) == fcntl.F_RDLCK


def release(handle: int) -> None:
    """Given a descriptor on which a lease was taken, let writers in; the descriptor stays open."""
    fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def probe(name: bytes, *, dir_fd: int | None = None) -> Writers:
    """Given a regular file, return the kernel's answer and hold nothing. Raise OSError if it cannot be opened."""
    handle, writers = take(name, dir_fd=dir_fd)
    os.close(handle)
    return writers

"""A small reader of inotify(7): it sleeps until something happens, so that the measuring itself costs no time."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple, Self

IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_Q_OVERFLOW: Final = 0x4000
IN_ISDIR: Final = 0x40000000

_HEAD: Final = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Event(NamedTuple):
    """One event: which watch, what happened, to which name, and when it was read (monotonic nanoseconds)."""

    watch: int
    mask: int
    name: bytes
    at_ns: int


class Inotify:
    """Some watched directories."""

    def __init__(self) -> None:
        """Raise OSError if the kernel gives no instance."""
        self._handle = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all watches."""
        self.close()

    def close(self) -> None:
        """End all watches."""
        os.close(self._handle)

    def add(self, directory: Path, mask: int) -> int:
        """Given a directory and the events that matter, watch it; return the number of the watch. Raise OSError."""
        return _checked(_libc.inotify_add_watch(self._handle, os.fsencode(directory), mask))

    def read(self, seconds: float) -> list[Event]:
        """Given a limit, wait for events and return them; none if the time is over."""
        readable, _, _ = select.select([self._handle], [], [], max(0.0, seconds))
        at_ns = time.monotonic_ns()
        data = b""
        if readable:
            with contextlib.suppress(BlockingIOError):
                data = os.read(self._handle, 2**20)
        return parse(data, at_ns)


def parse(data: bytes, at_ns: int) -> list[Event]:
    """Given what the kernel wrote and when, return the events; raise OverflowError if some were lost."""
    events, offset = [], 0
    while offset < len(data):
        watch, mask, _, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size + length
        if mask & IN_Q_OVERFLOW:
            raise OverflowError("the kernel has lost events")
        events.append(Event(watch, mask, data[offset - length : offset].rstrip(b"\0"), at_ns))
    return events


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"inotify: {os.strerror(number)}")
    return result

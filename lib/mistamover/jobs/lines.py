"""What a thread that does a job waits for at other hosts, so that another thread can cut it off.

A job that is to end may sit in a call that nobody answers.  Only threads that have begun with `begin` are known here.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

#: Lines that a thread has before those are forgotten that are closed.
_MANY = 32


class _Line(Generic[T]):
    """One line, and how it is cut; it is not kept alive by being known here."""

    def __init__(self, line: T, cut: Callable[[T], object]) -> None:
        self._line = weakref.ref(line)
        self._cut = cut

    @property
    def is_there(self) -> bool:
        return self._line() is not None

    def end(self) -> None:
        line = self._line()
        if line is not None:
            self._cut(line)


_lock = threading.Lock()
_lines: dict[int, dict[int, _Line[Any]]] = {}


def begin() -> None:
    """This thread begins with a job: it waits for nothing."""
    with _lock:
        _lines[threading.get_ident()] = {}


def join(other: int) -> None:
    """Given another thread by its `get_ident`, this one does a part of its job: who cuts that one, cuts this one."""
    with _lock:
        if other in _lines:
            _lines[threading.get_ident()] = _lines[other]


def end() -> None:
    """This thread has ended its job, or its part of it."""
    with _lock:
        _lines.pop(threading.get_ident(), None)


def note(line: T, cut: Callable[[T], object]) -> None:
    """Given a line of this thread, and how it is cut from another one, remember it for as long as it is there."""
    with _lock:
        mine = _lines.get(threading.get_ident())
        if mine is None:
            return
        if len(mine) >= _MANY:
            for key in [key for key, each in mine.items() if not each.is_there]:
                del mine[key]
        mine[id(line)] = _Line(line, cut)


@contextlib.contextmanager
def held(line: T, cut: Callable[[T], object]) -> Iterator[None]:
    """Given a line that this thread uses for the length of the block, and how it is cut, remember it for as long."""
    note(line, cut)
    try:
        yield
    finally:
        with _lock:
            _lines.get(threading.get_ident(), {}).pop(id(line), None)


def cut(thread: int) -> int:
    """Given a thread by its `get_ident`, cut all its lines; return how many there were."""
    with _lock:
        lines = list(_lines.get(thread, {}).values())
    for line in lines:
        line.end()
    return len(lines)


def shut(sock: socket.socket) -> None:
    """Given a socket that another thread uses, have it end; its own method would forget its encryption."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)

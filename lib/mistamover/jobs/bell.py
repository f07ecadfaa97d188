"""The doorbell of the worker: whoever submits or cancels a job rings, so that nobody has to wait for the next look.

A ring says nothing but "look", and may get lost: the worker looks by itself as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from mistamover.links.messages import short_path

_NAME = "bell"
_RING = b"!"

#: Rings that are taken in at once; all of them say the same.
_AT_ONCE = 1024


class Bell:
    """The bell in a directory of ours; rung from inside by `ring`, from outside by the function of that name."""

    def __init__(self, directory: Path) -> None:
        """Given the directory of jobs, which nobody else serves, hang it up. Raise OSError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._path = directory / _NAME
        self._path.unlink(missing_ok=True)
        with short_path(directory) as short:
            self._socket.bind(f"{short}/{_NAME}")
        self._path.chmod(0o600)
        self._inside_read, self._inside_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        for handle in (self._socket.fileno(), self._inside_read):
            self._poll.register(handle, select.POLLIN)

    @property
    def wakeup(self) -> int:
        """A descriptor that rings when a byte is written to it, as a signal can."""
        return self._inside_write

    def ring(self) -> None:
        """Ring, from any thread of this process."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._inside_write, _RING)

    def wait(self, seconds: float) -> bool:
        """Given a time, wait for so long, or until it rings; return whether it rang."""
        ready = self._poll.poll(1000 * max(0.0, seconds))
        for handle, _ in ready:
            with contextlib.suppress(BlockingIOError):
                for _ in range(_AT_ONCE):
                    if handle == self._inside_read:
                        os.read(handle, _AT_ONCE)
                    else:
                        self._socket.recv(len(_RING))
        return bool(ready)

    def close(self) -> None:
        """Take it down."""
        self._path.unlink(missing_ok=True)
        self._socket.close()
        os.close(self._inside_read)
        os.close(self._inside_write)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def ring(directory: Path) -> None:
    """Given the directory of jobs, ring there; where nobody is at home, nothing happens."""
    # Full: it has rung already.  Nobody there: what is in the store is found by whoever comes.
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as bell,
        short_path(directory) as short,
    ):
        bell.sendto(_RING, f"{short}/{_NAME}")

"""How the thread of a stream sleeps, and what wakes it: its own threads and signals, and a bell that commands ring.

The bell is a FIFO in the state directory: only who may write there can ring it, and no process can be rung by mistake.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
from pathlib import Path

logger = logging.getLogger(__name__)

BELL = "bell"

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


class Alarm:
    """What one stream's thread sleeps on."""

    def __init__(self, state_dir: Path) -> None:
        """Given the stream's state directory, hang up the bell."""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._bell = _hang_up(state_dir / BELL)
        # Something may have been asked while nobody listened.
        self._rung = True

    def wake(self) -> None:
        """End the sleep, now or the next one; signal handlers and other threads call it."""
        try:
            os.write(self._wake_write, b"!")
        except BlockingIOError:
            return

    def ring(self) -> None:
        """Do what the bell does; signal handlers call it."""
        self._rung = True
        self.wake()

    def sleep(self, seconds: float) -> None:
        """Given a number of seconds, sleep so long, or until something wakes us."""
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if self._bell is not None:
            poll.register(self._bell, select.POLLIN)
        for handle, _ in poll.poll(1000 * max(0.0, seconds)):
            _drain(handle)
            self._rung = self._rung or handle == self._bell

    def rung(self) -> bool:
        """Tell whether somebody has rung since this was asked last; the first answer is yes, and any without a bell."""
        rung, self._rung = self._rung, self._bell is None
        return rung


def ring(state_dir: Path) -> bool:
    """Given a stream's state directory, ring its bell; return whether anybody is there to hear it."""
    try:
        handle = os.open(state_dir / BELL, os.O_WRONLY | _FLAGS)
    except OSError:
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(handle).st_mode):
            return False
        os.write(handle, b"!")
    except BlockingIOError:
        # It rings already.
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _hang_up(path: Path) -> int | None:
    """Make the FIFO and open it at both ends, so that it never reads as closed; None where that cannot be done."""
    try:
        if not path.is_fifo():
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o600)
        handle = os.open(path, os.O_RDWR | _FLAGS)
        if not stat.S_ISFIFO(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "it is no FIFO")
    except OSError as error:
        logger.warning("%s: %s: what commands ask is seen when the stream wakes up for something else", path, error)
        return None
    return handle


def _drain(handle: int) -> None:
    try:
        while os.read(handle, 65536):
            continue
    except BlockingIOError:
        return

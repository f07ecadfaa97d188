"""A program on a pseudo-terminal, talked to as a person does: read what it asks, then type."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

#: Takes the terminal for its own, as a login does: getpass opens /dev/tty.
_BOOT = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A program and the terminal that it runs on; it is gone when the `with` ends."""

    def __init__(self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> None:
        """Given a program's words (its path first), start it."""
        self._own, other = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, *argv],
            stdin=other,
            stdout=other,
            stderr=other,
            cwd=cwd,
            env={**env, "TERM": "dumb", "COLUMNS": "1000", "LINES": "50"},
            start_new_session=True,
        )
        os.close(other)
        self.shown = ""
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(15)
        os.close(self._own)

    def until(self, words: str, timeout: float = 30) -> str:
        """Wait until the words are shown, after what was waited for before; return what was shown up to them.

        What is returned is one line, however it was broken up.
        """
        deadline = time.monotonic() + timeout
        while (at := self.shown.find(words, self._read)) < 0:
            assert self._more(deadline), f"{words!r} is not shown; all that is:\n{self.shown}"
        start, self._read = self._read, at + len(words)
        return " ".join(self.shown[start : self._read].split())

    def type(self, words: str) -> None:
        """Type a line."""
        os.write(self._own, words.encode() + b"\n")

    def answer(self, question: str, words: str) -> str:
        """Wait for a question, answer it, and return what was shown before."""
        before = self.until(question)
        self.type(words)
        return before

    def key(self, key: bytes) -> None:
        """Press a key such as Ctrl-C."""
        os.write(self._own, key)

    def ended(self, timeout: float = 30) -> int:
        """Wait for the end of the program; return its exit status."""
        deadline = time.monotonic() + timeout
        while self._more(deadline):
            pass
        return self.process.wait(max(1, deadline - time.monotonic()))

    def _more(self, deadline: float) -> bool:
        """Read what comes next; False at the end, or when the time is over."""
        if not select.select([self._own], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self._own, 65536)
        except OSError:
            # So says Linux when nobody has the other end open any more.
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

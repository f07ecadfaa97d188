"""A thread that hands something over, again and again, and slows down while that fails.

Each way out has its own: a mail server that hangs holds up neither the looking nor the notifications.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable

from mistamover.errors import MistamoverError
from mistamover.files.names import display

logger = logging.getLogger(__name__)

#: Seconds between two looks at what is to be handed over.
_LOOK = 0.5

_FIRST_PAUSE = 1.0


class Courier(threading.Thread):
    """See the module; it ends with its process."""

    def __init__(self, name: str, work: Callable[[], None], *, longest_pause: float) -> None:
        """Given what it hands over, the work (hands over all there is, raises when something stays), and the longest
        pause after failures in seconds, prepare.
        """
        super().__init__(name=name, daemon=True)
        self._work = work
        self._longest_pause = longest_pause
        self._never = threading.Event()
        self.trouble = ""
        """Why the last attempt failed; empty if it did not."""

    def run(self) -> None:
        """Work until the process ends."""
        failures = 0
        while True:
            try:
                self._work()
            except (MistamoverError, OSError, sqlite3.Error) as error:
                self._failed(display(str(error).encode("utf-8", "surrogateescape")))
                failures += 1
            except Exception as error:  # the top of a thread: whatever it is, the other messages must go on
                logger.exception("%s: an error of the program", self.name)
                self.trouble = f"an error of the program: {type(error).__name__}"
                failures += 1
            else:
                if self.trouble:
                    logger.info("%s: everything is handed over again", self.name)
                self.trouble, failures = "", 0
            self._never.wait(pause(failures, self._longest_pause) if failures else _LOOK)

    def _failed(self, words: str) -> None:
        if words != self.trouble:
            logger.error("%s: not handed over, trying again: %s", self.name, words)
        self.trouble = words


def pause(failures: int, longest: float) -> float:
    """Given failures in a row and the longest pause, return the seconds until the next attempt."""
    return min(longest, _FIRST_PAUSE * 2.0 ** min(failures - 1, 20))

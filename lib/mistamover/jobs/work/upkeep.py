"""The thread that does what nobody waits for: silent workers' jobs go back, old ones go, what they left is cleared."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mistamover.errors import MistamoverError

logger = logging.getLogger(__name__)

#: Seconds between two looks at what is due.
_LOOK = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Chore:
    """Something that is to be done again and again."""

    name: str
    every: float
    """Seconds."""
    do: Callable[[], object]


class Upkeep(threading.Thread):
    """Does its chores, one after the other, until it is ended."""

    def __init__(self, chores: Sequence[Chore]) -> None:
        """Given the chores, which all are due at once, do nothing yet."""
        super().__init__(name="upkeep", daemon=True)
        self._chores = chores
        self._due = {chore.name: 0.0 for chore in chores}
        self._troubles: dict[str, str] = {}
        self._ended = threading.Event()

    def end(self) -> None:
        """Do no more."""
        self._ended.set()

    def run(self) -> None:
        """Do what is due until it is ended."""
        while not self._ended.is_set():
            for chore in self._chores:
                if time.monotonic() >= self._due[chore.name] and not self._ended.is_set():
                    self._do(chore)
                    self._due[chore.name] = time.monotonic() + chore.every
            self._ended.wait(_LOOK)

    def _do(self, chore: Chore) -> None:
        try:
            chore.do()
        except (MistamoverError, OSError) as error:
            if self._troubles.get(chore.name) != str(error):
                logger.error("%s: %s", chore.name, error)
            self._troubles[chore.name] = str(error)
        except Exception:  # the top of a thread: the other chores must be done
            logger.exception("%s: an error of the program", chore.name)
        else:
            if self._troubles.pop(chore.name, ""):
                logger.info("%s: works again", chore.name)

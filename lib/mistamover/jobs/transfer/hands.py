"""Threads that do the many parts of one job, beside the thread that has the job.

They are that thread's hands: what cuts its connections cuts theirs, and when it goes on to something else, or has to
end, so do they, within seconds.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from mistamover.errors import JobStopping
from mistamover.jobs import lines

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

#: Seconds between two looks whether the job is to end.
_TICK = 0.1

#: Seconds in which they are to notice that they shall end, before their connections are cut, again and again, and for
#: how long that is done.
_PATIENCE = 1.0
_LAST = 20.0


class Hands:
    """A number of such threads; used by the thread that has the job."""

    def __init__(self, many: int, check: Callable[[], None]) -> None:
        """Given how many they are, and what is called again and again and raises when the job is to end."""
        self._many = many
        self._check = check

    def results(
        self, work: Iterable[T], do: Callable[[T, Callable[[], None]], R]
    ) -> Generator[tuple[T, R | Exception], None, None]:
        """Given things, and what does one of them, yield each with what came of it, or what was raised, as they come.

        What does one calls its second argument again and again, which raises when it is to end. Who does not want all
        of it closes this iterator.
        """
        rest, lock = iter(work), threading.Lock()
        halted = threading.Event()
        done: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
        owner = threading.get_ident()

        def go_on() -> None:
            if halted.is_set():
                raise JobStopping("no more is needed")

        def run() -> None:
            lines.join(owner)
            try:
                while not halted.is_set():
                    with lock:
                        some = next(rest, done)
                    if some is done:
                        return
                    try:
                        done.put((some, do(some, go_on)))  # type: ignore[arg-type]
                    except Exception as error:  # noqa: BLE001 (told to the thread that has the job)
                        done.put((some, error))
            finally:
                lines.end()
                done.put(())

        threads = [threading.Thread(target=run, name=f"hand {number}", daemon=True) for number in range(self._many)]
        try:
            for thread in threads:
                thread.start()
            left = len(threads)
            while left:
                self._check()
                try:
                    found = done.get(timeout=_TICK)
                except queue.Empty:
                    continue
                if found:
                    yield found[0], found[1]
                else:
                    left -= 1
        finally:
            halted.set()
            _let_end([thread for thread in threads if thread.ident], owner)


def _let_end(threads: list[threading.Thread], owner: int) -> None:
    """Given threads that were told to end, wait until they have; cut what they wait for, if need be."""
    over = time.monotonic() + _LAST
    while threads and time.monotonic() < over:
        until = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        threads = [thread for thread in threads if thread.is_alive()]
        if threads:
            lines.cut(owner)
    if threads:
        logger.error("%d threads of a job do not end: what they wait for cannot be cut", len(threads))

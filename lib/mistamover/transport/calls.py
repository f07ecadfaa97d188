"""Calls into libraries that know no bound and no interruption: made in a thread of their own, waited for here.

A call that is given up goes on by itself until the library notices; so it may hold nothing that its caller takes back,
such as a descriptor.  Never imports a library that it calls.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from queue import SimpleQueue
from typing import Any, TypeVar

from mistamover.errors import LinkError

T = TypeVar("T")
_Task = tuple[Future[Any], Callable[[], Any]]

#: Seconds between two ticks.
_TICK = 0.5


class Calls:
    """One thread that makes calls, one after another, for one connection."""

    def __init__(self, name: str) -> None:
        """Given a name for the thread, prepare; it starts with the first call."""
        self._name = name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._waiting: Future[Any] | None = None
        self._over = ""

    def run(self, seconds: float, function: Callable[[], T], tick: Callable[[], None] | None = None) -> T:
        """Given a bound and a function, return what it returns, or raise what it raises.

        `tick` is called now and then meanwhile; what it raises ends the waiting, and comes out.  Raise LinkError when
        it takes longer, or when the connection is cut: no call is made any more then.
        """
        future = self._begin(function)
        deadline = time.monotonic() + seconds
        while True:
            try:
                return future.result(min(_TICK, seconds) if tick is not None else seconds)
            except CancelledError:
                raise LinkError(self._over) from None
            except TimeoutError:
                if future.done():  # the function's own, or just now
                    return future.result()
            if time.monotonic() >= deadline:
                self._end(f"no answer within {seconds:g} s")
                raise LinkError(self._over)
            if tick is not None:
                try:
                    tick()
                except BaseException:
                    self._leave(future)
                    raise

    def abort(self) -> None:
        """Give up the call under way, from any thread, and make none any more."""
        self._end("the connection was cut")

    def close(self) -> None:
        """End the thread; no call is under way."""
        self._end("the connection is closed")

    def _end(self, why: str) -> None:
        with self._lock:
            self._over = self._over or why
            if self._waiting is not None:
                self._waiting.cancel()
        self._tasks.put(None)

    def _begin(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._over:
                raise LinkError(self._over)
            self._waiting = future
            if self._thread is None:
                # It may hang in a library for ever: a process that ends does not wait for it.
                self._thread = threading.Thread(target=_work, args=(self._tasks,), name=self._name, daemon=True)
                self._thread.start()
            self._tasks.put((future, function))
        return future

    def _leave(self, future: Future[T]) -> None:
        """Given a call under way that nobody waits for any more, leave its thread to it; the next call gets another."""
        with self._lock:
            future.cancel()
            self._tasks.put(None)
            self._tasks = SimpleQueue()
            self._thread = None


def _work(tasks: SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        future, function = task
        # One that was given up takes no result.
        with contextlib.suppress(InvalidStateError):
            try:
                result = function()
            except BaseException as error:  # noqa: BLE001
                # Whose it is, is for the caller to judge.
                future.set_exception(error)
            else:
                future.set_result(result)

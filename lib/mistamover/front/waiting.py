"""Waiting for jobs: one reader of the event log for everybody who waits, and it reads only while somebody does.

Used by `wait=`, by the event streams and by the synchronous calls of older dialects.  All of it runs on the event loop;
the store is read in threads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from starlette.concurrency import run_in_threadpool

from mistamover.errors import StoreError
from mistamover.front.errors import Refused
from mistamover.jobs.model import Event, Job, JobState
from mistamover.jobs.store.store import Store

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

#: Seconds between two looks at the log, and after one that failed.
_EVERY = 0.04
_AFTER_FAILURE = 1.0

#: Events that are read at a time.
_BATCH = 1_000

#: Seconds after which a waiting one looks for himself, whatever the log says: numbers may appear out of order in a
#: store that several processes write to at a time.
_LOOK_ANYWAY = 2.0

#: Who may wait at a time.
_MOST = 1_000

_ENDS = frozenset(state.value for state in JobState if state.final)


class Feed:
    """Wakes those who wait for jobs."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Given the store and a monotonic clock, read nothing yet."""
        self._store = store
        self._clock = clock
        self._waiting: dict[str, set[_Waiter]] = {}
        self._count = 0
        self._reader: asyncio.Task[None] | None = None
        self._last = 0
        self._closed = False

    async def ended(self, job_id: str, seconds: float) -> Job | None:
        """Given a job's id and how long to wait, return the job when it has ended, or as it is when the time is over.

        None if there is no such job.  Raise Refused (503) when too many wait, StoreError.
        """
        until = self._clock() + seconds
        job = await run_in_threadpool(self._store.jobs.get, job_id)
        if job is None or job.state.final or seconds <= 0 or self._closed:
            return job
        with self._subscribed(job_id, _ENDS) as waiter:
            await self._reading()
            while True:
                waiter.wake.clear()
                job = await run_in_threadpool(self._store.jobs.get, job_id)
                left = until - self._clock()
                if job is None or job.state.final or left <= 0 or self._closed:
                    return job
                await waiter.wait(min(left, _LOOK_ANYWAY))

    async def events(self, job_id: str, after: int, *, silence: float = 15.0) -> AsyncIterator[Sequence[Event]]:
        """Given a job's id and the number of the last event that is known, yield what follows, until the job's end.

        Nothing is yielded, as an empty sequence, when there was nothing for `silence` seconds: the client may have
        gone.  Raise Refused (503) when too many wait, StoreError.
        """
        with self._subscribed(job_id, None) as waiter:
            await self._reading()
            quiet_since = self._clock()
            while not self._closed:
                waiter.wake.clear()
                job = await run_in_threadpool(self._store.jobs.get, job_id)
                found = await run_in_threadpool(self._events_of, job_id, after)
                if found:
                    after = found[-1].number
                    yield found
                elif job is None or job.state.final:
                    return
                elif self._clock() - quiet_since >= silence:
                    yield ()
                else:
                    await waiter.wait(min(silence, _LOOK_ANYWAY))
                    continue
                quiet_since = self._clock()

    def close(self) -> None:
        """Have everybody go on with what there is: the process is to end."""
        self._closed = True
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.wake.set()

    def _events_of(self, job_id: str, after: int) -> Sequence[Event]:
        return self._store.events.after(after, job=job_id, limit=_BATCH)

    @contextmanager
    def _subscribed(self, job_id: str, kinds: frozenset[str] | None) -> Iterator[_Waiter]:
        if self._count >= _MOST:
            raise Refused(
                503, "too-many-wait", f"{_MOST} clients wait already: ask without waiting", {"Retry-After": "5"}
            )
        waiter = _Waiter(kinds)
        self._waiting.setdefault(job_id, set()).add(waiter)
        self._count += 1
        try:
            yield waiter
        finally:
            self._count -= 1
            self._waiting[job_id].discard(waiter)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    async def _reading(self) -> None:
        """Have the log read; what happens after this returns is not missed."""
        if self._reader is None or self._reader.done():
            started = asyncio.get_running_loop().create_future()
            self._reader = asyncio.create_task(self._read(started))
            self._started = started
        await asyncio.shield(self._started)

    async def _read(self, started: asyncio.Future[None]) -> None:
        try:
            self._last = await run_in_threadpool(self._store.events.last)
        except StoreError as error:
            # Whoever waits looks for himself now and then.
            logger.error("the event log: %s", error, extra={"action": "front"})
        finally:
            if not started.done():
                started.set_result(None)
        while self._waiting and not self._closed:
            try:
                found = await run_in_threadpool(self._store.events.after, self._last, limit=_BATCH)
            except StoreError as error:
                logger.error("the event log: %s", error, extra={"action": "front"})
                await asyncio.sleep(_AFTER_FAILURE)
                continue
            for event in found:
                for waiter in self._waiting.get(event.job, ()):
                    if waiter.kinds is None or event.kind in waiter.kinds:
                        waiter.wake.set()
            if found:
                self._last = found[-1].number
            if len(found) < _BATCH:
                await asyncio.sleep(_EVERY)


class _Waiter:
    """Somebody who waits for a job."""

    def __init__(self, kinds: frozenset[str] | None) -> None:
        self.kinds = kinds
        self.wake = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Return when woken, or after so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self.wake.wait()
        except TimeoutError:
            return

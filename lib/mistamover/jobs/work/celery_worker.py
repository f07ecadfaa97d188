"""The engine of Celery: a consumer of Celery in a thread of its own, which claims what it is told of.

The one task claims the job, hands it to a free thread of the crew, and returns: then the message is acknowledged.  With
the last free thread the consumer stops to listen, so that the next message goes to a worker that has one; a message
that comes all the same waits for a thread, but not for long.  No job is ever done inside of Celery, and no message is
held for longer than seconds.
The last free thread gets what ranks first by then, whatever the message says: others may have come since, and the rest
waits. What cannot be claimed is forgotten: the store announces it when it may begin.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from mistamover.config.serving import EngineSettings
from mistamover.errors import StoreError
from mistamover.jobs.engine import celery_app
from mistamover.jobs.engine.announcing import Announcer
from mistamover.jobs.work.giving import Claiming

logger = logging.getLogger(__name__)

#: Seconds that a message waits for a free thread before the job is left to other workers.
_WAIT = 2.0
#: Seconds between two attempts while the store is away, and between two starts of a consumer that has ended.
_PAUSE = 1.0
#: Seconds that the end waits for a job that is being claimed.
_LONGEST = 5.0
#: Seconds between two looks at whether our consumer hears what there is.
_EXAMINE = 5.0

_ID = re.compile(r"[0-9a-f]{32}")


class Told:
    """Jobs that a broker tells of; see `Gives`."""

    def __init__(
        self,
        claiming: Claiming,
        engine: EngineSettings,
        groups: frozenset[str],
        announcer: Announcer,
        ring: Callable[[], None],
    ) -> None:
        """Given what claims, the settings, the groups of this worker, what announces, and what wakes the main thread,
        connect to nothing yet. Raise EngineError.
        """
        self._claiming = claiming
        self._engine = engine
        self._announcer = announcer
        self._ring = ring
        self._stopping = threading.Event()
        self._free = threading.Event()
        self._giving = threading.Lock()
        self._heard = time.monotonic()
        self._examined = 0.0
        self._well = False
        self._listener: Any = None
        self._paused = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._app = celery_app.make(engine, groups, self.take)
        self._consumer = threading.Thread(target=self._consume, name="consumer", daemon=True)

    def start(self) -> None:
        """See `Gives.start`."""
        self._announcer.start()
        self._consumer.start()

    def look(self) -> None:
        """See `Gives.look`: what may begin is announced, and a consumer that hears nothing begins anew."""
        self._announcer.ring()
        if time.monotonic() - self._examined >= _EXAMINE:
            self._examined = time.monotonic()
            self._examine()

    def freed(self) -> None:
        """See `Gives.freed`."""
        self._free.set()
        self._wake()
        self._announcer.ring()
        self._ring()

    def stop(self) -> None:
        """See `Gives.stop`."""
        self._stopping.set()
        self._free.set()
        self._tell()
        # Whoever is about to give a job does so before, unless the store keeps him waiting.
        if self._giving.acquire(timeout=_LONGEST):
            self._giving.release()

    def end(self, seconds: float) -> None:
        """See `Gives.end`."""
        until = time.monotonic() + seconds
        self._announcer.end(seconds)
        self._consumer.join(max(0.0, until - time.monotonic()))
        if self._consumer.is_alive():
            logger.warning("the connection to the broker does not end: it is left as it is")
            return
        os.close(self._wake_read)
        os.close(self._wake_write)

    # -- in the thread of the consumer --------------------------------------------------------

    def take(self, job_id: object) -> None:
        """Given what came with a message, give out that job if we can, and it may begin.

        Raise celery's Reject for a message that is to come again, to us or to another worker.
        """
        self._heard = time.monotonic()
        try:
            self._take(job_id)
            self._pause_if_full()
        finally:
            # Celery acknowledges behind us, and only when its loop comes round: else that is with the next timer.
            self._wake()

    def _take(self, job_id: object) -> None:
        if not isinstance(job_id, str) or not _ID.fullmatch(job_id):
            logger.error("a message at the broker is not of ours: it is dropped")
            return
        try:
            # What was announced before may not rank first any more.
            at_once = self._claiming.crew.free > 1
            if not self._waited():
                self._claiming.decline(job_id)
                return
            with self._giving:
                if not self._stopping.is_set():
                    give = self._claiming.one if at_once else self._claiming.one_or_better
                    give(job_id)
                    return
        except StoreError as error:
            logger.error("job %s cannot be had: %s", job_id, error)
            self._stopping.wait(_PAUSE)
        from celery.exceptions import Reject

        raise Reject("not now", requeue=True)

    def _waited(self) -> bool:
        """Wait for a free thread; return False if there is none."""
        until = time.monotonic() + _WAIT
        while not self._stopping.is_set():
            self._free.clear()
            if self._claiming.crew.free > 0:
                return True
            if (left := until - time.monotonic()) <= 0:
                return False
            self._free.wait(left)
        return True

    def _consume(self) -> None:
        from celery.app import trace

        # What Celery's own command does: messages are traced with the tasks of this application, and not of any other.
        trace.setup_worker_optimizations(self._app, self._app.main)
        while not self._stopping.is_set():
            self._listen()
            # What is left of it holds descriptors, and points at itself.
            gc.collect()
            self._stopping.wait(_PAUSE)

    def _listen(self) -> None:
        """Listen until told to stop, or until the connection ends."""
        _tell_to_stop(False)
        if self._stopping.is_set():
            # Told meanwhile.
            return
        try:
            self._app.WorkController(
                pool="solo",
                concurrency=1,
                without_mingle=True,
                without_gossip=True,
                without_heartbeat=True,
                hostname=self._app.main,
                ready_callback=self._ready,
            ).start()
            if not self._stopping.is_set() and self._well:
                logger.error("the connection to the broker is lost")
            self._well = False
        except Exception:  # the top of a thread: without it no job could be had
            logger.exception("nothing can be heard from the broker: an error of the program")

    def _ready(self, consumer: Any) -> None:
        """Given Celery's consumer, which listens from now on, have it notice when it is to stop."""
        logger.info("listens at the broker")
        self._well = True
        self._listener, self._paused = consumer, False
        consumer.hub.add_reader(self._wake_read, self._woken)

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 64)
        if self._paused and self._claiming.crew.free > 0 and not self._stopping.is_set():
            self._heard = time.monotonic()
            self._paused = False
            self._listener.task_consumer.consume()

    def _pause_if_full(self) -> None:
        """Listen no more while no thread is free; before the acknowledgement, behind which the next message comes."""
        listener = self._listener
        if self._claiming.crew.free > 0 or self._paused or self._stopping.is_set():
            return
        # A connection that is lost is noticed by the loop.
        with contextlib.suppress(*listener.connection_errors, *listener.channel_errors):
            listener.task_consumer.cancel()
            self._paused = True

    def _tell(self) -> None:
        """Have the consumer stop."""
        _tell_to_stop(True)
        self._wake()

    def _wake(self) -> None:
        """Have the loop of the consumer come round."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    # -- in the main thread -------------------------------------------------------------------

    def _examine(self) -> None:
        """Begin anew if others have been told of jobs for long, we have free threads, and nothing reaches us.

        A consumer may not notice that its connection is of no use any more; Celery's with Redis are known for that.
        """
        patience = 2 * self._engine.announce_again
        silent = time.monotonic() - self._heard > patience
        if not silent or self._claiming.crew.free <= 0 or self._stopping.is_set():
            return
        try:
            overdue = self._claiming.overdue(self._engine.announce_again / 2)
        except StoreError:
            # Said by others.
            return
        if overdue:
            logger.warning("jobs are announced and do not arrive here: listening anew")
            self._heard = time.monotonic()
            self._tell()


def _tell_to_stop(stop: bool) -> None:
    """Given whether the consumer is to end, tell it in the one way that Celery has for other threads."""
    from celery.worker import state

    state.should_stop = 0 if stop else None

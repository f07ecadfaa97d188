"""Telling those who asked for it that a job has ended: by HTTP or by a message broker, at least once.

What is to be told stands in the store since the moment in which the job ended; it is forgotten when it was taken, or
when nobody can be told any more.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from mistamover.alerts.broker import Broker, Message
from mistamover.config.settings import Settings
from mistamover.errors import AlertError, JobRefused, MistamoverError
from mistamover.files.names import display
from mistamover.jobs.model import DueCallback, Job, JobState
from mistamover.jobs.store.store import Store
from mistamover.jobs.work import posting

logger = logging.getLogger(__name__)

#: Seconds between two looks, and for which nobody else makes the same callback.
_LOOK = 1.0
_LEASE = 60.0

#: Seconds of the first pause after a failure, of the longest, and after which it is given up.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 600.0
_GIVE_UP_AFTER = 3 * 86400.0

#: Seconds that the broker gets for each answer.
TIMEOUT = 20.0


class Teller(threading.Thread):
    """See the module; it looks until it is ended."""

    def __init__(
        self, store: Store, settings: Settings, *, timeout: float = TIMEOUT, clock: Callable[[], float] = time.time
    ) -> None:
        """Given the store, settings with jobs, and the seconds for each answer of a broker, tell nobody yet."""
        super().__init__(name="callbacks", daemon=True)
        assert settings.jobs is not None
        self._store = store
        self._jobs = settings.jobs
        self._clock = clock
        amqp = settings.alerts.amqp if settings.alerts is not None else None
        # By the broker's own exchange, which hands a message to the queue of the name that is its key.
        self._broker = Broker(dataclasses.replace(amqp, exchange="", mandatory=True), timeout) if amqp else None
        self._ended = threading.Event()
        self._trouble = ""

    def end(self) -> None:
        """Tell no more."""
        self._ended.set()

    def run(self) -> None:
        """Look until it is ended."""
        while not self._ended.wait(_LOOK):
            try:
                self.look()
                self._trouble = ""
            except MistamoverError as error:
                if str(error) != self._trouble:
                    logger.error("callbacks wait: %s", error)
                self._trouble = str(error)
            except Exception:  # the top of a thread: the next look may go better
                logger.exception("callbacks wait: an error of the program")
        self.close()

    def close(self) -> None:
        """Leave the broker; the next message connects anew."""
        if self._broker is not None:
            self._broker.close()

    def look(self) -> None:
        """Tell all whose time has come. Raise StoreError."""
        while not self._ended.is_set() and (due := self._store.callbacks.due(_LEASE, limit=1)):
            for each in due:
                self._tell(each)
        if self._broker is not None:
            self._broker.keep_alive()

    def _tell(self, due: DueCallback) -> None:
        job, now = due.job, self._clock()
        try:
            self._hand_over(job, now)
        except JobRefused as error:
            self._forget(job, str(error))
        except MistamoverError as error:
            words = display(str(error).encode("utf-8", "surrogateescape"))
            if now - (job.ended or now) > _GIVE_UP_AFTER:
                self._forget(job, words)
                return
            wait = pause_of(due.attempts)
            logger.warning("job %s: its end is not told yet, again in %.0f s: %s", job.id, wait, words)
            self._store.callbacks.failed(job.id, now + wait, words)
        else:
            logger.info("job %s: its end is told", job.id)
            self._store.callbacks.made(job.id)

    def _forget(self, job: Job, reason: str) -> None:
        logger.error("job %s: nobody is told of its end: %s", job.id, reason)
        self._store.callbacks.made(job.id)

    def _hand_over(self, job: Job, now: float) -> None:
        callback = job.callback
        assert callback is not None
        message = message_of(job)
        body = json.dumps({**message, "sent": round(now, 3)}).encode()
        if callback.url:
            posting.post(callback.url, str(message["id"]), body, now, self._jobs)
        elif self._broker is None:
            raise JobRefused("no-broker", "there is no broker: set [notify] amqp_url")
        else:
            sent = Message(id=str(message["id"]), kind="job", key=callback.queue, body=body, sent=int(now))
            returned = self._broker.publish([sent], lambda _: None)
            if returned:
                raise AlertError(f"there is no queue {returned} at {self._broker.where}")


def message_of(job: Job) -> dict[str, Any]:
    """Given a job that has ended, return what is told of it; its `id` is the same each time that this is told."""
    state, ended = job.state.value, job.ended or 0.0
    identity = hashlib.blake2b(f"{job.id} {state} {ended}".encode(), digest_size=12).hexdigest()
    extra: Mapping[str, str] = job.callback.extra if job.callback is not None else {}
    return {
        "id": identity,
        "event": "job",
        "job": {
            "id": job.id,
            "op": job.op.value,
            "state": state,
            "label": job.label,
            "reason": job.reason,
            "result": dict(job.result),
            "created": job.created,
            "started": job.started,
            "ended": job.ended,
            "items": job.progress.items,
            "items_done": job.progress.items_done,
            "bytes": job.progress.bytes,
            "bytes_done": job.progress.bytes_done,
        },
        "extra": dict(extra),
        **(_for_datamanager(job, identity, extra) if job.origin == "dm" else {}),
    }


def _for_datamanager(job: Job, identity: str, extra: Mapping[str, str]) -> dict[str, Any]:
    """Given a job of a client of the older data manager, return the fields that it looks for."""
    done = job.state is JobState.DONE
    objects = job.result.get("objects")
    made = str(objects[0]) if isinstance(objects, list | tuple) and objects else job.id
    return {
        "MessageID": identity,
        "IncidentID": extra.get("IncidentID", ""),
        "success": done,
        "response": made if done else job.reason or job.state.value,
        **({"originator": extra["originator"]} if "originator" in extra else {}),
    }


def pause_of(attempts: int) -> float:
    """Given how often it was tried in vain before, return the seconds until the next attempt."""
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(attempts, 20))

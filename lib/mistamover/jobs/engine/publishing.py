"""Publishing at the broker: ids of jobs, over one connection that is made anew after every error."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from mistamover.config.serving import EngineSettings
from mistamover.errors import EngineError
from mistamover.files.names import display
from mistamover.jobs.engine import celery_app
from mistamover.jobs.engine.queues import level
from mistamover.jobs.store.announcements import Announcement

logger = logging.getLogger(__name__)

_LONGEST_ERROR = 300


class Publisher:
    """One connection to the broker; used by one thread."""

    def __init__(self, engine: EngineSettings) -> None:
        """Given the settings, connect to nothing yet. Raise EngineError if Celery is not there."""
        self._engine = engine
        self._app = celery_app.make(engine, ())
        self._task = self._app.tasks[celery_app.TASK]
        self._connection: Any = None
        self._producer: Any = None

    @property
    def where(self) -> str:
        """Where the broker is, for people."""
        parts = urlsplit(self._engine.broker_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def open(self) -> None:
        """Connect, unless that has been done. Raise EngineError."""
        if self._connection is None:
            with self._errors():
                self._connect()

    def publish(self, announcements: Sequence[Announcement]) -> None:
        """Given what is to be announced, publish it; what is lost behind that is announced again. Raise EngineError."""
        self.open()
        with self._errors():
            for each in announcements:
                self._task.apply_async(
                    (each.job,),
                    queue=celery_app.queue(each.workers),
                    priority=celery_app.priority(self._engine, level(each.priority)),
                    # Announced once more by then; nobody needs both. By the clock of the broker: ours may differ.
                    expiration=self._engine.announce_again,
                    producer=self._producer,
                    retry=False,
                    timeout=celery_app.TIMEOUT,
                )

    def close(self) -> None:
        """Leave the broker at once; the next message connects anew."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):  # whatever a library makes of a line that is dead
                connection.collect()

    def _connect(self) -> None:
        connection = self._app.connection_for_write()
        try:
            # Not by the client itself, which would sleep and try again.
            connection._connection = connection._establish_connection()
            connection.declared_entities.clear()
            self._producer = self._app.amqp.Producer(connection.channel(), auto_declare=False)
        except BaseException:
            with contextlib.suppress(Exception):
                connection.collect()
            raise
        self._connection = connection

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Make errors of the libraries ours. Raise EngineError."""
        from amqp.exceptions import AMQPError
        from kombu.exceptions import KombuError
        from redis.exceptions import RedisError

        try:
            yield
        except (OSError, AMQPError, KombuError, RedisError) as error:
            words = self._words(error)
            self.close()
            # Without the cause: what it says may hold the login.
            raise EngineError(f"{self.where}: {words}") from None
        except BaseException:
            self.close()
            raise

    def _words(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return "no answer in time"
        words = getattr(error, "reply_text", None) or getattr(error, "strerror", None) or str(error)
        password = urlsplit(self._engine.broker_url).password or ""
        for secret in {password, unquote(password)} - {""}:
            words = str(words).replace(secret, "***")
        return display(str(words or type(error).__name__).encode("utf-8", "surrogateescape"))[:_LONGEST_ERROR]

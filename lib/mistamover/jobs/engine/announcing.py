"""The thread that announces jobs: it looks which are to begin next, marks them, and publishes their ids.

One is in every front, so that workers learn of a job as soon as it is submitted, and one in every worker, for what may
begin because something else has ended, for what was put back, and for what was lost on its way.  Nobody ever waits for
it: it is rung, and what it has to say stands in the store and not in its memory, however many jobs there are.  While
the broker is away, jobs stay unannounced.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from mistamover.config.serving import EngineSettings
from mistamover.errors import MistamoverError
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.engine.publishing import Publisher
from mistamover.jobs.engine.queues import rooms
from mistamover.jobs.store.announcements import Announcement
from mistamover.jobs.store.store import Store

logger = logging.getLogger(__name__)

#: Seconds between two looks, if nobody rings.
_LOOK = 1.0
#: Seconds between two attempts while broker or store are away.
_PAUSE = 1.0
#: Seconds between two looks in any case: rings that come together are answered together.
_SHORTEST = 0.005


class Publishes(Protocol):
    """What takes an announcement to the workers."""

    def open(self) -> None:
        """See to it that the broker is there. Raise EngineError."""

    def publish(self, announcements: list[Announcement]) -> None:
        """Given what is to be announced, publish it. Raise EngineError."""

    def close(self) -> None:
        """Leave the broker."""


class Announcer(threading.Thread):
    """See the module."""

    def __init__(
        self,
        store: Store,
        engine: EngineSettings,
        limits: Callable[[], Mapping[str, int]],
        publisher: Publishes,
    ) -> None:
        """Given the store, the settings, what returns how many jobs may use an endpoint at a time, and what publishes,
        announce nothing yet.
        """
        super().__init__(name="announcer", daemon=True)
        self._store = store
        self._engine = engine
        self._limits = limits
        self._publisher = publisher
        self._rung = threading.Event()
        self._ended = threading.Event()
        self._trouble = ""

    def ring(self) -> None:
        """Have it look soon, from any thread; this never waits."""
        self._rung.set()

    def end(self, seconds: float) -> None:
        """Given how long it may take, announce no more."""
        self._ended.set()
        self._rung.set()
        self.join(seconds)

    def run(self) -> None:
        """Announce until it is ended."""
        while not self._ended.is_set():
            self._rung.clear()
            well = self.look()
            self._ended.wait(_SHORTEST if well else _PAUSE)
            self._rung.wait(_LOOK)
        self._publisher.close()

    def look(self) -> bool:
        """Announce what is to be announced now; return whether that could be done."""
        try:
            # First: what is not marked need not be unmarked.
            self._publisher.open()
            found = self._store.claims.announce(
                rooms(self._store.claims.threads_by_group()),
                again=self._engine.announce_again,
                full=self._store.claims.full_groups(),
                limits=self._limits(),
                owner_max=self._engine.owner_max_running,
            )
            if found:
                self._publish(found)
        except MistamoverError as error:
            if self._trouble != str(error):
                logger.error("jobs cannot be announced: %s", error)
            self._trouble = str(error)
            return False
        except Exception:  # the top of a thread: jobs must be announced all the same
            logger.exception("jobs cannot be announced: an error of the program")
            return False
        if self._trouble:
            logger.info("jobs are announced again")
            self._trouble = ""
        return True

    def _publish(self, found: list[Announcement]) -> None:
        try:
            self._publisher.publish(found)
        except Exception:
            # Some may have gone out: what comes twice does no harm.
            self._store.claims.unannounce([each.job for each in found])
            raise


def announcer_of(engine: EngineSettings, store: Store, endpoints: Endpoints) -> Announcer | None:
    """Given the settings, the store and the endpoints, return what announces; None where workers look by themselves.

    Raise EngineError.
    """
    if engine.kind != "celery":
        return None
    return Announcer(store, engine, partial(limits_of, endpoints), Publisher(engine))


def limits_of(endpoints: Endpoints) -> Mapping[str, int]:
    """Given the endpoints, return how many jobs may use each at a time. Raise StoreError."""
    return {endpoint.name: endpoint.max_parallel for endpoint in endpoints.all()}

"""The thread that renews a worker's claims, writes down how far their items are, and hears who is to be cancelled.

One statement a second for all jobs together.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from mistamover.errors import StoreError
from mistamover.jobs import lines
from mistamover.jobs.model import Standing
from mistamover.jobs.store.store import Store
from mistamover.jobs.work.hold import Hold, clock

logger = logging.getLogger(__name__)

#: Seconds between two renewals, and between two that somebody asked for.
_PERIOD = 1.0
_SHORTEST = 0.2

#: Seconds that a thread gets to notice that its job is to end, before what it waits for is cut.
_PATIENCE = 1.0


class Pulse(threading.Thread):
    """See the module; it beats until it is ended."""

    def __init__(self, store: Store, lease: float, holds: Callable[[], Sequence[Hold]]) -> None:
        """Given the store, the seconds of a lease, and what returns the jobs in our hands, do not beat yet."""
        super().__init__(name="pulse", daemon=True)
        self._store = store
        self._lease = lease
        self._holds = holds
        self._asked = threading.Event()
        self._ended = threading.Event()
        self._trouble = ""

    def hurry(self) -> None:
        """Let the next beat come soon: somebody may want a job to end."""
        self._asked.set()

    def end(self) -> None:
        """Beat no more."""
        self._ended.set()
        self._asked.set()

    def run(self) -> None:
        """Beat until it is ended."""
        while not self._ended.is_set():
            self._asked.clear()
            self.beat()
            self.cut()
            self._ended.wait(_SHORTEST)
            self._asked.wait(min(_PERIOD, self._lease / 4) - _SHORTEST)

    def cut(self) -> None:
        """Cut the lines of those who do not notice that their jobs are to end."""
        for hold in self._holds():
            if hold.thread and hold.hangs(_PATIENCE) and lines.cut(hold.thread):
                logger.info("job %s: is to end and waits for somebody: its connections are cut", hold.claim.job.id)

    def beat(self) -> None:
        """Renew once."""
        holds = self._holds()
        if not holds:
            return
        began = clock()
        steps = {key: step for hold in holds for key, step in hold.take_steps().items()}
        try:
            standings = self._store.claims.renew([hold.claim for hold in holds], self._lease, steps)
        except StoreError as error:
            # Who is not heard of for the length of a lease has lost its jobs, and knows it.
            if str(error) != self._trouble:
                logger.error("claims cannot be renewed: %s", error)
            self._trouble = str(error)
            return
        except Exception:  # the top of a thread: without it, no job could go on
            logger.exception("claims cannot be renewed: an error of the program")
            return
        if self._trouble:
            logger.info("claims are renewed again")
        self._trouble = ""
        for hold in holds:
            hold.renewed(standings.get(hold.claim.token, Standing.LOST), began + self._lease)

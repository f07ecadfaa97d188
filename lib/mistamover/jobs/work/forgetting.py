"""Secrets of jobs that have ended: what the store has deleted goes from its log as well."""

from __future__ import annotations

import time
from collections.abc import Callable

from mistamover.jobs.store.store import Store

#: Seconds that a change may take from its time to its place in the store.
_MARGIN = 30.0


class Forgetting:
    """Looks whether a secret was deleted lately, and empties the log of the store behind it."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        """Given the store and a clock, suppose that one was if ever there was any."""
        self._store = store
        self._clock = clock
        self._since = 0.0

    def look(self) -> None:
        """Empty the log if that is due; what cannot be done now is due the next time. Raise StoreError."""
        began = self._clock()
        if not self._store.jobs.secretive_since(self._since - _MARGIN):
            return
        if self._store.database.forget_traces():
            self._since = began

"""The endpoints, remembered for a moment: every answer needs them, and they hardly ever change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from mistamover.config.serving import EndpointSettings, JobSettings
from mistamover.front import words
from mistamover.jobs.endpoints import Endpoints

#: Seconds for which they are remembered.
_FOR = 1.0


class Known:
    """All endpoints by name, and what is shown in place of their directories. Used by several threads."""

    def __init__(
        self, settings: JobSettings, endpoints: Endpoints, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Given the settings, the endpoints and a monotonic clock, look at nothing yet."""
        self._settings = settings
        self._source = endpoints
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0
        self._endpoints: Mapping[str, EndpointSettings] = {}
        self._instead: Mapping[str, str] = {}

    def endpoints(self) -> Mapping[str, EndpointSettings]:
        """Return them. Raise StoreError."""
        self._refresh()
        return self._endpoints

    def instead(self) -> Mapping[str, str]:
        """Return what stands in a public text instead of which directory. Raise StoreError."""
        self._refresh()
        return self._instead

    def forget(self) -> None:
        """Look again the next time: they were changed."""
        with self._lock:
            self._until = 0.0

    def _refresh(self) -> None:
        with self._lock:
            if self._clock() < self._until:
                return
            found = {endpoint.name: endpoint for endpoint in self._source.all()}
            self._endpoints = found
            self._instead = words.places(self._settings, found.values())
            self._until = self._clock() + _FOR

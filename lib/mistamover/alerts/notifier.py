"""Handing over the events of all streams and incidents to one place, each stream's in order."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from mistamover.alerts.events import Feed
from mistamover.alerts.poster import Event, Poster
from mistamover.alerts.queue import Queue
from mistamover.config.settings import StreamSettings
from mistamover.errors import AlertError, AlertRefused, LedgerError

logger = logging.getLogger(__name__)


class Notifier:
    """What is told to one place, and how far."""

    def __init__(
        self,
        poster: Poster,
        wanted: tuple[str, ...],
        streams: Sequence[StreamSettings],
        directory: Path,
        incidents: Queue,
        began: float,
    ) -> None:
        """Given the way there, which events are wanted, the streams, where positions are kept, the queue of incidents,
        and from when on streams are told that were never told before, have told nothing yet.
        """
        self._poster = poster
        self._wanted = wanted
        self._directory = directory
        self._incidents = incidents
        self._began = began
        self._without_feed = list(streams)
        self._feeds: list[Feed] = []
        self._unreadable = ""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def work(self) -> None:
        """Hand over all there is. Raise AlertError, SecretError when something is not taken, OSError."""
        problems, refusals = self._find_positions(), []
        for feed in self._feeds:
            try:
                self._tell(feed)
            except LedgerError as error:
                problems.append(str(error))
            except AlertRefused as error:
                refusals.append(str(error))
        refusals += self._tell_incidents()
        self._unreadable, before = "; ".join(problems), self._unreadable
        if self._unreadable and self._unreadable != before:
            logger.error("not all ledgers can be read: %s", self._unreadable)
        self._poster.rest()
        if refusals:
            raise AlertRefused("; ".join(dict.fromkeys(refusals)))

    def _find_positions(self) -> list[str]:
        problems: list[str] = []
        for stream in list(self._without_feed):
            try:
                self._feeds.append(Feed(stream, self._directory, self._wanted, self._began))
                self._without_feed.remove(stream)
            except LedgerError as error:
                # The ledger of one stream must not hold up the others.
                problems.append(str(error))
        return problems

    def _tell(self, feed: Feed) -> None:
        while (found := feed.next()) is not None:
            events, position = found
            self._poster.post(events, time.time())
            feed.accept(position)

    def _tell_incidents(self) -> list[str]:
        refusals: list[str] = []
        for path in self._incidents.waiting():
            try:
                event: Event = json.loads(path.read_bytes())
            except FileNotFoundError:
                # Dropped meanwhile.
                continue
            except ValueError:
                raise AlertError(f"{path} holds no event: remove it") from None
            try:
                self._poster.post([event], time.time())
            except AlertRefused as error:
                refusals.append(str(error))
                continue
            self._incidents.remove(path)
        return refusals

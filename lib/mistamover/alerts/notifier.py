"""Posting the events of all streams and incidents, each stream's in order."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from mistamover.alerts import webhook
from mistamover.alerts.events import Feed
from mistamover.alerts.queue import Queue
from mistamover.config.settings import NotifySettings, StreamSettings
from mistamover.errors import AlertError, LedgerError

logger = logging.getLogger(__name__)


class Notifier:
    """What is posted to one URL."""

    def __init__(
        self,
        settings: NotifySettings,
        streams: Sequence[StreamSettings],
        directory: Path,
        incidents: Queue,
        began: float,
    ) -> None:
        """Given where to post, the streams, where positions are kept, the queue of incidents, and from when on streams
        are told that were never told before, have posted nothing yet.
        """
        self._settings = settings
        self._directory = directory
        self._incidents = incidents
        self._began = began
        self._without_feed = list(streams)
        self._feeds: list[Feed] = []
        self._unreadable = ""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def work(self) -> None:
        """Post all there is. Raise AlertError, SecretError when it is not taken, OSError."""
        problems = [*self._find_positions(), *self._post_events()]
        self._post_incidents()
        self._unreadable, before = "; ".join(problems), self._unreadable
        if self._unreadable and self._unreadable != before:
            logger.error("not all ledgers can be read: %s", self._unreadable)

    def _find_positions(self) -> list[str]:
        problems: list[str] = []
        for stream in list(self._without_feed):
            try:
                self._feeds.append(Feed(stream, self._directory, self._settings.events, self._began))
                self._without_feed.remove(stream)
            except LedgerError as error:
                problems.append(str(error))
        return problems

    def _post_events(self) -> list[str]:
        problems: list[str] = []
        for feed in self._feeds:
            try:
                while (found := feed.next()) is not None:
                    events, position = found
                    webhook.post(self._settings, events, time.time())
                    feed.accept(position)
            except LedgerError as error:
                # The ledger of one stream must not hold up the others.
                problems.append(str(error))
        return problems

    def _post_incidents(self) -> None:
        for path in self._incidents.waiting():
            try:
                event: webhook.Event = json.loads(path.read_bytes())
            except FileNotFoundError:
                # Dropped meanwhile.
                continue
            except ValueError:
                raise AlertError(f"{path} holds no event: remove it") from None
            webhook.post(self._settings, [event], time.time())
            self._incidents.remove(path)

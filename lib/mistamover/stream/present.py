"""What a stream says about itself: its snapshot, written when it has changed."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace

from mistamover.files.names import display
from mistamover.model import Reason, StreamState
from mistamover.report import snapshot as snapshots
from mistamover.report.snapshot import Snapshot, Undelivered
from mistamover.stream.books import Books
from mistamover.stream.roll import Candidate
from mistamover.stream.route import Route

logger = logging.getLogger(__name__)

#: Seconds between two snapshots while something happens.
_PAUSE = 0.5

#: Undelivered units that are named: in a snapshot, and at the end of a one-off run.
_MOST_NAMED = 100
_MOST_NAMED_AT_END = 10_000


class Presenter:
    """Writes the snapshots of one stream."""

    def __init__(self, books: Books, route: Route) -> None:
        """Given the books and the route, have said nothing yet."""
        self._books = books
        self._route = route
        self._started = time.time()
        self._last: Snapshot | None = None
        self._next = 0.0

    @property
    def next_moment(self) -> float:
        """Seconds until something may be written again; 0 when nothing was held back."""
        return max(0.0, self._next - time.monotonic())

    def show(
        self,
        state: StreamState,
        hold: Reason | None,
        problems: dict[bytes, str],
        refused: str,
        gap: str,
        *,
        final: bool = False,
    ) -> None:
        """Given the state, why nothing is sent, what could not be read, what a mirror refuses to remove and why not all
        is watched, write it.

        At most twice a second unless `final`, and only when something has changed.
        """
        if not final and time.monotonic() < self._next:
            return
        snapshot = self._take(state, hold, problems, refused, gap, _MOST_NAMED_AT_END if final else _MOST_NAMED)
        if not final and self._last is not None and replace(self._last, updated=snapshot.updated) == snapshot:
            return
        try:
            snapshots.write(self._books.settings.state_dir, snapshot)
        except OSError as error:
            logger.error("cannot write the status: %s", error)
        self._last = snapshot
        self._next = time.monotonic() + _PAUSE

    def _take(
        self, state: StreamState, hold: Reason | None, problems: dict[bytes, str], refused: str, gap: str, most: int
    ) -> Snapshot:
        books, counts = self._books, self._books.counts
        now = time.time()
        waiting = [c for c in books.roll if not c.travelling]
        sent, bytes_sent, bytes_sending = self._route.under_way()
        error, error_at = books.last_error or (_scan_problem(books.root, problems) or gap or None, None)
        return Snapshot(
            name=books.settings.name,
            state=state,
            since=self._started,
            updated=now,
            pid=os.getpid(),
            seen=counts.seen,
            delivered=counts.delivered,
            quarantined=counts.quarantined,
            released=counts.released,
            ignored=counts.ignored,
            waiting=len(books.roll),
            sending=self._route.travelling,
            sent=sent,
            bytes_sending=bytes_sending,
            bytes_sent=bytes_sent,
            more_on_disk=books.roll.room == 0,
            bytes_delivered=counts.bytes_delivered,
            rate=round(counts.rate(now), 1),
            oldest_waiting=min((c.first_seen for c in books.roll), default=None),
            last_error=error,
            last_error_at=error_at,
            hold=hold.text if hold else refused or None,
            retry_at=self._route.circuit.retry_at if not self._route.circuit.closed else None,
            directories=len(books.directories),
            scan_problems=len(problems),
            undelivered=tuple(Undelivered(name=display(c.name), reason=_why(c, hold)) for c in waiting[:most]),
        )


def _why(candidate: Candidate, hold: Reason | None) -> str:
    if hold is not None:
        return hold.text
    if candidate.failure and candidate.retry_at > time.time():
        return f"tried again later: {candidate.failure}"
    if candidate.decision is None:
        return "not looked at yet"
    return candidate.decision.reasons[-1].text


def _scan_problem(root: bytes, problems: dict[bytes, str]) -> str | None:
    for name, words in problems.items():
        return f"cannot read {display(name) or display(root)}: {words}"
    return None

"""The roll of one stream: every unit that was seen and has not ended yet, and when to look at it next.

Bounded: what does not fit stays on disk and is found by a later scan.
"""

from __future__ import annotations

import heapq
import itertools
import os
from collections.abc import Iterator

from mistamover.model import Decision, Identity, Kind, TreeEntry, Unit

#: Units in memory at most.
LIMIT = 20_000

AT_ONCE = 0.0


class Candidate:
    """One unit on the roll; changed in place by the stream's own thread only."""

    __slots__ = (
        "again",
        "attempts",
        "churn",
        "decision",
        "delivered",
        "failure",
        "first_seen",
        "handles",
        "heard_at",
        "held_up",
        "identity",
        "kind",
        "links",
        "look_at",
        "manifest",
        "name",
        "observed",
        "replaces",
        "retry_at",
        "travelling",
        "troubled",
    )

    def __init__(self, name: bytes, kind: Kind, identity: Identity, links: int, now: float) -> None:
        self.name = name
        self.kind = kind
        self.identity = identity
        self.links = links
        self.first_seen = now
        self.observed = now
        """Since when it has been seen with this identity."""
        self.heard_at = now
        """When an event or a scan last told of it."""
        self.again = False
        """Whether something was heard of it while it travelled."""
        self.attempts = 0
        self.retry_at = 0.0
        self.failure = ""
        self.troubled = False
        """Whether the ledger holds a note about it."""
        self.churn = 0
        """How often it changed under way; only slows the next look down."""
        self.look_at: float | None = AT_ONCE
        """When to look at it next; None while it is ready or travelling, or only an event can change anything."""
        self.held_up = False
        """Whether this host lacked what sending it needs when that was tried last."""
        self.travelling = False
        self.delivered: Identity | None = None
        """Mirror: what it was when it was last delivered."""
        self.replaces: Identity | None = None
        """Mirror: the zip of it that was delivered last."""
        self.decision: Decision | None = None
        self.handles: dict[bytes, int] = {}
        """Descriptors that hold leases: its own, or those of a directory unit's files."""
        self.manifest: tuple[TreeEntry, ...] = ()

    def remember(self, attempts: int, retry_at: float, failure: str, first_seen: float) -> None:
        """Given what the ledger knows from an earlier run, take it over."""
        self.attempts = attempts
        self.retry_at = retry_at
        self.failure = failure
        self.first_seen = first_seen
        self.troubled = True

    def unit(self) -> Unit:
        """Return the frozen form that goes into a batch."""
        return Unit(
            name=self.name,
            kind=self.kind,
            identity=self.identity,
            links=self.links,
            first_seen=self.first_seen,
            attempts=self.attempts,
            manifest=self.manifest,
            replaces=self.replaces,
        )

    def size(self) -> int:
        """Return the bytes that it will send."""
        if self.kind is Kind.TREE:
            return sum(entry.identity.size for entry in self.manifest if entry.kind is Kind.FILE)
        return self.identity.size

    def release(self) -> None:
        """Let go of every lease."""
        for handle in self.handles.values():
            os.close(handle)
        self.handles.clear()


class Roll:
    """All candidates, by name and by the time of their next look."""

    def __init__(self) -> None:
        self._by_name: dict[bytes, Candidate] = {}
        self._heap: list[tuple[float, int, int, bytes]] = []
        self._numbers = itertools.count()

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._by_name.values())

    def get(self, name: bytes) -> Candidate | None:
        """Given a name, return its candidate, if it is on the roll."""
        return self._by_name.get(name)

    @property
    def room(self) -> int:
        """How many more units fit."""
        return max(0, LIMIT - len(self._by_name))

    def add(self, candidate: Candidate) -> None:
        """Given a new candidate, put it on the roll, to be looked at when it says."""
        self._by_name[candidate.name] = candidate
        self.look(candidate, candidate.look_at)

    def drop(self, candidate: Candidate) -> None:
        """Given a candidate that has ended, take it off the roll."""
        candidate.release()
        self._by_name.pop(candidate.name, None)

    def look(self, candidate: Candidate, when: float | None) -> None:
        """Given a candidate and a time, plan its next look; units with the same time go oldest first."""
        candidate.look_at = when
        if when is not None:
            entry = (when, candidate.identity.mtime_ns, next(self._numbers), candidate.name)
            heapq.heappush(self._heap, entry)

    def due(self, now: float) -> Candidate | None:
        """Given the time, return the next candidate to look at, and plan no further look; None if none is due."""
        while self._heap and self._heap[0][0] <= now:
            when, _, _, name = heapq.heappop(self._heap)
            candidate = self._by_name.get(name)
            if candidate is not None and candidate.look_at == when and not candidate.travelling:
                candidate.look_at = None
                return candidate
        return None

    def next_look(self) -> float | None:
        """Return the time of the earliest planned look."""
        while self._heap:
            when, _, _, name = self._heap[0]
            candidate = self._by_name.get(name)
            if candidate is not None and candidate.look_at == when:
                return when
            heapq.heappop(self._heap)
        return None

    def evict(self, now: float) -> int:
        """Given the time, take half of those that must wait off a full roll; a later scan finds them again."""
        waiting = [c for c in self if not c.travelling and c.look_at is not None and c.look_at > now]
        victims = waiting[: len(waiting) // 2]
        for candidate in victims:
            self.drop(candidate)
        return len(victims)

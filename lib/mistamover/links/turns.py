"""Who sends next when many streams have much for one target.  Pure: no clock, no I/O.

Fair queueing by start tags (Goyal, Vin and Cheng, 1996): each stream has a tally of what it has sent, divided by
its weight; the request with the lowest tally is served first.  A stream that was idle starts at the tally
of what is being served now: it is ahead of those that have sent much, and cannot save up turns.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A stream that has a large batch ready for a target."""

    target: str
    stream: str
    weight: float
    """How much of the target it gets in relation to others: its priority."""
    cost: float
    """How much it has to send; in any unit, as long as it is the same for all."""


@dataclass(slots=True)
class _Line:
    """What stands in line for one target."""

    waiting: dict[int, tuple[float, Request]] = field(default_factory=dict)
    """By ticket: the start tag and the request."""
    served: set[int] = field(default_factory=set)
    tallies: dict[str, float] = field(default_factory=dict)
    now: float = 0.0
    """The start tag of the request that was served last."""


class Turns:
    """The lines of all targets."""

    def __init__(self, at_once: int) -> None:
        """Given how many requests are served at a time for each target, begin with nobody in line."""
        self._at_once = at_once
        self._tickets = itertools.count(1)
        self._lines: dict[str, _Line] = {}
        self._target: dict[int, str] = {}

    def ask(self, request: Request) -> int:
        """Given a request, put it in line; return its ticket. `next` tells when it is served."""
        ticket = next(self._tickets)
        line = self._lines.setdefault(request.target, _Line())
        start = max(line.now, line.tallies.get(request.stream, 0.0))
        line.tallies[request.stream] = start + _share(request)
        line.waiting[ticket] = (start, request)
        self._target[ticket] = request.target
        return ticket

    def next(self) -> list[int]:
        """Return the tickets that are to be served now; each is returned once."""
        tickets = []
        for line in self._lines.values():
            while line.waiting and len(line.served) < self._at_once:
                ticket = min(line.waiting, key=lambda t: (line.waiting[t][0], t))
                line.now, _ = line.waiting.pop(ticket)
                line.served.add(ticket)
                tickets.append(ticket)
        return tickets

    def done(self, ticket: int) -> None:
        """Given a ticket that was served, or is not wanted any more, forget it."""
        target = self._target.pop(ticket, None)
        if target is None:
            return
        line = self._lines[target]
        line.served.discard(ticket)
        if ticket in line.waiting:
            # It was never served: what it would have cost is not owed.
            _, request = line.waiting.pop(ticket)
            line.tallies[request.stream] -= _share(request)
        if not line.waiting and not line.served:
            # Nobody is in line: nobody has an old debt either.
            del self._lines[target]


def _share(request: Request) -> float:
    """Return what a request takes of its stream's share."""
    return request.cost / max(request.weight, 1.0)

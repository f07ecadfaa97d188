"""Log messages that belong to no incident, collected so that they travel in one mail.  Pure: the clock is given."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

#: Different messages that one mail repeats, and that are remembered as told.
_MOST_MESSAGES = 100
_MOST_TOLD = 1000

#: Seconds by which a message may come before the look that finds its incident.
_AHEAD = 10.0

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One message of a log file."""

    component: str
    """Name of the log file without its ending."""
    owner: str
    """The stream that it speaks of, or what else an incident may concern."""
    level: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message and how often it came."""

    line: Line
    first: float
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What has been collected and not been told yet."""

    messages: tuple[Message, ...] = ()
    missed: int = 0
    """Messages beyond the most that are kept."""
    told: Mapping[str, float] = field(default_factory=dict)
    """When a message of this shape was told last."""


def collect(before: Collection, lines: Iterable[Line], now: float) -> Collection:
    """Given what is collected, further lines and the time, return both together; equal messages are counted."""
    by_shape = {_shape(message.line): message for message in before.messages}
    missed = before.missed
    for line in lines:
        shape = _shape(line)
        if (known := by_shape.get(shape)) is not None:
            by_shape[shape] = replace(known, line=line, count=known.count + 1)
        elif len(by_shape) < _MOST_MESSAGES:
            by_shape[shape] = Message(line=line, first=now)
        else:
            missed += 1
    return replace(before, messages=tuple(by_shape.values()), missed=missed)


def due(
    before: Collection, concerned: Mapping[str, float], now: float, *, collect_time: float, remind_interval: float
) -> tuple[Collection, Collection]:
    """Given what is collected, when an owner was last concerned by an incident, and the time, return what stays
    collected, and what is to be told now: both empty, or one of them.

    What belongs to an incident is told with it.  What was told within `remind_interval` (0: ever) is not told anew.
    """
    if not before.messages or now - before.messages[0].first < collect_time:
        return before, Collection()
    told = {shape: when for shape, when in before.told.items() if not remind_interval or now - when < remind_interval}
    news = tuple(
        message
        for message in before.messages
        if concerned.get(message.line.owner, -math.inf) < message.first - _AHEAD and _shape(message.line) not in told
    )
    told |= {_shape(message.line): now for message in news}
    latest = dict(sorted(told.items(), key=lambda pair: pair[1])[-_MOST_TOLD:])
    return Collection(told=latest), Collection(messages=news, missed=before.missed)


def _shape(line: Line) -> str:
    """The message without its numbers: a pause or a process id makes no other message of it."""
    return f"{line.component} {line.level} {_NUMBER.sub('#', line.message)}"

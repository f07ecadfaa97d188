"""When an incident begins to be told, is told again, and is over.  Pure: what is the case and the clock are given.

A condition is what is wrong at one look.  An incident is a condition that lasts: it is told when it has lasted for
`after`, told again every `remind_interval`, and told to be over when its condition has been away for `after`.  What
goes away sooner is told to nobody; what comes and goes all the time counts as lasting.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace


class Kind(enum.Enum):
    """What can be wrong."""

    UNREACHABLE = "unreachable"  # a target's circuit is open
    QUARANTINED = "quarantined"  # a stream has set something aside
    DYING = "dying"  # the process of a stream does not stay alive
    DISK = "disk"  # a filesystem is so full that somebody has to wait
    CONFIGURATION = "configuration"  # a file cannot be used as it is


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that is wrong at one look, with what is known of it."""

    kind: Kind
    subject: str
    """The host, stream or file that is concerned; with the kind it tells one condition from another."""
    words: str
    """What is wrong, in one sentence."""
    streams: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """The first of the units that are concerned, for people."""
    count: int = 0
    """How many units are concerned in all."""
    example: str = ""
    """Path of one of them (surrogates stand for bytes that are no text), to ask `why` about."""
    retry: str = ""
    """The command that has it tried again."""

    @property
    def key(self) -> str:
        """What stays the same from look to look."""
        return f"{self.kind.value} {self.subject}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A condition with its history; times in seconds since the epoch."""

    condition: Condition
    """As it was seen last."""
    began: float
    gone: float | None = None
    """Since when the condition has been away; None while it is there."""
    told: float | None = None
    """When it was told last; None before it is told at all."""
    reminders: int = 0

    @property
    def id(self) -> str:
        """A short name that is the same in every message about this incident."""
        return hashlib.blake2b(f"{self.condition.key} {self.began!r}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How long to wait with what; all in seconds."""

    after: float
    remind_interval: float
    """0 reminds of nothing."""
    gather: float
    """What is due within so many seconds is told together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What is to be told now, in one message."""

    opened: tuple[Incident, ...] = ()
    reminded: tuple[Incident, ...] = ()
    closed: tuple[Incident, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.opened or self.reminded or self.closed)


def incidents(
    before: Iterable[Incident], seen: Iterable[Condition], now: float, rules: Rules
) -> tuple[tuple[Incident, ...], News]:
    """Given the incidents known so far, what is wrong now, and the time, return those known from now on, and the news.

    The incidents returned count the news as told.
    """
    known = _brought_up_to_date(before, seen, now)
    waited = [now - due for due in (_due(incident, rules) for incident in known) if due is not None]
    if not waited or max(waited) < rules.gather:
        return tuple(each for each in known if not _forgotten(each, now, rules)), News()
    due = [each for each in known if (moment := _due(each, rules)) is not None and moment <= now]
    news = News(
        opened=tuple(each for each in due if each.told is None),
        reminded=tuple(each for each in due if each.told is not None and each.gone is None),
        closed=tuple(each for each in due if each.told is not None and each.gone is not None),
    )
    after = [_told(each, now) if each in due else each for each in known if each not in news.closed]
    return tuple(each for each in after if not _forgotten(each, now, rules)), news


def _brought_up_to_date(before: Iterable[Incident], seen: Iterable[Condition], now: float) -> list[Incident]:
    there = {condition.key: condition for condition in seen}
    known: list[Incident] = []
    for incident in before:
        condition = there.pop(incident.condition.key, None)
        if condition is not None:
            known.append(replace(incident, condition=condition, gone=None))
        else:
            known.append(incident if incident.gone is not None else replace(incident, gone=now))
    return known + [Incident(condition=condition, began=now) for condition in there.values()]


def _due(incident: Incident, rules: Rules) -> float | None:
    """Return when there is something to tell about the incident as it is now; None if there is not."""
    if incident.told is None:
        return incident.began + rules.after if incident.gone is None else None
    if incident.gone is not None:
        return incident.gone + rules.after
    return incident.told + rules.remind_interval if rules.remind_interval else None


def _forgotten(incident: Incident, now: float, rules: Rules) -> bool:
    """Whether it went away before anybody was told."""
    return incident.told is None and incident.gone is not None and now - incident.gone >= rules.after


def _told(incident: Incident, now: float) -> Incident:
    return replace(incident, told=now, reminders=incident.reminders + (incident.told is not None))

"""What a mail about incidents or messages says."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator

from mistamover.alerts.digest import Collection
from mistamover.alerts.incidents import Condition, Incident, News
from mistamover.alerts.mail import Mail

Explain = Callable[[str], str]
"""Given a path, return what `why` says of it; empty if it says nothing."""

#: Incidents of one mail for which `why` is asked.
_MOST_EXPLAINED = 3


def of_incidents(news: News, explain: Explain, now: float, host: str) -> Mail:
    """Given news, how to explain a path, the time and this host's name, return the mail."""
    explained = 0
    lines = [f"MiStaMover on {host}, {moment(now)}", ""]
    for heading, incidents in (
        ("", news.opened),
        ("Still so: ", news.reminded),
        ("Over: ", news.closed),
    ):
        for incident in incidents:
            lines += _incident(incident, heading, now)
            if incident.gone is None and incident.condition.example and explained < _MOST_EXPLAINED:
                explained += 1
                lines += _explained(incident.condition, explain)
            lines.append("")
    steps = [f"{each.id} {each.reminders} {each.gone is not None}" for each in _all(news)]
    return Mail(id=_id(steps), subject=_subject(news), body="\n".join(lines) + "\n", created=now)


def of_messages(collection: Collection, now: float, host: str) -> Mail:
    """Given collected messages, the time and this host's name, return the mail."""
    lines = [f"MiStaMover on {host}, {moment(now)}", "", "Its log files have these messages:", ""]
    for message in collection.messages:
        times = f" ({message.count} times, the last one:)" if message.count > 1 else ""
        line = message.line
        lines.append(f"{moment(message.first)} {line.component}.log {line.level}{times} {line.message}")
    if collection.missed:
        lines.append(f"and {collection.missed} more: see the log files")
    number = sum(message.count for message in collection.messages) + collection.missed
    first = collection.messages[0].line
    subject = f"{first.level}: {first.message}" if number == 1 else f"{number} messages in the log files"
    steps = [f"{message.line} {message.first!r} {message.count}" for message in collection.messages]
    return Mail(id=_id(steps), subject=subject, body="\n".join(lines) + "\n", created=now)


def moment(when: float) -> str:
    """Given a time, return it for people, with the offset of the clock."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(when))


def length(seconds: float) -> str:
    """Given a length of time, return it for people in whole units."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            number = int(seconds // size)
            return f"{number} {unit}{'s' if number > 1 else ''}"
    return f"{int(seconds)} s"


def _all(news: News) -> Iterable[Incident]:
    return (*news.opened, *news.reminded, *news.closed)


def _subject(news: News) -> str:
    parts = [_title(each.condition) for each in news.opened]
    parts += [f"still: {_title(each.condition)}" for each in news.reminded]
    parts += [f"over: {_title(each.condition)}" for each in news.closed]
    more = f" (and {len(parts) - 1} more)" if len(parts) > 1 else ""
    return parts[0] + more


def _title(condition: Condition) -> str:
    number = f" ({condition.count})" if condition.count else ""
    return f"{condition.kind.value}: {condition.subject}{number}"


def _incident(incident: Incident, heading: str, now: float) -> Iterator[str]:
    condition = incident.condition
    yield f"{heading}{condition.words[:1].upper()}{condition.words[1:]}."
    if incident.gone is not None:
        yield f"It began at {moment(incident.began)} and was over at {moment(incident.gone)}."
        return
    yield f"Since {moment(incident.began)} ({length(now - incident.began)})."
    if condition.streams:
        yield f"Streams: {', '.join(condition.streams)}"
    yield from (line for line in condition.details if line)
    if condition.count:
        yield f"Concerned: {condition.count} {'file' if condition.count == 1 else 'files'}"
        yield from (f"  {name}" for name in condition.files)
        if condition.count > len(condition.files):
            yield f"  and {condition.count - len(condition.files)} more"
    if condition.retry:
        yield f"To have it tried again: {condition.retry}"


def _explained(condition: Condition, explain: Explain) -> Iterator[str]:
    text = explain(condition.example)
    if text:
        yield ""
        yield "mistamover why says:"
        yield from (f"  {line}" for line in text.splitlines())


def _id(steps: Iterable[str]) -> str:
    return hashlib.blake2b("\n".join(steps).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()

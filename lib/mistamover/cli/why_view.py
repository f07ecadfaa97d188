"""How the answer of `mistamover why` reads: the verdict first, then what it rests on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from mistamover.cli import why_arrival
from mistamover.cli.common import human_age, human_bytes, human_time, human_wait, plural, printable
from mistamover.cli.openers import Opener
from mistamover.cli.why_answer import Answer
from mistamover.config.settings import StreamSettings, TransferMode
from mistamover.files.names import display
from mistamover.model import Action, Decision, Kind, StreamState
from mistamover.stream import pause
from mistamover.stream.ledger import Delivery, Release, Trouble
from mistamover.stream.records import still_there
from mistamover.stream.words import retry_command

_MOST_DELIVERIES = 5
_MOST_OPENERS = 20


def in_words(found: Answer) -> list[str]:
    """Given the answer, return its lines."""
    place = found.place
    lines = [display(place.path), f"  {_stream_line(place.stream)}", ""]
    lines.append(_verdict(found))
    lines += [f"Note: {printable(remark)}." for remark in found.remarks]
    if found.decision is not None:
        lines += _of_the_decision(found, found.decision)
    if found.openers is not None:
        lines += _who_has_it_open(found)
    if found.trouble is not None:
        lines += _of_the_trouble(found.trouble, place.stream, found)
    if found.quarantine_note:
        lines += ["", "The note beside it says:"]
        lines += [f"  {printable(line)}" for line in found.quarantine_note.splitlines() if line.strip()]
    if found.releases:
        lines += ["", *(_of_the_release(release) for release in found.releases[:_MOST_DELIVERIES])]
    if found.deliveries:
        lines += _of_the_deliveries(found)
    if found.arrival is not None:
        lines += why_arrival.in_words(found.arrival)
    return lines


def _stream_line(stream: StreamSettings) -> str:
    where = ", ".join(f"{target.host}:{target.directory}" for target in stream.targets) or "nowhere"
    return printable(f"stream {stream.name}: {stream.mode.value} {stream.directory} to {where}")


# -- the verdict ------------------------------------------------------------------------------


def _verdict(found: Answer) -> str:
    if found.decision is not None:
        return _decision_in_words(found, found.decision)
    if found.place.in_quarantine:
        return _quarantine_in_words(found)
    stream, arrival = found.place.stream.name, found.arrival
    if arrival is not None and arrival.reason:
        return why_arrival.verdict(arrival)
    if found.trouble is not None and found.trouble.quarantined:
        return f"It is not there any more: QUARANTINED. {_sentence(found.trouble.reason)}"
    if found.releases and (not found.deliveries or found.releases[0].when > found.deliveries[0].confirmed):
        return f"It is not there any more: {_sentence(found.releases[0].words)}"
    if found.deliveries:
        return _delivered_in_words(found.deliveries[0])
    if found.trouble is not None:
        return "It is not there any more, and it was not delivered: after failed attempts it was taken away by others."
    if arrival is not None:
        return why_arrival.verdict(arrival)
    return f"It is not there, and it was never delivered or quarantined by the stream {stream}: nothing is known of it."


def _decision_in_words(found: Answer, decision: Decision) -> str:
    why = _sentence(decision.reasons[0 if found.otherwise is not None else -1].text)
    if decision.action is Action.SEND:
        return f"SEND: it leaves with the next batch. {why}"
    if decision.action is Action.WAIT:
        return f"WAIT: {why}"
    if decision.reasons[-1].code == "released":
        return f"IGNORE: it is not sent unless it changes. {why}"
    if decision.action is Action.IGNORE:
        return f"IGNORE: it is never sent. {why}"
    if decision.action is Action.DONE:
        return f"DONE: there is nothing to do. {why}"
    there = found.trouble is not None and found.trouble.quarantined
    return f"QUARANTINE: it {'is not tried again until it changes' if there else 'will be quarantined'}. {why}"


def _quarantine_in_words(found: Answer) -> str:
    gone = "" if found.kind is not None else "It is not there any more. "
    if found.trouble is not None:
        return f"{gone}QUARANTINED: {_sentence(found.trouble.reason)}"
    if found.releases:
        return f"{gone}{_sentence(found.releases[0].words)}"
    if found.quarantine_note:
        return f"{gone}QUARANTINED: the ledger has no record of it any more."
    if found.kind is not None:
        return "It is in the quarantine directory, where nothing is sent, but the stream did not put it there."
    return "It is not there, and nothing is known of it."


def _delivered_in_words(last: Delivery) -> str:
    where = f"to {printable(last.target)} at {human_time(last.confirmed)}"
    if last.handed_over is None:
        return f"DELIVERED {where}. It is gone here; that its source was removed is not recorded yet."
    if last.kept:
        return f"DELIVERED {where}. Its source was kept then ({printable(last.kept)}), and is gone now."
    return f"DELIVERED {where}, and gone here."


def _sentence(text: str) -> str:
    text = printable(text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


# -- what it rests on -------------------------------------------------------------------------


def _of_the_decision(found: Answer, decision: Decision) -> Iterator[str]:
    yield ""
    yield "Reasons, in order:"
    for number, reason in enumerate(decision.reasons, 1):
        yield f"  {number}. {printable(reason.text)}"
    if found.otherwise is not None:
        yield f"Without what holds the whole stream it would be: {_would(found.otherwise)}"
    next_look = _next_look(found, decision)
    if next_look:
        yield f"Looked at next: {next_look}"
    last = found.snapshot
    if found.served and last is not None and last.more_on_disk:
        yield "More units wait than fit into memory: it may be taken in only when others have left."


def _would(decision: Decision) -> str:
    words = {Action.SEND: "sent with the next batch", Action.WAIT: "waiting"}
    return f"{words.get(decision.action, decision.action.value)} ({printable(decision.reasons[-1].text)})"


def _next_look(found: Answer, decision: Decision) -> str:
    """When the engine looks at it next; empty where that says nothing."""
    last, stream = found.snapshot, found.place.stream
    if not found.served:
        return "when a process serves the stream again"
    codes = {reason.code for reason in decision.reasons}
    if pause.CODE in codes:
        return f"at once after: mistamover resume {shlex.quote(stream.name)}"
    if "stop-here" in codes:
        return f"within a second after {printable(stream.stop_file)} is removed here"
    if "stop-there" in codes and stream.targets:
        return f"the target is asked every {stream.targets[0].stop_file_poll_interval:g} s if it may go on"
    if "circuit" in codes and last is not None and last.retry_at is not None:
        return f"the target is tried again {human_wait(last.retry_at, found.now)}"
    if decision.action is Action.WAIT:
        if decision.look_again is not None:
            return f"at the latest {human_wait(decision.look_again, found.now)}; at once when it is closed or changes"
        return "when it changes"
    if decision.action is Action.SEND:
        on_its_way = last is not None and last.state is StreamState.SENDING
        return "now; a batch is on its way, and it may be part of it" if on_its_way else "now"
    return ""


def _who_has_it_open(found: Answer) -> Iterator[str]:
    openers = found.openers
    assert openers is not None
    yield ""
    own = found.snapshot.pid if found.snapshot is not None and found.served else None
    if openers.seen:
        yield "Open in:"
        yield from (f"  {_opener(opener, own)}" for opener in openers.seen[:_MOST_OPENERS])
        if len(openers.seen) > _MOST_OPENERS:
            yield f"  and {len(openers.seen) - _MOST_OPENERS} more"
    else:
        yield "Open in no process" + (" that we may look into." if openers.hidden else ".")
    if openers.hidden:
        yield (
            f"{openers.hidden} processes of other users were not looked into: only root may; "
            f"a program on another machine is never seen."
        )


def _opener(opener: Opener, own: int | None) -> str:
    what = "for writing" if opener.writing else "for reading"
    whose = ", which serves this stream" if opener.pid == own else ""
    return f"process {opener.pid} ({opener.program}, user {opener.user}) {what}{whose}"


def _of_the_trouble(trouble: Trouble, stream: StreamSettings, found: Answer) -> Iterator[str]:
    yield ""
    tries = max(1, stream.retry_count)
    if trouble.attempts:
        yield (
            f"{trouble.attempts} of {plural(tries, 'attempt')} failed (first seen {human_time(trouble.since)}); "
            f"the last one: {printable(trouble.reason)}"
        )
    else:
        yield f"First seen {human_time(trouble.since)}: {printable(trouble.reason)}"
    if not trouble.quarantined:
        if trouble.retry_at and found.kind is not None:
            yield f"Next attempt: {human_wait(trouble.retry_at, found.now)}"
        return
    if trouble.moved_to is None:
        yield "It was quarantined where it is: it is tried again when it changes."
        yield f"To have it tried again at once: {retry_command(stream.name, trouble.name)}"
    elif still_there(trouble, None):
        yield f"Quarantined as {display(trouble.moved_to)}"
        yield f"To have it tried again: {retry_command(stream.name, trouble.name)}"
    else:
        yield f"It was quarantined as {display(trouble.moved_to)}, and somebody has taken it from there."


def _of_the_release(release: Release) -> str:
    words = f"{_sentence(release.words)[:-1]}, and left as {display(release.place)}"
    return printable(f"{words}; it had been quarantined because: {release.reason}")


def _of_the_deliveries(found: Answer) -> Iterator[str]:
    yield ""
    number = len(found.deliveries)
    yield "Delivered:" if number == 1 else f"Delivered {number} times, the latest first:"
    for delivery in found.deliveries[:_MOST_DELIVERIES]:
        yield from (f"  {line}" for line in _delivery(delivery, found.place.stream, found.place.unit))
    if number > _MOST_DELIVERIES:
        more = f"mistamover history {printable(found.place.stream.name)} --name NAME"
        yield f"  and {number - _MOST_DELIVERIES} earlier ones: {more}"


def _delivery(delivery: Delivery, stream: StreamSettings, unit: bytes) -> Iterator[str]:
    size = human_bytes(delivery.identity.size)
    if delivery.kind is Kind.FILE and delivery.identity.size >= 1024:
        size += f" = {delivery.identity.size} bytes"
    words = [size if delivery.kind is Kind.FILE else delivery.kind.value]
    words += [f"{delivery.algorithm} {delivery.digest}"] if delivery.digest else []
    words.append(f"{human_age(delivery.confirmed - delivery.first_seen)} after it was first seen")
    if delivery.attempts:
        words.append(f"{delivery.attempts} failed before")
    part = "" if delivery.name == unit else f" {display(delivery.name)}:"
    yield f"{human_time(delivery.confirmed)} to {printable(delivery.target)}:{part} {', '.join(words)}"
    if delivery.kept:
        yield f"  source kept: {printable(delivery.kept)}"
    elif delivery.handed_over is None:
        yield "  the removal of the source is not recorded yet"
    elif stream.mode is TransferMode.MOVE:
        yield f"  source removed {human_time(delivery.handed_over)}"
    else:
        yield "  source kept: it is a mirror"

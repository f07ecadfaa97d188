"""`mistamover why`: what will happen to one file and why, or what has become of it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mistamover.cli import why_arrival
from mistamover.cli.common import add_config_option, emit, iso_time, load_settings, print_json, printable
from mistamover.cli.history import record
from mistamover.cli.openers import Openers
from mistamover.cli.why_answer import Answer, answer
from mistamover.cli.why_place import locate
from mistamover.cli.why_view import in_words
from mistamover.config.settings import StreamSettings, TransferMode
from mistamover.files.names import display, json_name
from mistamover.model import Action, Decision
from mistamover.stream.ledger import Release, Trouble

NAME = "why"
HELP = "explain why a file has not left, or when and where it went"

_EPILOG = """\
PATH is a path as for ls, of something that is there or was there; or STREAM:NAME with a name relative to the
stream's directory. It may also be something in a quarantine directory, or in an incoming directory.

Exit status: 0 the question is answered, whatever the answer is; 1 nothing is known about it; 2 wrong words (also:
no stream has this path) or configuration.

Examples:
  mistamover why -c conf/global.ini /data/demo/run7.nc
  mistamover why demo:2026/run7.nc                 the same by stream and name, for one that has gone
  mistamover why demo:run7.nc --json               for programs
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Explain what will happen to one file and why; or what has become of it. The decision is\n"
        "taken by the same code that the service uses, on the file as it is now. Nothing is changed."
    )
    parser.epilog = _EPILOG
    add_config_option(parser)
    parser.add_argument("path", metavar="PATH", help="a path, or STREAM:NAME")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, print the answer; return 1 if nothing is known, else 0.

    Raise ConfigError, UsageError, LedgerError, MistamoverError.
    """
    settings = load_settings(arguments)
    place = locate(arguments.path, settings.streams, os.getcwdb())
    now = time.time()
    whole = settings.stream(place.stream.part_of) or place.stream
    if not whole.parts or arguments.path.startswith(f"{place.stream.part_of}@"):
        found = [answer(place, now)]
    else:
        found = [answer(replace(place, stream=part), now) for part in whole.parts]
    if arguments.json:
        print_json(as_json(found[0]) if len(found) == 1 else _parts_json(whole.name, found))
    elif len(found) == 1:
        emit(*in_words(found[0]))
    else:
        for each in found:
            emit(f"{each.place.stream.name}:", *(f"  {line}" for line in in_words(each)), "")
        emit(_together(whole, found))
    return 0 if any(each.known for each in found) else 1


def as_json(found: Answer) -> dict[str, Any]:
    """Given the answer, return it as JSON takes it."""
    place, last = found.place, found.snapshot
    return {
        **json_name(place.name),
        "stream": place.stream.name,
        "path": display(place.path),
        "unit": json_name(place.unit),
        "in_quarantine": place.in_quarantine,
        "known": found.known,
        "exists": found.kind is not None,
        "kind": found.kind.value if found.kind else None,
        "served": found.served,
        **_decision_json(found.decision),
        "otherwise": _decision_json(found.otherwise) if found.otherwise else None,
        "retry_target_at": last.retry_at if last is not None and found.served else None,
        "open_in": _openers_json(found.openers),
        "processes_hidden": found.openers.hidden if found.openers else None,
        "trouble": _trouble_json(found.trouble) if found.trouble else None,
        "releases": [_release_json(release) for release in found.releases],
        "deliveries": [record(place.stream.name, delivery) for delivery in found.deliveries],
        "quarantine_note": found.quarantine_note or None,
        "remarks": list(found.remarks),
        "arrival": why_arrival.as_json(found.arrival) if found.arrival is not None else None,
    }


def _parts_json(name: str, found: Sequence[Answer]) -> dict[str, Any]:
    """Given a stream with several targets and the answers of its parts, return them as JSON takes it."""
    one = as_json(found[0])
    shared: dict[str, Any] = {key: one[key] for key in ("name", "name_hex", "path", "exists", "kind") if key in one}
    return {**shared, "stream": name, "known": any(each.known for each in found), "parts": [*map(as_json, found)]}


def _together(whole: StreamSettings, found: Sequence[Answer]) -> str:
    """Say when it leaves, given what each target has."""
    required = [part.name for part in whole.parts if any(target.required for target in part.targets)]
    lacking = [each.place.stream.name for each in found if not _has(each) and each.place.stream.name in required]
    if whole.mode is TransferMode.MIRROR:
        return "It stays here: each target is a mirror of its own."
    if not any(each.kind for each in found):
        return "It is not here any more." if any(each.deliveries for each in found) else "Nothing is known about it."
    if not lacking:
        return "Every required target has it as it is: it leaves at once."
    return f"It leaves when every required target has it; still lacking: {', '.join(lacking)}."


def _has(found: Answer) -> bool:
    return found.decision is not None and found.decision.action is Action.DONE


def _decision_json(decision: Decision | None) -> dict[str, Any]:
    return {
        "action": decision.action.value if decision else None,
        "reasons": [{"code": r.code, "text": printable(r.text)} for r in decision.reasons] if decision else [],
        "look_again": decision.look_again if decision else None,
    }


def _openers_json(openers: Openers | None) -> list[dict[str, Any]] | None:
    if openers is None:
        return None
    return [{"pid": o.pid, "program": o.program, "user": o.user, "writing": o.writing} for o in openers.seen]


def _release_json(release: Release) -> dict[str, Any]:
    return {
        "who": printable(release.who),
        "when": release.when,
        "when_at": iso_time(release.when),
        "reason": printable(release.reason),
        "where": json_name(release.place),
    }


def _trouble_json(trouble: Trouble) -> dict[str, Any]:
    return {
        **json_name(trouble.name),
        "target": trouble.target,
        "quarantined": trouble.quarantined,
        "attempts": trouble.attempts,
        "fault": trouble.fault.value,
        "reason": printable(trouble.reason),
        "first_seen": trouble.since,
        "first_seen_at": iso_time(trouble.since),
        "retry_at": trouble.retry_at or None,
        "moved_to": display(trouble.moved_to) if trouble.moved_to is not None else None,
    }

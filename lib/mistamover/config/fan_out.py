"""Streams with several targets: one subsection of [outgoing] each, and what becomes of them.

Such a stream is made of parts.  A part is a stream of its own to one target, with a ledger, a process and a state of
its own; so no target can hold up another.  It keeps what it sends, as a mirror does; the whole stream removes what all
required parts have delivered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mistamover.config import check, schema, targets
from mistamover.config.build import build_stream
from mistamover.config.entries import TARGETS_IN, check_secrecy
from mistamover.config.expand import DEFAULTS, Context, Entry, Place
from mistamover.config.read import IniFile
from mistamover.config.report import Report
from mistamover.config.settings import DotFiles, StreamSettings, TransferMode
from mistamover.config.values import Values
from mistamover.errors import Problem

_PROTOCOL = Place(TARGETS_IN, "transfer_protocol")


def name_of(stream: str, target: str) -> str:
    """Given the names of a stream and of one of its targets, return the name of that part."""
    return f"{stream}@{target}"


def build_fan_out(
    name: str,
    ini: IniFile,
    entries: Sequence[Entry],
    inherits: Context,
    values: Values,
    report: Report,
    state_dir: Path,
) -> StreamSettings:
    """Given a stream that names several targets, its file and entries, what it inherits, its values, where to report,
    and the state directory, return its settings.
    """
    names = list(dict.fromkeys(values.words(TARGETS_IN, "targets")))
    parts = []
    for target in names:
        overlay = _overlay(ini, target, values, report, name)
        if overlay is None:
            continue
        own = _values(name, ini, [*entries, *overlay], inherits, values, report)
        parts.append(_part(name, target, own, state_dir))
    _check_names(ini, names, report, name)
    _check_together(parts, values)
    # The whole stream has no target of its own.
    nowhere = Entry(place=_PROTOCOL, text="none", file=DEFAULTS, line=None)
    whole = build_stream(name, _values(name, ini, [*entries, nowhere], inherits, values, report), state_dir)
    mode = parts[0].mode if parts else TransferMode.MOVE
    return replace(whole, mode=mode, targets=(), parts=tuple(_kept(part, mode) for part in parts))


def flat(streams: Sequence[StreamSettings]) -> tuple[StreamSettings, ...]:
    """Given streams, return them with their parts, each part before its whole."""
    return tuple(each for stream in streams for each in (*stream.parts, stream))


def _values(
    name: str, ini: IniFile, entries: Sequence[Entry], inherits: Context, values: Values, report: Report
) -> Values:
    defaults = [entry for entry in values.context.own_defaults() if entry.place != _PROTOCOL]
    context = Context(entries, defaults=defaults, inherits=inherits)
    return Values(context, file=ini.path, base=values.base, report=report, stream=name)


def _overlay(ini: IniFile, target: str, values: Values, report: Report, stream: str) -> list[Entry] | None:
    """Return what the subsection of a target says; None if there is none."""
    outgoing = ini.config.get(TARGETS_IN, {})
    written = outgoing.get(target)
    if not isinstance(written, dict):
        message = f'names "{target}", which has no subsection, expected [[{target}]] below [{TARGETS_IN}]'
        values.problem(TARGETS_IN, "targets", message, f"add [[{target}]] with the keys of that target")
        return None
    protocol = str(written.get("transfer_protocol") or values.text(*_PROTOCOL) or "")
    section = targets.section_for(protocol)
    found = []
    for key, text in written.items():
        line = ini.origins[f"{TARGETS_IN}/{target}", key]
        place = next((Place(each, key) for each in (section, TARGETS_IN) if _belongs(each, key)), None)
        if place is None or not isinstance(text, str):
            known = (*schema.keys(TARGETS_IN), *schema.keys(section))
            message = f"unknown key of a target, expected one of [{TARGETS_IN}] or [{section}]"
            report.problem(_problem(ini, target, line, key, message, check.did_you_mean(key, known)), stream)
        else:
            found.append(Entry(place=place, text=text, file=str(ini.path), line=line))
    check_secrecy(ini, found, report, stream)
    return found


def _belongs(section: str, key: str) -> bool:
    option = schema.find(section, key)
    return option is not None and not option.replaced and key != "targets"


def check_no_targets(ini: IniFile, report: Report, stream: str) -> None:
    """Given the file of a stream with one target, report subsections."""
    _check_names(ini, (), report, stream)


def _check_names(ini: IniFile, names: Sequence[str], report: Report, stream: str) -> None:
    """Report subsections that belong to no target."""
    outgoing = ini.config.get(TARGETS_IN)
    for sub in outgoing.sections if outgoing is not None else ():
        if sub not in names:
            line = ini.origins[f"{TARGETS_IN}/{sub}", ""]
            hint = check.did_you_mean(sub, names) or (
                f"add {sub} to targets; a section is written with one pair of brackets: [name]"
            )
            message = "unknown subsection, the key targets does not name it"
            report.problem(_problem(ini, sub, line, "", message, hint), stream)


def _check_together(parts: Sequence[StreamSettings], values: Values) -> None:
    """Report what the targets of one stream cannot be."""
    if not parts:
        return
    if not any(target.required for part in parts for target in part.targets):
        message = "none of them is required, so nothing would ever be sent before it leaves, expected one at least"
        values.problem(TARGETS_IN, "targets", message, "take required = False out of one of them")
    if len({part.mode for part in parts}) > 1:
        message = "some of them move and some mirror: a file cannot both leave and stay, expected one transfer_mode"
        values.problem(TARGETS_IN, "targets", message, "set the same transfer_mode for all")
    places = [target.name for part in parts for target in part.targets]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        message = f"two of them are {twice}, expected a place of its own for each"
        values.problem(TARGETS_IN, "targets", message, "correct target_host or target_dir of one of them")


def _part(name: str, target: str, values: Values, state_dir: Path) -> StreamSettings:
    if not target.replace("-", "").replace("_", "").replace(".", "").isalnum():
        message = f'holds the name "{target}", expected letters, digits, dots, dashes and underscores only'
        values.problem(TARGETS_IN, "targets", message, "choose another name")
    if values.text(*_PROTOCOL) == "none":
        values.problem(*_PROTOCOL, "one of several targets cannot be none", "take it out of targets")
    return replace(build_stream(name_of(name, target), values, state_dir), part_of=name)


def _kept(part: StreamSettings, mode: TransferMode) -> StreamSettings:
    """Return a part as it is run: what it delivers stays, and what is ignored by the whole stream is ignored."""
    dots = part.dot_files
    if mode is TransferMode.MOVE and dots is DotFiles.AUTO:
        dots = DotFiles.IGNORE
    deletes = part.mirror_delete and mode is TransferMode.MIRROR
    return replace(
        part,
        mode=TransferMode.MIRROR,
        dot_files=dots,
        mirror_delete=deletes,
        monitor=None,
        completion_file=None,
        deletion_enabled=False,
        keeps_for_whole=mode is TransferMode.MOVE,
    )


def _problem(ini: IniFile, target: str, line: int, key: str, message: str, hint: str) -> Problem:
    where = f"{TARGETS_IN}/{target}"
    return Problem(file=str(ini.path), line=line, section=where, key=key, message=message, hint=hint)

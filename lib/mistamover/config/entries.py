"""From what a file or the environment says to entries of known keys: unknown ones reported, misplaced ones moved.

Values are not looked at here, except to learn that one is not empty.  Never imports
what substitutes or checks values.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping

from mistamover.config import schema
from mistamover.config.check import did_you_mean
from mistamover.config.expand import DEFAULT, Entry, Place
from mistamover.config.read import IniFile
from mistamover.config.report import Report
from mistamover.errors import Problem

_PREFIX = "CONFIG__"

#: The section whose subsections are targets of a stream.
TARGETS_IN = "outgoing"

#: The section of the global file whose subsections are places that jobs know.
ENDPOINTS_IN = "endpoints"
_OLD_NAMES = {"size-only": "check_size", "checksum": "use_checksum"}


def of_file(ini: IniFile, report: Report, stream: str = "") -> list[Entry]:
    """Given a file and the stream that it belongs to ("" for the global file), return its entries of known keys."""
    report.take(ini.problems, ini.warnings, stream)
    written = ini.entries()
    check_secrecy(ini, written, report, stream)
    for name in ini.config.sections:
        _check_section(ini, name, report, stream)
    known = [_in_place(entry, report, stream) for entry in written if _known_section(entry.place.section)]
    # A key that stands where it belongs beats one that was moved there.
    placed = {entry.place: entry for entry, moved in sorted(filter(None, known), key=lambda pair: not pair[1])}
    for entry in placed.values():
        _warn_of(entry, report, stream)
    return [*placed.values(), *_from_default(ini, written, placed)]


def of_environment(environ: Mapping[str, str], report: Report) -> list[Entry]:
    """Given the environment, return an entry for each `CONFIG__section__key` in it."""
    found: list[Entry] = []
    for name in sorted(environ):
        if not name.startswith(_PREFIX):
            continue
        section, _, key = name.removeprefix(_PREFIX).partition("__")
        place = Place(section, key.lower())
        entry = Entry(place=place, text=environ[name].strip(), file=f"environment {name}", line=None)
        if not section or not key:
            report.problem(
                Problem(
                    file=entry.file,
                    line=None,
                    section="",
                    key="",
                    message=f"is not complete, expected {_PREFIX}section__key",
                    hint="correct or unset the variable",
                )
            )
        elif not _known_section(section):
            report.problem(_unknown_section(entry.file, None, section))
        elif not entry.text.isprintable():
            report.problem(entry.problem("holds a character that cannot be printed, expected plain UTF-8 text"))
        elif pair := _in_place(entry, report, ""):
            found.append(pair[0])
            _warn_of(pair[0], report, "")
    return found


def _known_section(name: str) -> bool:
    return name == DEFAULT or bool(schema.keys(name))


def _unknown_section(file: str, line: int | None, name: str) -> Problem:
    known = [section.name for section in schema.sections()]
    hint = did_you_mean(name, known) or f"known sections are {', '.join(known)}"
    return Problem(file=file, line=line, section=name, key="", message="unknown section", hint=hint)


def _check_section(ini: IniFile, name: str, report: Report, stream: str) -> None:
    line = ini.origins[name, ""]
    if not _known_section(name):
        report.problem(_unknown_section(str(ini.path), line, name), stream)
        return
    for sub in ini.config[name].sections:
        if name == (TARGETS_IN if stream else ENDPOINTS_IN):
            continue
        where = f"{name}/{sub}"
        report.problem(
            Problem(
                file=str(ini.path),
                line=ini.origins[where, ""],
                section=where,
                key="",
                message=f"unknown subsection, expected keys of [{name}] only",
                hint="a section is written with one pair of brackets: [name]",
            ),
            stream,
        )


def check_secrecy(ini: IniFile, written: Iterable[Entry], report: Report, stream: str) -> None:
    """Given a file, entries in it, where to report and whose it is, report passwords that others can read."""
    if not ini.exposed:
        return
    for entry in written:
        if schema.is_secret(entry.place.key) and entry.is_set:
            message = "a password is in a file that others can read, expected a file that only its owner can read"
            report.problem(entry.problem(message, f"run: chmod go-rwx {shlex.quote(str(ini.path))}"), stream)


def _in_place(entry: Entry, report: Report, stream: str) -> tuple[Entry, bool] | None:
    """Given an entry, return it where it belongs and whether it was moved there; None if its key is unknown."""
    section, key = entry.place
    if section == DEFAULT or schema.find(section, key):
        return entry, False
    home = schema.home_of(key, new=True)
    if home:
        report.warn(entry.problem(f"belongs in [{home}] and is used as if it stood there", f"move it to [{home}]"))
        return dataclasses.replace(entry, place=Place(home, key)), True
    report.problem(entry.problem(f"unknown key, expected a key of [{section}]", _key_hint(section, key)), stream)
    return None


def _key_hint(section: str, key: str) -> str:
    old = _OLD_NAMES.get(key)
    if old and schema.find(section, old):
        return f'did you mean "{old}"?'
    belongs = schema.home_of(key, new=False)
    if belongs:
        return f"it belongs in [{belongs}]"
    own = "a value of your own for use in $(DEFAULT:name) belongs in [DEFAULT]"
    return did_you_mean(key, schema.keys(section)) or own


def _from_default(ini: IniFile, written: tuple[Entry, ...], placed: Mapping[Place, Entry]) -> list[Entry]:
    """Return what [DEFAULT] gives to the other sections of the same file, as ConfigParser has it."""
    return [
        dataclasses.replace(entry, place=place)
        for entry in written
        if entry.place.section == DEFAULT
        for section in ini.config.sections
        if (place := Place(section, entry.place.key)) not in placed and schema.find(*place)
    ]


def _warn_of(entry: Entry, report: Report, stream: str) -> None:
    """Given an entry of a known key, warn if this version does nothing, or something else, with it."""
    option = schema.find(*entry.place)
    if option is None or not entry.is_set:
        return
    if option.replaced:
        report.warn(entry.problem(f"is obsolete: {option.replaced}"))
    elif stream and option.service:
        report.warn(entry.problem("has no effect in a stream's file; it is read from the global file only"))

"""Which streams there are, and which file each has.

Looks at the names in the configuration directory and opens nothing.  Never imports
what builds settings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mistamover.config.expand import Place
from mistamover.config.report import Report
from mistamover.config.values import Values, quoted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PREFIXES = ("ds_", "dataset_", "data_stream_")
_PATTERNS = tuple(f"{prefix}{{}}.ini" for prefix in (*_PREFIXES, ""))
_LONGEST = 100
_GLOBAL, _LIST = "global", "data_stream_list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The name of a stream, and its file if it has one."""

    name: str
    file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The directory of the stream files, and the streams in the order of the list."""

    directory: Path
    found: tuple[Found, ...]


def find_streams(values: Values, report: Report, drafts: Collection[Path] = ()) -> Streams:
    """Given the values of the global file, return its streams; wrong names and missing files go to the report.

    Drafts are files that count as there.
    """
    directory_key, directory = _directory(values)
    listed = values.context.entry(Place(_GLOBAL, _LIST))
    serves_jobs = values.flag("front", "enabled")
    if listed is None and directory_key == "config_dir":
        if not serves_jobs:
            values.require(_GLOBAL, _LIST, "the names of the streams, or data_stream_config_dir in its place")
        return Streams(directory=directory, found=())
    if listed is not None and not listed.is_set:
        if not serves_jobs:
            values.warn(_GLOBAL, _LIST, "is empty, so there are no streams", "write the names of the streams")
        return Streams(directory=directory, found=())
    drafted = {draft.name for draft in drafts if draft.parent == directory}
    try:
        present = sorted(drafted.union(os.listdir(directory) if directory.exists() or not drafted else ()))
    except OSError as error:
        message = (
            f"the directory {directory} cannot be listed: {error.strerror}, expected the directory of the stream files"
        )
        values.problem(_GLOBAL, directory_key, message, "create it or correct the path")
        return Streams(directory=directory, found=())
    # A stream called like the global file must not be given the global file.
    files = [name for name in present if not _same(directory / name, values.file)]
    if listed is None:
        names = _names_of(files)
    else:
        if directory_key != "config_dir":
            values.warn(_GLOBAL, directory_key, f"only the streams named by {_LIST} are used, not all that have a file")
        names = list(values.words(_GLOBAL, _LIST))
    found = tuple(
        Found(name=name, file=_file(name, directory, frozenset(files), values, report))
        for name in _good_names(names, directory, values, report)
    )
    return Streams(directory=directory, found=found)


def _directory(values: Values) -> tuple[str, Path]:
    for key in ("data_stream_config_dir", "dataset_config_dir"):
        if values.is_set(_GLOBAL, key):
            return key, values.path(_GLOBAL, key) or values.file.parent
    return "config_dir", values.path(_GLOBAL, "config_dir") or values.file.parent


def _names_of(files: list[str]) -> list[str]:
    names: dict[str, None] = {}
    for file in files:
        if file.endswith(".ini") and file[0] not in ".#":
            stem = file.removesuffix(".ini")
            prefix = next((prefix for prefix in _PREFIXES if stem.startswith(prefix)), "")
            names.setdefault(stem.removeprefix(prefix))
    return list(names)


def _good_names(names: list[str], directory: Path, values: Values, report: Report) -> list[str]:
    listed = values.is_set(_GLOBAL, _LIST)
    good: dict[str, None] = {}
    for name in names:
        if not _NAME.fullmatch(name) or len(name) > _LONGEST:
            expected = (
                f"expected at most {_LONGEST} letters, digits, dots, dashes and underscores, a letter or digit first"
            )
            message = f"the stream name {quoted(name)} cannot be used, {expected}"
            hint = "change the name in the list" if listed else f"rename its file in {directory}"
            # Attributed to the stream: the others can run on without it.
            report.problem(values.finding(_GLOBAL, _key(values), message, hint), name)
        elif name in good:
            values.warn(_GLOBAL, _LIST, f'the stream "{name}" is named twice and used once')
        else:
            good[name] = None
    return list(good)


def _file(name: str, directory: Path, files: frozenset[str], values: Values, report: Report) -> Path | None:
    tried = [pattern.format(name) for pattern in _PATTERNS]
    existing = [file for file in tried if file in files]
    if not existing:
        message = f'the stream "{name}" has no file: none of {", ".join(tried)} is in {directory}'
        hint = f"create {directory / tried[0]} or take the name off the list"
        report.problem(values.finding(_GLOBAL, _key(values), message, hint), name)
        return None
    if len(existing) > 1:
        message = f'the stream "{name}" has several files in {directory}: {existing[0]} is used'
        values.warn(_GLOBAL, _key(values), f"{message}, {', '.join(existing[1:])} ignored")
    return directory / existing[0]


def _key(values: Values) -> str:
    """Return the key that the names come from."""
    return _LIST if values.is_set(_GLOBAL, _LIST) else _directory(values)[0]


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False

"""`[rsync_ssh] cmd` taken apart: the rsync command, the remote shell, and the options that cannot be allowed.

Pure functions; nothing is run and no shell is involved.  Never imports other
modules of this room.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

_REMOVES = "it would remove files without the confirmation of their content"
_SKIPS = "it would leave files out that are then taken for delivered"
_SHOWS = "it would show unfinished files at the target"
_CHANGES = "what arrives would no longer be what was sent"
_OURS = "MiStaMover chooses the files itself"
_READS = "MiStaMover reads what rsync prints"
_LINKS = "links are never followed; [data_stream] symlinks says what happens to them"

_REFUSED = {
    "remove-source-files": _REMOVES, "remove-sent-files": _REMOVES, "force": _REMOVES, "ignore-errors": _REMOVES,
    "del": _REMOVES, "size-only": _SKIPS, "existing": _SKIPS, "ignore-non-existing": _SKIPS, "ignore-existing": _SKIPS,
    "update": _SKIPS, "max-size": _SKIPS, "min-size": _SKIPS, "exclude": _SKIPS, "exclude-from": _SKIPS,
    "include": _SKIPS, "include-from": _SKIPS, "filter": _SKIPS, "cvs-exclude": _SKIPS, "dry-run": _SKIPS,
    "list-only": _SKIPS, "ignore-missing-args": _SKIPS, "safe-links": _SKIPS, "stop-after": _SKIPS, "stop-at": _SKIPS,
    "time-limit": _SKIPS, "only-write-batch": _SKIPS, "inplace": _SHOWS, "append": _SHOWS, "append-verify": _SHOWS,
    "partial": _SHOWS, "partial-dir": _SHOWS, "temp-dir": _SHOWS, "delay-updates": _SHOWS, "write-devices": _SHOWS,
    "backup": _CHANGES, "backup-dir": _CHANGES, "suffix": _CHANGES, "link-dest": _CHANGES, "copy-dest": _CHANGES,
    "compare-dest": _SKIPS, "fake-super": _CHANGES, "iconv": _CHANGES, "munge-links": _CHANGES, "relative": _OURS,
    "files-from": _OURS, "from0": _OURS, "recursive": _OURS, "dirs": _OURS, "old-dirs": _OURS, "daemon": _OURS,
    "server": _OURS, "sender": _OURS, "read-batch": _OURS, "write-batch": _OURS, "out-format": _READS,
    "log-format": _READS, "itemize-changes": _READS, "verbose": _READS, "quiet": _READS, "progress": _READS,
    "info": _READS, "debug": _READS, "stats": _READS, "msgs2stderr": _READS, "stderr": _READS, "version": _READS,
    "help": _READS, "human-readable": _READS, "copy-links": _LINKS, "copy-unsafe-links": _LINKS,
    "copy-dirlinks": _LINKS,
}  # fmt: skip
_SHORT = {
    "u": "update", "f": "filter", "F": "filter", "C": "cvs-exclude", "n": "dry-run", "T": "temp-dir", "P": "partial",
    "b": "backup", "R": "relative", "0": "from0", "r": "recursive", "d": "dirs", "i": "itemize-changes",
    "v": "verbose", "h": "human-readable", "q": "quiet", "L": "copy-links", "k": "copy-dirlinks", "V": "version",
}  # fmt: skip
_SHORT_WITH_VALUE = "efBTM@"


@dataclass(frozen=True, slots=True, kw_only=True)
class RsyncCommand:
    """The two programs of the key `cmd`."""

    rsync: tuple[str, ...]
    ssh: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An option as it is written, and why it is not allowed."""

    option: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """One option as written: the words it took, its short letter or long name, and its value if it stood apart."""

    words: tuple[str, ...]
    name: str
    value: str | None


def split(words: tuple[str, ...]) -> tuple[RsyncCommand, list[Refusal]]:
    """Given the words of the command, return its two programs and every option that cannot be allowed."""
    start = _program(words) + 1
    rsync = list(words[:start])
    ssh = ["ssh"]
    refused: list[Refusal] = []
    for option in _options(words[start:]):
        if option.name in ("e", "rsh"):
            # Of several, rsync too takes the last.
            ssh, refusal = _shell(option)
            refused.extend(refusal)
            continue
        why = _why_refused(option)
        if why:
            refused.append(Refusal(option=_spelled(option), why=why))
        rsync.extend(option.words)
    return RsyncCommand(rsync=tuple(rsync), ssh=tuple(ssh)), refused


def _program(words: tuple[str, ...]) -> int:
    """Return the place of the rsync program: a wrapper such as `nice -n 10` may stand before it."""
    for index, word in enumerate(words):
        if os.path.basename(word).startswith("rsync"):
            return index
    return 0


def _options(words: tuple[str, ...]) -> Iterator[_Option]:
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and name in ("rsh", "remote-option") and rest:
                apart = rest.pop(0)
                yield _Option(words=(word, apart), name=name, value=apart)
            else:
                yield _Option(words=(word,), name=name, value=value if equals else None)
        elif word.startswith("-") and len(word) > 1:
            yield from _cluster(word, rest)
        else:
            yield _Option(words=(word,), name="", value=None)


def _cluster(word: str, rest: list[str]) -> Iterator[_Option]:
    """Given a word such as -aze, return its options one by one; the last may take its value from the words behind."""
    letters = word[1:]
    for index, letter in enumerate(letters):
        if letter not in _SHORT_WITH_VALUE:
            yield _Option(words=(f"-{letter}",), name=letter, value=None)
            continue
        attached = letters[index + 1 :]
        if attached:
            yield _Option(words=(f"-{letter}{attached}",), name=letter, value=attached)
        elif rest:
            apart = rest.pop(0)
            yield _Option(words=(f"-{letter}", apart), name=letter, value=apart)
        else:
            yield _Option(words=(f"-{letter}",), name=letter, value=None)
        return


def _shell(option: _Option) -> tuple[list[str], list[Refusal]]:
    try:
        words = shlex.split(option.value or "")
    except ValueError:
        words = []
    if words:
        return words, []
    return ["ssh"], [Refusal(option=_spelled(option), why="the remote shell behind it is missing or has an open quote")]


def _why_refused(option: _Option) -> str:
    name = _SHORT.get(option.name, option.name)
    if option.name in ("M", "remote-option"):
        inner = [_why_refused(inner) for inner in _options((option.value or "",))]
        return next(filter(None, inner), "")
    if name.startswith("delete"):
        return _REMOVES
    return _REFUSED.get(name, "")


def _spelled(option: _Option) -> str:
    word = option.words[0]
    return word.partition("=")[0] if word.startswith("--") else word[:2]

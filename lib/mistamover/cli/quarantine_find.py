"""Which units in quarantine an operator means by the words that he gives."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence

from mistamover.cli.common import printable
from mistamover.cli.quarantine_list import in_quarantine, where
from mistamover.config.settings import Settings, StreamSettings
from mistamover.errors import UsageError
from mistamover.files.names import display
from mistamover.stream.ledger import Trouble
from mistamover.stream.requests import Meant

NAMES_HELP = (
    "the name of a stream, then those of units: relative to the stream's directory, or as `quarantine list` shows "
    "them, or paths of where they lie; without the name of a stream, of any stream"
)

Found = tuple[StreamSettings, Trouble]


def named_units(settings: Settings, words: Sequence[str]) -> dict[StreamSettings, list[Meant]]:
    """Given the words of a command, return the units that they name, by their streams. Raise UsageError.

    A unit that its stream's quarantine does not hold is an error: nothing is done then.
    """
    if not words:
        raise UsageError("name what is meant: a stream and units in its quarantine, or --all (see: quarantine list)")
    stream = settings.stream(words[0])
    names = words[1:] if stream is not None else words
    if stream is not None and not names:
        raise UsageError(
            f"name units in the quarantine of the stream {stream.name}, or all of them: "
            f"mistamover quarantine retry {stream.name} --all"
        )
    found = list(in_quarantine((stream,) if stream is not None else settings.streams))
    result: dict[StreamSettings, list[Meant]] = {}
    for word in names:
        owner, trouble = _one(settings, found, word, named=stream)
        units = result.setdefault(owner, [])
        unit = Meant(trouble.name, trouble.moved_to)
        if unit not in units:
            units.append(unit)
    return result


def _one(settings: Settings, found: Sequence[Found], word: str, *, named: StreamSettings | None) -> Found:
    """Return the one unit that a word names: by its name, else by its path, else as it is shown."""
    raw = os.fsencode(word)
    path = os.path.abspath(raw)
    for matches in (
        [each for each in found if each[1].name == raw.rstrip(b"/")],
        [each for each in found if path in (where(*each), os.path.realpath(where(*each)))],
        [each for each in found if display(each[1].name) == word],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            places = "".join(f"\n  {stream.name}: {display(where(stream, unit))}" for stream, unit in matches)
            raise UsageError(
                f'"{printable(word)}" names more than one unit: put the name of the stream before it, or give the path '
                f"of one of them:{places}"
            )
    raise UsageError(_nothing(settings, found, word, named))


def _nothing(settings: Settings, found: Sequence[Found], word: str, named: StreamSettings | None) -> str:
    units = [display(trouble.name) for _, trouble in found]
    streams = [] if named is not None else [stream.name for stream in settings.streams]
    close = difflib.get_close_matches(printable(word), [*units, *streams], n=1)
    place = f"the quarantine of the stream {named.name}" if named is not None else "the quarantine of any stream"
    if close:
        hint = f"did you mean {'' if close[0] in units else 'the stream '}{close[0]}?"
    elif units:
        hint = "`mistamover quarantine list` names what is"
    else:
        hint = "nothing is"
    return f'"{printable(word)}" is not in {place}; {hint}'

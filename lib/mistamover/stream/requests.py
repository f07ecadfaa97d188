"""What an operator asks of a stream, and its answers: files in `state_dir/requests`.

A command writes a request and rings the bell; whoever holds the stream's lock, its process or the command itself,
does what is asked and writes the answer, which the command takes away.  A request stays until it is answered.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mistamover.files.durable import sync_directory, write_whole
from mistamover.files.moving import own_like

DIRECTORY = "requests"
_ASKED, _ANSWERED = ".request", ".answer"

#: Seconds after which an answer that nobody has taken is removed.
_KEPT = 3600.0


class Verb(enum.Enum):
    """What is to be done with units in quarantine."""

    RETRY = "retry"  # put it back, to be tried again
    RELEASE = "release"  # it stays out of the stream for good


class Outcome(enum.Enum):
    """What became of one unit."""

    RETRIED = "retried"
    RELEASED = "released"
    ABSENT = "absent"  # it is not in quarantine
    GONE = "gone"  # somebody has taken it from where it lay
    TAKEN = "taken"  # its name belongs to something else where it should go
    CHANGED = "changed"  # it is not what was quarantined
    FAILED = "failed"  # it could not be moved


class Meant(NamedTuple):
    """One unit that is meant: what had a name, and where it was moved, if it was."""

    name: bytes
    moved_to: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked, of which units, by whom."""

    verb: Verb
    units: tuple[Meant, ...]
    who: str
    to: bytes | None = None
    """Absolute path of the directory where released units go; None leaves them where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of one unit of a request."""

    name: bytes
    outcome: Outcome
    words: str
    where: bytes | None = None
    """Absolute path where it lies now, if that is known."""

    @property
    def done(self) -> bool:
        """Whether it is as was asked."""
        return self.outcome in (Outcome.RETRIED, Outcome.RELEASED)


def submit(state_dir: Path, request: Request) -> str:
    """Given a stream's state directory and a request, write it down durably; return its key. Raise OSError."""
    place = state_dir / DIRECTORY
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
        own_like(os.fsencode(place), os.fsencode(state_dir))
        sync_directory(state_dir)
    key = f"{time.time_ns():020}-{os.getpid()}-{os.urandom(4).hex()}"
    content = {
        "verb": request.verb.value,
        "units": [(name.hex(), moved_to.hex() if moved_to is not None else None) for name, moved_to in request.units],
        "who": request.who,
        "to": request.to.hex() if request.to is not None else None,
    }
    _write(place / (key + _ASKED), content)
    return key


def pending(state_dir: Path) -> list[str]:
    """Given a stream's state directory, return the keys of what waits for an answer, in the order of asking."""
    return sorted(name.removesuffix(_ASKED) for name in _names(state_dir) if name.endswith(_ASKED))


def read(state_dir: Path, key: str) -> Request | None:
    """Given a key, return the request; None if it was withdrawn, or is none that we can read."""
    try:
        values = json.loads((state_dir / DIRECTORY / (key + _ASKED)).read_bytes())
        to = values["to"]
        return Request(
            verb=Verb(values["verb"]),
            units=tuple(
                Meant(bytes.fromhex(name), bytes.fromhex(place) if place is not None else None)
                for name, place in values["units"]
            ),
            who=str(values["who"]),
            to=bytes.fromhex(to) if to is not None else None,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def answer(state_dir: Path, key: str, ended: Sequence[Ended]) -> None:
    """Given the key of a request and what became of its units, answer it. Raise OSError."""
    place = state_dir / DIRECTORY
    content = [
        {
            "name": each.name.hex(),
            "outcome": each.outcome.value,
            "words": each.words,
            "where": each.where.hex() if each.where is not None else None,
        }
        for each in ended
    ]
    _write(place / (key + _ANSWERED), content)
    withdraw(state_dir, key)
    for name in _names(state_dir):
        # Who has asked may have been too impatient to hear it.
        with contextlib.suppress(FileNotFoundError):
            if name.endswith(_ANSWERED) and (place / name).stat().st_mtime < time.time() - _KEPT:
                (place / name).unlink()


def take_answer(state_dir: Path, key: str) -> tuple[Ended, ...] | None:
    """Given the key of a request, return its answer and remove it; None as long as there is none. Raise OSError."""
    path = state_dir / DIRECTORY / (key + _ANSWERED)
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    path.unlink()
    return tuple(
        Ended(
            name=bytes.fromhex(each["name"]),
            outcome=Outcome(each["outcome"]),
            words=each["words"],
            where=bytes.fromhex(each["where"]) if each["where"] is not None else None,
        )
        for each in values
    )


def withdraw(state_dir: Path, key: str) -> None:
    """Given the key of a request, let it not wait any more. Raise OSError."""
    (state_dir / DIRECTORY / (key + _ASKED)).unlink(missing_ok=True)


def _names(state_dir: Path) -> list[str]:
    try:
        return os.listdir(state_dir / DIRECTORY)
    except FileNotFoundError:
        return []


def _write(path: Path, content: Any) -> None:
    # Root may ask what another user's process is to do: that process must be able to read it.
    write_whole(path, json.dumps(content).encode(), owner_of=path.parent)

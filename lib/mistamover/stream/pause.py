"""The pause of a stream: a file in its state directory, so that it outlives every process.

A command makes it and takes it away; the stream only looks.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from mistamover.files.durable import sync_directory, write_whole
from mistamover.files.moving import make_directories
from mistamover.files.names import display
from mistamover.model import Reason

FILE = "paused"

CODE = "paused"
"""The code of the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Who has paused a stream, when, and why; `since` is 0 where that cannot be read."""

    who: str
    since: float
    reason: str = ""

    def words(self, stream: str) -> str:
        """Given the stream's name, return all of it for people, with the command that ends it."""
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since)) if self.since else "an unknown time"
        why = f" ({self.reason})" if self.reason else ""
        return f"paused since {when} by {self.who}{why}; resume with: mistamover resume {shlex.quote(stream)}"


def read(state_dir: Path) -> Pause | None:
    """Given a stream's state directory, return its pause; None if it is not paused."""
    try:
        content = (state_dir / FILE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        # It is there: whoever made it wants a pause, whatever is in it.
        return Pause(who="somebody", since=0.0)
    try:
        values = json.loads(content)
        return Pause(who=_line(values["who"]), since=float(values["since"]), reason=_line(values["reason"]))
    except (ValueError, KeyError, TypeError):
        return Pause(who="somebody", since=0.0)


def reason(state_dir: Path, stream: str) -> Reason | None:
    """Given a stream's state directory and its name, return why it sends nothing if it is paused."""
    found = read(state_dir)
    return Reason(code=CODE, words=found.words(stream)) if found is not None else None


def begin(state_dir: Path, pause: Pause) -> Pause | None:
    """Given a stream's state directory, pause it durably, also if it has never run. Raise OSError.

    Return the pause that was there already and stays, if there was one.
    """
    there = read(state_dir)
    if there is None:
        make_directories(os.fsencode(state_dir), mode=0o700)
        content = json.dumps({"who": pause.who, "since": pause.since, "reason": pause.reason}).encode()
        write_whole(state_dir / FILE, content, owner_of=state_dir)
    return there


def end(state_dir: Path) -> Pause | None:
    """Given a stream's state directory, end its pause durably; return what it was, None if there was none.

    Raise OSError.
    """
    there = read(state_dir)
    if there is not None:
        (state_dir / FILE).unlink(missing_ok=True)
        sync_directory(state_dir)
    return there


def _line(text: object) -> str:
    return display(str(text).encode("utf-8", "surrogateescape"))

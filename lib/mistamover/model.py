"""The values that travel between rooms: frozen, slotted, keyword-only.

Nothing here does any I/O, and this module imports nothing of the package.
Names are bytes, relative to the stream's directory, with `/` between the parts.
Sizes are bytes; times are seconds since the epoch unless a name ends in `_ns`.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Kind(enum.Enum):
    """What a unit is on disk."""

    FILE = "file"  # a regular file
    LINK = "link"  # a symbolic link, sent as a link
    DIRECTORY = "directory"  # a single directory entry, without its content
    TREE = "tree"  # a directory unit: a top-level directory with all it holds
    SPECIAL = "special"  # FIFO, socket, device: never sent


class Identity(NamedTuple):
    """What must stay the same between the confirmation of a file and its removal.

    A tuple, not a dataclass: one is made per directory entry of every scan, and
    comparing two is a single C call.
    """

    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Writers(enum.Enum):
    """The kernel's answer to "does anyone have it open for writing?"."""

    NONE = "none"  # a read lease was granted: nobody does, and we hear of the next one
    SOME = "some"  # refused: at least one process does
    UNKNOWN = "unknown"  # this filesystem or this owner gives no answer


class Action(enum.Enum):
    """What `decide` wants done with a unit."""

    SEND = "send"
    WAIT = "wait"
    IGNORE = "ignore"
    QUARANTINE = "quarantine"
    DONE = "done"  # mirror: delivered, and unchanged since


class FaultClass(enum.Enum):
    """Who is to blame for a failed delivery; it decides what happens next."""

    SOURCE = "source"  # unreadable: counts an attempt
    CHANGED = "changed"  # the source changed while it travelled: look again, no attempt counted
    VANISHED = "vanished"  # the source is gone: its owner took it back
    REFUSED = "refused"  # a healthy target refuses this one name: counts an attempt
    TARGET = "target"  # the target is full, read-only or gone: the circuit opens
    HERE = "here"  # this host lacks what sending needs, such as room for a zip: waits, no attempt counted
    LINK = "link"  # the target cannot be reached: the circuit opens
    ABANDONED = "abandoned"  # we ended the attempt ourselves: look again at once
    BUG = "bug"  # something that our own contract excludes: the circuit opens


class StreamState(enum.Enum):
    """What a stream is doing, as `status` shows it."""

    STARTING = "STARTING"
    IDLE = "IDLE"  # nothing waits
    SENDING = "SENDING"  # a batch is under way
    WAITING = "WAITING"  # something waits for its time
    PAUSED = "PAUSED"  # by an operator, until he resumes it
    SUSPENDED = "SUSPENDED"  # a stop file, here or at the target
    UNREACHABLE = "UNREACHABLE"  # the circuit of the target is open
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"  # by its status key
    COMPLETE = "COMPLETE"  # the completion file was delivered and nothing is left
    DOWN = "DOWN"  # no process serves it


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeEntry:
    """One entry of a directory unit's manifest; `name` is relative to the unit."""

    name: bytes
    kind: Kind
    identity: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One thing to be delivered, as it was when the decision to send it fell."""

    name: bytes
    kind: Kind
    identity: Identity
    links: int = 1
    """Hard links to the file; above 1, names of one inode travel in one batch."""
    first_seen: float = 0.0
    attempts: int = 0
    manifest: tuple[TreeEntry, ...] = ()
    """Directory units only: everything below the directory, in no special order."""
    replaces: Identity | None = None
    """Zipped units of a mirror only: the zip that was delivered last, which the new one may replace."""

    def key(self) -> str:
        """Return a short stable key of what this is: the name, and for a directory unit the names in it."""
        names = sorted(entry.name + b"\0" + entry.kind.value.encode() for entry in self.manifest)
        return hashlib.blake2b(b"\0".join([self.name, *names]), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What leaves together over one lane to one target."""

    number: int
    units: Sequence[Unit]
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """A unit whose whole content was confirmed at the target."""

    unit: Unit
    digest: str
    """Hex digest that both ends agreed on; empty for links, directories and trees."""
    algorithm: str = ""
    """The hash that the digest is of; empty for the one that the target's settings name."""
    parts: Sequence[Confirmed] = ()
    """Directory units only: everything below, with its hash; of a zipped one the zip, and what is in it without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A unit that is not confirmed, with the class and the words of the reason."""

    unit: Unit
    fault: FaultClass
    reason: str


Verdict = Confirmed | Failed


class Reason(NamedTuple):
    """One step of a decision, in order: a stable code for programs and words for people.

    The words are put together only when somebody reads them: thousands of decisions a second are read by nobody.
    """

    code: str
    words: str
    values: tuple[object, ...] = ()
    """What stands in the places that `words` leaves open."""

    @property
    def text(self) -> str:
        """The words, put together."""
        return self.words.format(*self.values) if self.values else self.words


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with a unit, why, and when to look again (seconds since the epoch)."""

    action: Action
    reasons: tuple[Reason, ...]
    look_again: float | None = None
    """For WAIT: the time of the next look; None when only an event can change the answer."""

"""The contract between a stream and whatever carries its files.

A transport is used from the threads of one stream's lanes.  Every method is
bounded in time, and raises only `LinkError` (not reachable), `TargetError`
(reached, and refuses) or `TransportBug`.  What one transport can do and another
cannot is data (`Capabilities`), never a question of its class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from mistamover.model import Batch, Identity, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a target was found to allow, as shown to the operator."""

    description: str
    """One line: program versions and the ways in use."""
    trees: bool
    """Whole directories can appear under their final name by one rename; where not, they travel as zips."""
    removal: bool
    """Names can be removed, as a mirror with `mirror_delete` needs."""
    ways: Sequence[tuple[str, str]] = ()
    """What the promises need, and how it is had here, in words; empty words: it is not to be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Zip:
    """A zip that was made of a directory unit, ready to be sent."""

    path: bytes
    """Where it is: a file of our own, that nobody else writes to."""
    names: Sequence[bytes]
    """The names that it may have at the target, the best one first."""
    replaces: Sequence[Identity]
    """What may be replaced under the first of them: a file of one of these sizes and times (in seconds)."""
    unchanged: Callable[[], bool]
    """Tells whether the directory still is what was zipped; asked before the zip appears."""


class Guard(Protocol):
    """The stream's side of one delivery: hears of progress, and may ask for an end of the attempt."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when `deadline` may have changed."""

    def handle(self, name: bytes) -> int | None:
        """Return a descriptor of `name` as it was judged, to be read until `sent` says that it was; None: open it."""

    def sent(self, name: bytes) -> None:
        """Take note that the whole content of `name` has been read from the source."""

    def read_enough(self) -> None:
        """Take note that nothing more of the source will be read in this attempt: no writer has to wait for it."""

    def progressed(self, size: int) -> None:
        """Take note that `size` bytes of the one file that is under way have been sent."""

    def deadline(self) -> float | None:
        """Return the monotonic time at which the attempt must be given up, or None. Clears `fileno`."""


class Transport(Protocol):
    """One target of one stream."""

    def open(self) -> Capabilities:
        """Connect, if not connected, and make the target ready: its directory exists, left-overs are gone."""

    def suspended(self) -> bool:
        """Tell whether the target's stop file is there. An unreachable target raises, it is not suspended."""

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """Send a batch; return one verdict for every unit, in any order.

        Confirmed means: the whole content is at the target under its final name, both ends agree on its
        hash, and the target has flushed it to disk.  A unit that is not confirmed may be at the target
        or not, but never in part under its final name.  Sending the same unit again is harmless.
        Raises only when nothing of the batch can have been confirmed.
        """

    def deliver_zip(self, made: Zip, guard: Guard) -> Verdict:
        """Send a zip; return a verdict about a file that has the zip's name at the target.

        As `deliver`, but nothing that is there is overwritten: the zip appears under the first of its names that is
        free, or holds the same content already.  CHANGED: the directory is not what was zipped any more.
        REFUSED: every name is taken.
        """

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        """Remove names at the target, content before its directory; return those that are gone now."""

    def probe(self) -> None:
        """Write, flush, rename and remove a small file at the target; raise if any of it fails."""

    def abort(self) -> None:
        """Cut the connection at once, from any thread: calls under way fail with LinkError or return failures."""

    def close(self, *, finished: bool) -> None:
        """End the connection. `finished`: nothing is half sent, so nothing of ours need stay at the target."""


class Messenger(Protocol):
    """What carries small files of our own making to a target and back, many at a time."""

    def put(self, files: Mapping[bytes, bytes]) -> None:
        """Given names, relative to the target directory, and contents, let the files appear there by rename.

        Their directories exist.  Raise LinkError or TargetError; some may be there then.
        """

    def fetch(self, names: Sequence[bytes], longest: int, patience: float) -> dict[bytes, bytes]:
        """Given names, return the content of those that are regular files of at most `longest` bytes there now.

        When the last is not, so many seconds may be spent waiting for it; whether that is done is up to the
        transport.  Raise LinkError or TargetError.
        """


class MessagingTransport(Transport, Messenger, Protocol):
    """A transport that carries messages as well."""

    def deliver_unflushed(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """As `deliver`, but what is confirmed may not be on disk yet: somebody at the target sees to that."""

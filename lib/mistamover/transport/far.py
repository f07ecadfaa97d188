"""The contract of a far end that is a place for files and nothing more: no rsync, no shell of ours.

`by_file` makes a whole transport out of it: temporary names, proof, flush, renaming, directory units, removal, the
stop file.  So a new protocol is these few calls and nothing else.  Paths are bytes relative to the target directory,
with `/` between their parts, never with a leading one.  One object is used by one thread at a time; as many are made as
lanes are busy.  Every call is bounded in time, and raises only `LinkError` (not reachable any more: the object is not
used again), `TargetError` (the whole target refuses: full, no permission anywhere, the directory is gone) or
`FarRefusal` (this one name is refused, or is not what it should be).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mistamover.errors import TargetError
from mistamover.model import Kind


class FarRefusal(TargetError):
    """One name is refused by a target that may be well otherwise."""


class NameTaken(FarRefusal):
    """Something has a name that was to be new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a far end can do, as found out when it was connected; `check` shows it."""

    description: str
    """One line: what is at the other end, and the ways in use."""
    rename: bool
    """Files can be renamed over existing ones in one step; where not, `whole` must be true."""
    whole: bool
    """What is written under a name appears there only when it is complete."""
    directories: bool
    """There are directories, empty ones as well, and a whole one can be renamed."""
    links: bool
    """Symbolic links can be made."""
    attributes: bool
    """Times of modification and modes can be set."""
    flush: bool
    """What was written can be had on disk, by `flush`; where not, the server is trusted with that, and this is said."""
    hashes: Sequence[str]
    """Algorithms by which the far end itself can hash a file, named as by hashlib (or xxh128)."""
    resume: bool
    """Writing can go on where it broke off (`write` with an offset)."""
    removal: bool = True
    side_by_side: int = 1
    """Connections that are worth having for one batch of many files, where every answer takes its time."""
    owners: bool = False
    """Owners can be set: the object is one of `OwningFiles`."""
    pieces: bool = False
    """Content that is in no file here can be written: the object is one of `StreamingFiles`."""
    exclusive: bool = False
    """A name is taken only if it is free: the object is one of `ExclusiveFiles`."""
    resolves: bool = False
    """It tells where links lead: the object is one of `ResolvingFiles`."""

    def ways(self) -> tuple[tuple[str, str], ...]:
        """Return the same in words; see `base.Capabilities.ways`."""
        return (
            ("rename", "in one step" if self.rename else ""),
            ("flush", "asked for" if self.flush else ""),
            ("hash", f"computed there: {', '.join(self.hashes)}" if self.hashes else ""),
            ("resume", "from where it broke off" if self.resume else ""),
            ("directories", "by one rename" if self.directories and self.rename else "as zips"),
            ("removal", "name by name" if self.removal else ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class There:
    """What a name at the far end belongs to."""

    kind: Kind
    size: int
    mtime: float
    """In seconds; 0.0 where the far end does not know."""
    mode: int | None = None
    """Permission bits; None where the far end does not know."""


class FarFiles(Protocol):
    """One connection to the target directory."""

    def connect(self) -> Means:
        """Connect, make sure that the target directory is there, and return what can be done."""

    def look(self, path: bytes) -> There | None:
        """Return what has a name, a link to nothing included, links not followed; None if nothing has, nor perhaps the
        directory above.
        """

    def names(self, path: bytes) -> list[bytes]:
        """Return the names in a directory (empty: the target directory), without their paths, in any order.

        FarRefusal if it is no directory.  Without `Means.directories`: what is between the path and the next `/`.
        """

    def make_directory(self, path: bytes) -> None:
        """Make a directory whose parent is there; content if it is there already, FarRefusal if it is anything else."""

    def write(self, path: bytes, source: int, size: int, offset: int, told: Callable[[int], None]) -> None:
        """Write bytes `offset` to `size` of an open file here to a name, from that position on; replace what is there
        when the offset is 0.

        Call `told` with how many bytes are written in all, at the end too, and at least once a second, also while
        nothing moves: it says when the attempt is given up, hashes what was sent, and at the end looks whether the
        source is still the same.  What it raises ends the writing, with what is there left as it is, and must come out
        unchanged; with `Means.whole` nothing appears before the last call has come back.  The descriptor is read by
        position and not closed; where reading it fails, the OSError comes out.  When there is less to read than
        `size` says, less is written.
        """

    def read(self, path: bytes) -> Iterator[bytes]:
        """Yield the content of a file, in pieces of at most a MiB."""

    def digest(self, path: bytes, algorithm: str) -> str:
        """Return the hash of a file, in hexadecimal, as the far end computes it (of `Means.hashes` only)."""

    def set_attributes(self, path: bytes, mode: int, mtime_ns: int) -> None:
        """Give a file or directory its mode (permission bits) and time of modification."""

    def flush(self, paths: Sequence[bytes]) -> None:
        """Have files, links and directories on disk (only with `Means.flush`); of many, all of their filesystem may be.

        Where a kind cannot be flushed, it is passed over.
        """

    def rename(self, old: bytes, new: bytes) -> None:
        """Give a file or directory another name; a file replaces a file, in one step."""

    def symlink(self, text: bytes, path: bytes) -> None:
        """Make a symbolic link that says `text` (only with `Means.links`)."""

    def remove(self, path: bytes) -> None:
        """Remove a file or link; content if nothing is there."""

    def remove_directory(self, path: bytes) -> None:
        """Remove an empty directory; content if nothing is there. FarRefusal if it is not empty."""

    def free(self) -> int | None:
        """Return how many bytes are free at the target; None where nobody can tell."""

    def abort(self) -> None:
        """Cut the connection at once, from any thread: calls under way fail with LinkError."""

    def close(self) -> None:
        """End the connection; never raises."""


class OwningFiles(FarFiles, Protocol):
    """A far end that knows the users and groups of this machine."""

    def set_owner(self, path: bytes, user: int, group: int) -> None:
        """Give a file, directory or link its owner, before its mode is set; content where that is not ours to give."""


class Pieces(Protocol):
    """Content that comes from elsewhere, and is asked for in order, once."""

    @property
    def mtime_ns(self) -> int:
        """When it was changed last, in nanoseconds; 0 if nobody knows."""

    def piece(self, size: int, position: int) -> bytes:
        """Return so many bytes, or less where it ends; `position` is where the last piece ended.

        What it raises ends the writing, and comes out.
        """

    def same(self) -> None:
        """Raise, as `piece` does, if it has changed since its beginning: asked before the last of it is sent."""


class StreamingFiles(FarFiles, Protocol):
    """A far end that takes content which is in no file here, and gives content from any position on."""

    def write_from(self, path: bytes, pieces: Pieces, size: int, told: Callable[[int], None]) -> None:
        """As `write`, from the beginning, with the content that `pieces` gives."""

    def read_from(self, path: bytes, offset: int) -> Iterator[bytes]:
        """As `read`, from a position on."""


class ExclusiveFiles(FarFiles, Protocol):
    """A far end that never replaces anything where that is not wanted."""

    def rename_new(self, old: bytes, new: bytes) -> None:
        """Give a file another name. NameTaken if anything has it."""

    def hard_link(self, old: bytes, new: bytes) -> None:
        """Give a file one more name. NameTaken if anything has it, FarRefusal where that is not possible."""


class ResolvingFiles(FarFiles, Protocol):
    """A far end that tells where symbolic links lead."""

    def real_path(self, path: bytes) -> bytes | None:
        """Given a path, return it absolute and without any link; None if nothing is there.

        Of the empty path, the target directory, it is what every path that stays inside begins with.
        """

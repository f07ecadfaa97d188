"""Where a path belongs: to which stream, under which name, as part of which unit."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from mistamover.cli.common import printable
from mistamover.config.settings import StreamSettings, TransferUnit
from mistamover.errors import MistamoverError, UsageError
from mistamover.files.names import display


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A path in the directory of a stream, in its quarantine, or where others deliver to it."""

    stream: StreamSettings
    name: bytes
    """Relative to the stream's directory, to the quarantine directory, or to the incoming directory."""
    unit: bytes
    """Name of what is decided about: the path itself, or what it is part of."""
    in_quarantine: bool = False
    in_incoming: bool = False
    remark: str = ""
    """Why the unit is not what was asked for."""

    @property
    def path(self) -> bytes:
        """Absolute path of what was asked for."""
        above = self.stream.quarantine_dir if self.in_quarantine else self.stream.directory
        if self.in_incoming and self.stream.monitor is not None:
            above = self.stream.monitor.directory
        return os.fsencode(above) + b"/" + self.name


def locate(argument: str, streams: Sequence[StreamSettings], working_directory: bytes) -> Place:
    """Given a path or STREAM:NAME, the streams, and where relative paths begin, return the place.

    The path need not exist.  Links are resolved in the directory that holds it, never in its last part.
    Raise UsageError if no stream has it, MistamoverError if it cannot be looked at.
    """
    raw = os.fsencode(argument)
    whole = os.path.join(working_directory, raw)
    prefix, colon, rest = argument.partition(":")
    named = next((stream for stream in streams if stream.name == prefix), None) if colon else None
    if named is not None and not os.path.lexists(whole):
        return _place(named, _inner_name(named, rest))
    for path in _spellings(whole):
        place = _by_path(path, streams)
        if place is not None:
            return place
    raise UsageError(_nowhere(argument, streams))


def _spellings(whole: bytes) -> list[bytes]:
    """A path as it was written, and with the links of its directory resolved."""
    above, last = os.path.split(whole.rstrip(b"/") or b"/")
    if last in (b"", b".", b".."):
        return [os.path.realpath(whole)]
    resolved = os.path.join(os.path.realpath(above), last)
    # `..` after a link is not what it seems: then only the resolved path is right.
    return [resolved] if b".." in whole.split(b"/") else [os.path.normpath(whole), resolved]


def _by_path(path: bytes, streams: Sequence[StreamSettings]) -> Place | None:
    # The quarantine is often inside the stream's directory, so it is asked for first.
    for stream in streams:
        name = _below(path, os.fsencode(stream.quarantine_dir))
        if name == b"":
            raise UsageError(
                f"{printable(stream.quarantine_dir)} is the quarantine of stream {stream.name}: "
                f"ask for something in it, or run: mistamover status {stream.name}"
            )
        if name is not None:
            unit = name.partition(b"/")[0] if stream.unit is TransferUnit.DIRECTORY else name
            return Place(stream=stream, name=name, unit=unit, in_quarantine=True)
    for stream in streams:
        name = _below(path, os.fsencode(stream.directory))
        if name is not None:
            return _place(stream, name)
    for stream in streams:
        if stream.monitor is None:
            continue
        name = _below(path, os.fsencode(stream.monitor.directory))
        if name == b"":
            raise UsageError(
                f"{printable(stream.monitor.directory)} is where others deliver to stream {stream.name}: "
                f"ask for something in it, or run: mistamover status {stream.name}"
            )
        if name is not None:
            return Place(stream=stream, name=name, unit=name, in_incoming=True)
    return None


def _below(path: bytes, directory: bytes) -> bytes | None:
    """Given two paths, return the first relative to the second, empty if they are the same; None if it is not below."""
    for above in (os.path.normpath(directory), os.path.realpath(directory)):
        if path == above:
            return b""
        if path.startswith(above.rstrip(b"/") + b"/"):
            return path[len(above.rstrip(b"/")) + 1 :]
    return None


def _place(stream: StreamSettings, name: bytes) -> Place:
    if not name:
        raise UsageError(
            f"{printable(stream.directory)} is the directory of stream {stream.name} itself: "
            f"ask for something in it, or run: mistamover status {stream.name}"
        )
    link = _link_above(stream, name)
    if link is not None:
        remark = f"{display(link)} is a symbolic link: links are never followed, so the stream sees nothing below it"
        name = link
    else:
        remark = ""
    top, slash, _ = name.partition(b"/")
    if stream.unit is TransferUnit.DIRECTORY and slash:
        remark = remark or f"it is part of the directory unit {display(top)}, which travels as a whole"
        return Place(stream=stream, name=name, unit=top, remark=remark)
    return Place(stream=stream, name=name, unit=name, remark=remark)


def _link_above(stream: StreamSettings, name: bytes) -> bytes | None:
    """Return the first directory above the name that is a link."""
    root, parts = os.fsencode(stream.directory), name.split(b"/")
    for length in range(1, len(parts)):
        above = b"/".join(parts[:length])
        try:
            if stat.S_ISLNK(os.lstat(root + b"/" + above).st_mode):
                return above
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise MistamoverError(
                f"{display(root + b'/' + above)} cannot be looked at: {error.strerror}: "
                f"ask as the user of the service, or as root"
            ) from error
    return None


def _inner_name(stream: StreamSettings, text: str) -> bytes:
    name = os.path.normpath(os.fsencode(text)) if text else b""
    if name == b".." or name.startswith((b"/", b"../")):
        raise UsageError(
            f"{stream.name}:{printable(text)}: what follows the colon is a name relative to "
            f"{printable(stream.directory)}, and not outside of it"
        )
    return b"" if name == b"." else name


def _nowhere(argument: str, streams: Sequence[StreamSettings]) -> str:
    if not streams:
        return f"{printable(argument)} is in no stream: the configuration has none"
    known = "".join(f"\n  {stream.name}: {printable(stream.directory)}" for stream in streams)
    return f"{printable(argument)} is in the directory of no stream; the streams are{known}"

"""What stands in the answers of an SFTP server, and the attributes in what it is asked: bytes to values, no I/O."""

from __future__ import annotations

import stat
import struct
from typing import NamedTuple

from mistamover.errors import LinkError
from mistamover.transport.sftp_wire import take_text

_SIZE, _OWNER, _MODE, _TIMES, _MORE = 0x01, 0x02, 0x04, 0x08, 0x80000000
NO_ATTRIBUTES = struct.pack("!I", 0)

#: The protocol's seconds have 32 bits.
_LATEST = 0xFFFFFFFF


class Attributes(NamedTuple):
    """What the server tells of a name."""

    size: int
    mode: int
    mtime: int

    @property
    def kind(self) -> int:
        """The type, as in `stat`; a server that tells none has nothing but files."""
        return stat.S_IFMT(self.mode) or stat.S_IFREG


def names(body: bytes) -> list[bytes]:
    """Given an answer to READDIR, return the names in it. Raise LinkError."""
    (count,) = unpacked("!I", body)
    found, body = [], body[4:]
    for _ in range(count):
        name, body = take_text(body)
        _, body = take_text(body)
        body = body[_length_of_attributes(body) :]
        found.append(name)
    return found


def mode_and_time(mode: int, mtime_ns: int) -> bytes:
    """Given a mode and a time, return them as attributes, to the second."""
    seconds = min(max(mtime_ns // 1_000_000_000, 0), _LATEST)
    return struct.pack("!4I", _MODE | _TIMES, mode & 0o7777, seconds, seconds)


def attributes(body: bytes) -> Attributes:
    """Given an answer's body that holds attributes, return them; what is not told is 0. Raise LinkError."""
    (flags,) = unpacked("!I", body)
    at = 4
    size = mode = mtime = 0
    if flags & _SIZE:
        (size,) = unpacked("!Q", body[at:])
        at += 8
    if flags & _OWNER:
        at += 8
    if flags & _MODE:
        (mode,) = unpacked("!I", body[at:])
        at += 4
    if flags & _TIMES:
        (_, mtime) = unpacked("!2I", body[at:])
    return Attributes(size, mode, mtime)


def _length_of_attributes(body: bytes) -> int:
    (flags,) = unpacked("!I", body)
    length = 4 + sum(size for flag, size in ((_SIZE, 8), (_OWNER, 8), (_MODE, 4), (_TIMES, 8)) if flags & flag)
    if flags & _MORE:
        (count,) = unpacked("!I", body[length:])
        rest = body[length + 4 :]
        for _ in range(2 * count):
            _, rest = take_text(rest)
        length = len(body) - len(rest)
    return length


def unpacked(form: str, body: bytes) -> tuple[int, ...]:
    """Given a format of numbers, as struct has it, return those at the beginning of an answer. Raise LinkError."""
    try:
        return struct.unpack_from(form, body)
    except struct.error:
        raise LinkError("the SFTP server's answer is cut off") from None

"""A virtual tar: what each of its bytes is, is known beforehand, so that any part of it can be made by itself.

In the format PAX, as `tarfile` writes it: names of any bytes, sizes of any number.  It ends as GNU tar's do, with zeros
up to a whole record.  A file is opened when its turn comes; one that is not as its member says breaks the tar off.
"""

from __future__ import annotations

import functools
import os
import tarfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from mistamover.jobs.carts.members import Member, broken

_BLOCK: Final = tarfile.BLOCKSIZE
_RECORD: Final = tarfile.RECORDSIZE

#: Bytes of a piece.
PIECE: Final = 1 << 20

#: From here on a number or a name does not fit into the plain header, which is one block.
_LARGE: Final = 8**11
_LONG_NAME: Final = 100

_PERMISSIONS: Final = 0o7777


class VirtualTar:
    """The tar of some members. Used by any number of threads at a time; holds no file open."""

    def __init__(self, members: Sequence[Member]) -> None:
        """Given the members, compute where each will be."""
        self._members = members
        self._starts = array("Q")
        at = 0
        for member in members:
            self._starts.append(at)
            at += _header_size(member) + _padded(member.size)
        self._end = at
        # Two blocks of zeros are the end, and nothing ends within a record.
        self.size = -(-(at + 2 * _BLOCK) // _RECORD) * _RECORD

    def pieces(self, begin: int = 0, end: int | None = None, *, piece: int = PIECE) -> Iterator[bytes]:
        """Given where to begin and to end (None: all), yield these bytes in pieces, all but the last one of one size.

        Raise BundleBroken, OSError.
        """
        end = self.size if end is None else min(end, self.size)
        gathered: list[bytes] = []
        room = piece
        for part in self._parts(begin, end, piece):
            # Most parts are no larger than the room that is left: those of large files are read to its measure.
            while len(part) > room:
                yield b"".join((*gathered, part[:room]))
                part, gathered, room = part[room:], [], piece
            gathered.append(part)
            room -= len(part)
            if not room:
                yield gathered[0] if len(gathered) == 1 else b"".join(gathered)
                gathered, room = [], piece
        if gathered:
            yield b"".join(gathered)

    def _parts(self, begin: int, end: int, piece: int) -> Iterator[bytes]:
        """Yield the bytes in parts, none larger than a piece."""
        if begin >= end:
            return
        first = max(0, bisect_right(self._starts, begin) - 1)
        for number in range(first, len(self._members)):
            start = self._starts[number]
            if start >= end:
                return
            yield from _member_parts(self._members[number], begin - start, end - start, piece)
        at = max(begin, self._end)
        while at < end:
            yield bytes(min(end - at, piece))
            at += min(end - at, piece)


def _member_parts(member: Member, begin: int, end: int, piece: int) -> Iterator[bytes]:
    """Yield a part of a member: header, content, zeros; `begin` may lie before it, and `end` behind it."""
    header = header_of(member)
    over = end - len(header) - member.size
    if begin < len(header):
        yield header[max(0, begin) : end]
    first, last = max(0, begin - len(header)), max(0, min(member.size, end - len(header)))
    if member.path is None:
        yield member.content[first:last]
    elif first < last or (not member.size and over >= 0 == first):
        # The first part of a file fills up the piece that its header is in.
        filled = (len(header) + first - begin) % piece
        yield from file_parts(member, first, last, piece, piece - filled)
    zeros = _padded(member.size) - member.size
    if zeros and over > 0:
        skipped = max(0, begin - len(header) - member.size)
        yield bytes(max(0, min(zeros, over) - skipped))


def file_parts(member: Member, begin: int, end: int, piece: int, room: int) -> Iterator[bytes]:
    """Given the member of a file, yield its bytes in parts: the first of `room`, the others of `piece` bytes.

    With the last bytes it is seen to that nothing follows.  Raise BundleBroken, OSError.
    """
    assert member.path is not None
    descriptor = _opened(member.path)
    try:
        at = begin
        while at < end:
            wanted = min(room, end - at)
            # One byte more where the file is to end: a longer one shows itself without another call.
            part = os.pread(descriptor, wanted + (at + wanted == member.size), at)
            if len(part) > wanted:
                raise broken(member.path, f"it is longer than its {member.size} bytes")
            if not part:
                raise broken(member.path, f"it is shorter than its {member.size} bytes")
            yield part
            at += len(part)
            room = room - len(part) or piece
        if not member.size and os.pread(descriptor, 1, 0):
            raise broken(member.path, "it is longer than its 0 bytes")
    finally:
        os.close(descriptor)


def header_of(member: Member) -> bytes:
    """Given a member, return all that is before its content."""
    if not _is_plain(member):
        info = tarfile.TarInfo(os.fsdecode(member.name))
        info.size, info.mtime, info.mode = member.size, member.mtime, member.mode & _PERMISSIONS
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    # The same, ten times as fast: there are thousands.
    before, behind, total = _usual(member.mode & _PERMISSIONS)
    numbers = b"%011o\0%011o\0" % (member.size, member.mtime)
    total += sum(member.name) + sum(numbers)
    return b"%b%b%b%06o\0 %b" % (member.name.ljust(_LONG_NAME, b"\0"), before, numbers, total, behind)


@functools.lru_cache(maxsize=64)
def _usual(mode: int) -> tuple[bytes, bytes, int]:
    """Return what is before and behind size, time and checksum in a plain header, and the sum of all but these."""
    info = tarfile.TarInfo("")
    info.mode = mode
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    before, behind = header[_LONG_NAME:124], header[156:]
    # The checksum counts as eight blanks while it is computed.
    return before, behind, sum(before) + sum(behind) + 8 * ord(" ")


def _is_plain(member: Member) -> bool:
    name = member.name
    return len(name) <= _LONG_NAME and name.isascii() and member.size < _LARGE and 0 <= member.mtime < _LARGE


def _header_size(member: Member) -> int:
    return _BLOCK if _is_plain(member) else len(header_of(member))


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _opened(path: bytes) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise broken(path, error.strerror or "it cannot be opened") from error

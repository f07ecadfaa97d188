"""Writing a zip: everything that a directory holds, the same bytes for the same content, in bounded memory.

Written by `zipfile`, with zip64 where it is needed.  Beyond what that does by itself,
an entry keeps its kind and permissions (the Unix mode in its external attributes), its modification
time to the second (the extra field that Info-ZIP calls UT), and the bytes of its name.  A zip
calls a name text: ASCII, UTF-8 with a flag, or else whatever the reader takes it for.  A name
that is not UTF-8 goes in as it is, without the flag: on Unix, `unzip` makes the same bytes of it.
Nothing is read here, and no path is looked at.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import BinaryIO

#: The first and the last moment (1980 and 2107) that the plain time of an entry can hold, here in UTC; what is before
#: or after gets the nearest.
_EARLIEST = 315532800
_LATEST = 4354819198

#: Info-ZIP's extra field of the time: its number, its length, "a modification time follows", seconds since the epoch.
_TIME = struct.Struct("<HHBl")
_TIME_NUMBER = 0x5455
_SECONDS = range(-(1 << 31), 1 << 31)

#: "A directory", in the attributes of DOS.
_DOS_DIRECTORY = 0x10

#: From this size on a piece is tried.  What does not get smaller than this share is stored as it is: data that are
#: compressed already would hold everything up (measured: 31 MB/s, against 1,000 MB/s).
_TRIED_FROM = 1 << 16
_WORTH_IT = 0.95

#: "Made on Unix", and the flag that says that a name is UTF-8.
_UNIX = 3
_UTF8 = 0x800


class ZipWriter:
    """A zip that is being written to a file; used with `with`, whose end completes it."""

    def __init__(self, file: BinaryIO, *, level: int | None = None) -> None:
        """Given a new file, open for writing, write to it; it stays the caller's to close.

        It need not be one that can go back.  `level`: how hard to compress (1 to 9), None: as zlib does usually.
        """
        self._zip = zipfile.ZipFile(file, "w")
        self._level = level

    def __enter__(self) -> ZipWriter:
        return self

    def __exit__(self, failed: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        if failed is None:
            self._zip.close()
            return
        # It is going to be thrown away; closed it must be all the same.
        with contextlib.suppress(OSError, ValueError):
            self._zip.close()

    def directory(self, name: bytes, status: os.stat_result) -> None:
        """Given a directory's name and lstat, add it. Raise OSError."""
        entry = _Entry(name + b"/", status)
        entry.external_attr |= _DOS_DIRECTORY
        self._zip.writestr(entry, b"")

    def link(self, name: bytes, status: os.stat_result, target: bytes) -> None:
        """Given the name, lstat and target of a symbolic link, add it as a link. Raise OSError."""
        self._zip.writestr(_Entry(name, status), target)

    def file(self, name: bytes, status: os.stat_result, content: Iterable[bytes]) -> None:
        """Given a file's name, its status and its content in pieces, add it. Raise OSError.

        The first piece tells whether it is worth compressing: pieces of the same size make the same bytes.
        """
        for _ in self.filing(name, status, content):
            pass

    def filing(self, name: bytes, status: os.stat_result, content: Iterable[bytes]) -> Iterator[None]:
        """Do what `file` does, and yield whenever a piece is written. Raise OSError."""
        entry = _Entry(name, status)
        # What `zipfile` has for this is documented for its own calls only.
        entry._compresslevel = self._level  # type: ignore[attr-defined]
        pieces = iter(content)
        first = next(pieces, b"")
        entry.compress_type = zipfile.ZIP_DEFLATED if _is_worth_it(first) else zipfile.ZIP_STORED
        # Only with the size known beforehand does zipfile know whether it needs zip64.
        entry.file_size = status.st_size
        with self._zip.open(entry, "w") as sink:
            for piece in itertools.chain((first,), pieces):
                sink.write(piece)
                yield
        yield


class _Entry(zipfile.ZipInfo):
    """What `zipfile` knows of one entry, and its name as bytes."""

    __slots__ = ("_raw",)

    def __init__(self, name: bytes, status: os.stat_result) -> None:
        seconds = status.st_mtime_ns // 10**9
        moment = time.gmtime(min(max(seconds, _EARLIEST), _LATEST))
        super().__init__(name.decode("utf-8", "surrogateescape"), moment[:6])
        self._raw = name
        self.create_system = _UNIX
        self.external_attr = status.st_mode << 16
        if seconds in _SECONDS:
            self.extra = _TIME.pack(_TIME_NUMBER, _TIME.size - 4, 1, seconds)

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        """Return what `zipfile` writes as the name, and the flags: it would refuse a name that is not UTF-8."""
        utf8 = not self._raw.isascii() and _is_utf8(self._raw)
        return self._raw, self.flag_bits | (_UTF8 if utf8 else 0)


def _is_worth_it(piece: bytes) -> bool:
    return len(piece) < _TRIED_FROM or len(zlib.compress(piece, 1)) < len(piece) * _WORTH_IT


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True

"""A bundle, byte by byte, from its members: as tar, zip or compressed tar, in pieces of about 1 MiB.

A tar can also be made from any of its bytes on, see `tar`; the others only from their beginning.  Zstandard is an
extra.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Final, cast

from mistamover.errors import JobRefused
from mistamover.files.zips import ZipWriter
from mistamover.jobs.cart_model import BundleForm, BundleFormat
from mistamover.jobs.carts.members import Member
from mistamover.jobs.carts.tar import PIECE, VirtualTar, file_parts

#: How much of the processor compressing may take: a download is not to wait for it.
_LIGHT: Final = 1


def pieces(form: BundleForm, members: Sequence[Member], *, piece: int = PIECE) -> Iterator[bytes]:
    """Given how a bundle is to be, and its members, yield its bytes. Raise BundleBroken, JobRefused, OSError."""
    match form.format:
        case BundleFormat.TAR:
            return VirtualTar(members).pieces(piece=piece)
        case BundleFormat.TAR_ZST:
            return _compressed(VirtualTar(members).pieces(piece=piece), piece)
        case BundleFormat.ZIP:
            return _zip(members, piece)


def check_format(form: BundleFormat) -> None:
    """Given a format, return if it can be made here. Raise JobRefused (`no-zstd`)."""
    if form is BundleFormat.TAR_ZST:
        _zstandard()


@functools.cache
def _zstandard() -> Any:
    try:
        return importlib.import_module("zstandard")
    except ImportError as error:
        words = "bundles of the format tar.zst need the package zstandard: install mistamover[zstd], or ask for tar"
        raise JobRefused("no-zstd", words) from error


def _compressed(parts: Iterable[bytes], piece: int) -> Iterator[bytes]:
    chunker = _zstandard().ZstdCompressor(level=_LIGHT, write_checksum=True).chunker(chunk_size=piece)
    for part in parts:
        yield from chunker.compress(part)
    yield from chunker.finish()


def _zip(members: Sequence[Member], piece: int) -> Iterator[bytes]:
    sink = _Sink()
    with ZipWriter(cast("BinaryIO", sink), level=_LIGHT) as writer:
        for member in members:
            for _ in writer.filing(member.name, _status(member), _content(member, piece)):
                if sink.size >= piece:
                    yield sink.taken()
    yield sink.taken()


def _content(member: Member, piece: int) -> Iterator[bytes]:
    if member.path is None:
        return iter((member.content,))
    return file_parts(member, 0, member.size, piece, piece)


def _status(member: Member) -> os.stat_result:
    ten = (member.mode, 0, 0, 1, 0, 0, member.size, 0, member.mtime, 0)
    return os.stat_result(ten, {"st_mtime_ns": member.mtime * 10**9})


class _Sink:
    """What a zip is written to; it cannot go back, and is emptied again and again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size = 0

    def write(self, data: bytes) -> int:
        """Given bytes, keep them."""
        self._parts.append(bytes(data))
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: `zipfile` asks for it."""

    def taken(self) -> bytes:
        """Return all that was written since the last time."""
        parts, self._parts, self.size = self._parts, [], 0
        return b"".join(parts)

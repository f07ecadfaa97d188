"""Hashes of what is in files and directories."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Protocol

from mistamover.files.identity import DirectoryHandles
from mistamover.model import Kind, TreeEntry

_CHUNK = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Hash(Protocol):
    """What hashlib returns."""

    @property
    def digest_size(self) -> int:
        """How many bytes a hash has."""

    def update(self, data: bytes, /) -> None:
        """Add data."""

    def hexdigest(self) -> str:
        """Return the hash of all data so far, in hexadecimal."""


def new(algorithm: str) -> Hash:
    """Given `xxh128`, or the name of a hash of this Python's hashlib that has one length, return an empty hash."""
    if algorithm == "xxh128":
        import xxhash  # most agents never need it

        return xxhash.xxh3_128()
    # These are checksums: what keeps a stranger out is the login.
    return hashlib.new(algorithm, usedforsecurity=False)


def is_known(algorithm: str) -> bool:
    """Given any text, tell whether hashlib here has a hash of that name, with a length of its own."""
    try:
        return algorithm in hashlib.algorithms_available and new(algorithm).digest_size > 0
    except ValueError:
        # This host's OpenSSL knows its name, and does not do it.
        return False


def of_file(handle: int, algorithm: str) -> tuple[str, int]:
    """Given a descriptor, return the hash of the whole file, and how many bytes it has. Raise OSError."""
    value = new(algorithm)
    position = 0
    while chunk := os.pread(handle, _CHUNK, position):
        value.update(chunk)
        position += len(chunk)
    return value.hexdigest(), position


def of_tree(root: bytes, name: bytes, entries: Iterable[TreeEntry], algorithm: str) -> tuple[str, int]:
    """Given a directory by its name below a root, and all that it holds, return one hash of names, kinds and contents,
    and how many bytes all files have together. Raise OSError.

    A link counts by where it points to; modes, owners, times, and what is never sent (FIFOs, sockets) do not count.
    """
    whole = new(algorithm)
    total = 0
    with DirectoryHandles(root) as handles:
        for entry in sorted(entries, key=lambda each: each.name):
            if entry.kind is Kind.SPECIAL:
                continue
            content, size = _of_entry(handles, name + b"/" + entry.name, entry.kind, algorithm)
            total += size
            # NUL stands in no name, and a length before it would say no more.
            whole.update(b"\0".join((entry.kind.value.encode(), entry.name, content.encode())) + b"\0")
    return whole.hexdigest(), total


def _of_entry(handles: DirectoryHandles, name: bytes, kind: Kind, algorithm: str) -> tuple[str, int]:
    above, _, last = name.rpartition(b"/")
    if kind is Kind.LINK:
        value = new(algorithm)
        value.update(os.readlink(last, dir_fd=handles.get(above)))
        return value.hexdigest(), 0
    if kind is not Kind.FILE:
        return "", 0
    handle = os.open(last, _OPEN, dir_fd=handles.get(above))
    try:
        return of_file(handle, algorithm)
    finally:
        os.close(handle)

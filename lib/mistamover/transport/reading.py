"""A file that is read for a far end where it appears with its last byte: what was read must be one version of it."""

from __future__ import annotations

import os

from mistamover.transport.far import FarRefusal


class Reading:
    """One open file, as it was when reading began."""

    def __init__(self, source: int) -> None:
        """Given its descriptor, remember what it is now."""
        self._source = source
        self._before = _version(source)
        self.mtime_ns = self._before[1]

    def piece(self, size: int, position: int) -> bytes:
        """Return so many bytes. Raise FarRefusal if there are less: it was cut off meanwhile."""
        pieces: list[bytes] = []
        while size:
            piece = os.pread(self._source, size, position)
            if not piece:
                raise FarRefusal("it was cut off while it was read")
            pieces.append(piece)
            position, size = position + len(piece), size - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def same(self) -> None:
        """Raise FarRefusal if it has changed since reading began: asked before the last of it is sent."""
        if _version(self._source) != self._before:
            raise FarRefusal("it changed while it was read")


def _version(source: int) -> tuple[int, int, int]:
    status = os.fstat(source)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns

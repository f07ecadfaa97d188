"""Which zips a mirror may have put at its target: noted before each appears there.

The ledger learns of a zip a moment after it has appeared.  Who dies in between, or loses the
connection, must still know the zip for its own when the directory has changed meanwhile: a
zip of somebody else is never replaced.
"""

from __future__ import annotations

from pathlib import Path

from mistamover.files.durable import write_whole
from mistamover.model import Identity

#: Notes that are kept.  Only the last ones can be of zips that the ledger does not know.
_KEPT = 16


class ZipsShown:
    """The latest notes of one stream, in a file."""

    def __init__(self, path: Path) -> None:
        """Given the file, know what a predecessor has noted there. Raise OSError."""
        self._path = path
        self._notes: list[tuple[bytes, Identity]] = []
        if path.exists():
            self._notes = [_read(line) for line in path.read_bytes().splitlines()]

    def note(self, name: bytes, identity: Identity) -> None:
        """Given the name and the identity of a zip that is going to appear, note it durably. Raise OSError."""
        fresh = (name, Identity(0, 0, identity.size, identity.mtime_ns, 0))
        self._notes = [*(note for note in self._notes if note != fresh), fresh][-_KEPT:]
        lines = (b"%d %d %s\n" % (each.size, each.mtime_ns, about.hex().encode()) for about, each in self._notes)
        write_whole(self._path, b"".join(lines))

    def of(self, name: bytes) -> list[Identity]:
        """Given a name, return what was noted of it: size and time count."""
        return [identity for noted, identity in self._notes if noted == name]


def _read(line: bytes) -> tuple[bytes, Identity]:
    size, mtime_ns, name = line.split(b" ")
    return bytes.fromhex(name.decode()), Identity(0, 0, int(size), int(mtime_ns), 0)

"""The last gap: a writer that opened a file in the microseconds between the last check and its removal.

Such a writer waits for our lease, on a file that has no name any more.  What it
writes would be lost with the last descriptor; so ours is kept, the writer is let in, and when
it has closed the file and changed something, the content gets a name again and is
sent as a new arrival.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from dataclasses import dataclass

from mistamover.files import leases
from mistamover.files.names import MARK, display

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether the writer has closed the file.
LOOK = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A removed file that somebody is about to write to."""

    name: bytes
    handle: int


class Rescue:
    """The orphans of one stream."""

    def __init__(self, root: bytes) -> None:
        """Given the stream's directory, hold nothing."""
        self._root = root
        self._orphans: list[tuple[Orphan, int, int]] = []

    def __len__(self) -> int:
        return len(self._orphans)

    def adopt(self, orphan: Orphan) -> None:
        """Given an orphan, let its writer in, and keep the file until it is closed."""
        status = os.fstat(orphan.handle)
        self._orphans.append((orphan, status.st_size, status.st_mtime_ns))
        leases.release(orphan.handle)
        logger.warning("%s: opened for writing in the moment of its removal: watching it", display(orphan.name))

    def look(self) -> list[bytes]:
        """Give a name again to what was written and closed; return those names."""
        back = []
        for entry in list(self._orphans):
            orphan, size, mtime = entry
            try:
                fcntl.fcntl(orphan.handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            except BlockingIOError:
                continue
            self._orphans.remove(entry)
            status = os.fstat(orphan.handle)
            if (status.st_size, status.st_mtime_ns) != (size, mtime):
                back.append(self._name_again(orphan))
            os.close(orphan.handle)
        return back

    def _name_again(self, orphan: Orphan) -> bytes:
        """Copy the content to its old name, or to a numbered one where that name is taken; return the name."""
        above, slash, last = orphan.name.rpartition(b"/")
        os.makedirs(self._root + b"/" + above, exist_ok=True)
        temporary = self._root + b"/" + above + slash + MARK + b"-rescue-%d" % orphan.handle
        with open(temporary, "wb") as copy, open(orphan.handle, "rb", closefd=False) as content:
            content.seek(0)
            shutil.copyfileobj(content, copy, 1 << 20)
            os.fchmod(copy.fileno(), os.fstat(orphan.handle).st_mode & 0o7777)
            copy.flush()
            os.fsync(copy.fileno())
        for number in range(10_000):
            name = above + slash + (last if not number else last[:240] + b".%d" % number)
            try:
                os.link(temporary, self._root + b"/" + name)
            except FileExistsError:
                continue
            os.unlink(temporary)
            words = (display(orphan.name), display(name))
            logger.warning("%s: written to after its removal: it is here again as %s", *words)
            return name
        raise FileExistsError(f"no name is free for {display(orphan.name)}; its content is in {display(temporary)}")

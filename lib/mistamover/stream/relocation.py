"""Moving one unit out of quarantine so that a process may be killed at any instant.

The plan is noted before (`Relocation`).  Where a rename does it, device and inode tell afterwards whether it was done.
Where the unit is copied to another filesystem, those of the complete copy are noted before that gets its name; once it
has it, that is noted, and only then the original goes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mistamover.files import leases
from mistamover.files.durable import sync_directory
from mistamover.files.moving import copy_whole, make_directories, remove_whole, rename_exclusively
from mistamover.files.names import MARK, display
from mistamover.model import Writers
from mistamover.stream.ledger import Relocation

logger = logging.getLogger(__name__)

Note = Callable[[Sequence[Relocation]], None]
"""What records plans durably."""


def carry_out(planned: Relocation, note: Note) -> None:
    """Given a plan that is noted, and what notes how far it has come, move the unit.

    That its new name is on the disk is the caller's to see to.  Raise FileExistsError when the name is taken, OSError
    when it cannot be moved; it is then where it was, and `clean_up` removes what is left.
    """
    above = os.path.dirname(planned.destination)
    _stay_inside(above, len(planned.destination) - len(planned.name))
    if os.path.lexists(planned.destination):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), display(planned.destination))
    make_directories(above)
    try:
        rename_exclusively(planned.source, planned.destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(planned, note)


def finish(noted: Relocation, note: Note) -> bool:
    """Given a plan that a process was carrying out when it died, complete it if the unit has got its new name.

    Return whether it has, or is gone altogether.
    """
    there = _inode(noted.destination)
    arrived = noted.placed or (there is not None and there in (noted.found, noted.copy))
    here = _inode(noted.source) == noted.found
    if arrived and here:
        # Whatever happens to the new one from now on: what is left of the old one is no unit any more.
        flush_names(os.path.dirname(noted.destination))
        note([replace(noted, placed=True)])
        _remove_original(noted)
    return arrived or not here


def clean_up(planned: Relocation) -> None:
    """Given a plan that was given up, remove what was copied."""
    try:
        remove_whole(_temporary(planned))
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EACCES):
            logger.warning("%s: it cannot be removed: %s", display(_temporary(planned)), error.strerror or error)


def flush_names(directory: bytes) -> None:
    """Given a directory, wait until its names are on the disk, also if we may write there but not read."""
    try:
        sync_directory(directory)
    except OSError:
        os.sync()


def _remove_original(placed: Relocation) -> None:
    try:
        remove_whole(placed.source)
    except OSError as error:
        # The unit is where it was to go; to give that up now would double it.
        words = (display(placed.source), display(placed.destination), error.strerror or error)
        logger.error("%s: copied to %s, but what is left cannot be removed: %s", *words)


def _copy(planned: Relocation, note: Note) -> None:
    temporary = _temporary(planned)
    remove_whole(temporary)
    with _unwritten(planned.source) as untouched:
        copy_whole(planned.source, temporary)
        if not untouched():
            raise OSError(errno.EBUSY, "it is being written to")
        copy = _inode(temporary)
        note([replace(planned, copy=copy)])
        rename_exclusively(temporary, planned.destination)
        flush_names(os.path.dirname(planned.destination))
        note([replace(planned, copy=copy, placed=True)])
        _remove_original(planned)


@contextlib.contextmanager
def _unwritten(path: bytes) -> Iterator[Callable[[], bool]]:
    """Keep writers away from a file while it is copied; yield what tells whether one came."""
    before = os.lstat(path)
    if not stat.S_ISREG(before.st_mode):
        yield lambda: True
        return
    handle, writers = leases.take(path)
    try:
        if writers is Writers.SOME:
            raise OSError(errno.EBUSY, "a process has it open for writing")

        def untouched() -> bool:
            now = os.fstat(handle)
            same = (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (
                before.st_size,
                before.st_mtime_ns,
                before.st_ctime_ns,
            )
            return same and (writers is Writers.UNKNOWN or leases.held(handle))

        yield untouched
    finally:
        os.close(handle)


def _stay_inside(above: bytes, root: int) -> None:
    """Given a directory and how much of its path is given by the configuration, refuse links in the rest.

    Raise OSError: a unit must not leave through one that somebody has made since.
    """
    end = root
    while end < len(above):
        end = above.find(b"/", end)
        end = len(above) if end < 0 else end
        if os.path.islink(above[:end]):
            raise OSError(errno.ELOOP, f"{display(above[:end])} is a symbolic link now")
        end += 1


def _temporary(planned: Relocation) -> bytes:
    key = hashlib.blake2b(planned.name, digest_size=8).hexdigest().encode()
    return os.path.dirname(planned.destination) + b"/" + MARK + b"-move-" + key


def _inode(path: bytes) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino

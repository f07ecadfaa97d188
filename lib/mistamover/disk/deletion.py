"""What the disk guard may delete, and deleting it, a few at a time.

Safe is what the stream's ledger records as delivered to every required target, and what is still the very file that was
delivered.  That is the source of a mirror; a move removes its sources itself.  Nothing outside the stream's directory
is touched, no link is followed, and a file that somebody writes to stays.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mistamover.config.settings import StreamSettings, TransferMode
from mistamover.disk.level import Shortage
from mistamover.errors import LedgerError
from mistamover.files import leases
from mistamover.files.identity import DirectoryHandles, identity_of
from mistamover.model import Identity, Writers
from mistamover.stream.ledger import Ledger

#: Files that are deleted before the free space is looked at again.
_AT_ONCE = 500

#: The unit of st_blocks (stat(2)).
_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Victim:
    """A file that may be deleted as long as it is what it was."""

    name: bytes
    identity: Identity


def make_room(stream: StreamSettings, short: Callable[[], Shortage | None], *, undelivered: bool) -> Iterator[bytes]:
    """Given a stream and what tells how much is missing still (None: no more), delete files and yield their paths.

    With `undelivered` those that were not delivered go as well.  Raise LedgerError, OSError.
    """
    root = os.fsencode(stream.directory)
    with contextlib.closing(_whatever_is_there(stream) if undelivered else _delivered(stream)) as victims:
        while (shortage := short()) is not None:
            chosen = _choose(victims, root, shortage)
            if not chosen:
                return
            _forget(stream, chosen)
            yield from (root + b"/" + name for name in _delete_all(chosen, root))


def _delivered(stream: StreamSettings) -> Generator[Victim, None, None]:
    """Given a stream, yield the files that were delivered to every required target, the oldest first."""
    required = [target.name for target in stream.targets if target.required]
    path = _ledger_file(stream)
    # What is deleted here must not be deleted at the target: `mirror_delete` would do that.
    if stream.mode is not TransferMode.MIRROR or stream.mirror_delete or not required or not path.exists():
        return
    try:
        with Ledger(path, read_only=True) as ledger:
            for name, identity in ledger.mirrored_files(required[0]):
                if all(ledger.mirrored(name, target) == identity for target in required[1:]):
                    yield Victim(name=name, identity=identity)
    except sqlite3.Error as error:
        raise LedgerError(f"{path}: {error}") from error


def _forget(stream: StreamSettings, victims: Sequence[Victim]) -> None:
    """Take out of the ledger what is about to be deleted: who turns `mirror_delete` on one day must not lose it there.

    Should the guard die in between, what was delivered is delivered once more.
    """
    if not _ledger_file(stream).exists():
        return
    with Ledger(_ledger_file(stream)) as ledger:
        for target in stream.targets:
            ledger.forget_mirrored((victim.name for victim in victims), target.name)


def _whatever_is_there(stream: StreamSettings) -> Generator[Victim, None, None]:
    """Given a stream, yield every file in its directory, the newest first; names with a dot in front are left out."""
    root = os.fsencode(stream.directory)
    found: list[Victim] = []
    for directory, below, names, handle in os.fwalk(root, follow_symlinks=False):
        below[:] = [name for name in below if not name.startswith(b".")]
        for name in names:
            if name.startswith(b".") or name == os.fsencode(stream.stop_file):
                continue
            try:
                status = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                whole = os.path.relpath(directory + b"/" + name, root)
                found.append(Victim(name=whole, identity=identity_of(status)))
    yield from sorted(found, key=lambda victim: victim.identity.ctime_ns, reverse=True)


def _choose(victims: Iterator[Victim], root: bytes, shortage: Shortage) -> list[Victim]:
    """Given victims in order and how much is missing, return the next ones that do; none when there are no more.

    What has changed, or has another name (its removal frees nothing), is passed over.
    """
    chosen: list[Victim] = []
    space, inodes = shortage
    with DirectoryHandles(root) as handles:
        for victim in victims:
            try:
                status = handles.lstat(victim.name)
            except OSError:
                continue
            if status.st_nlink > 1 or identity_of(status) != victim.identity or not stat.S_ISREG(status.st_mode):
                continue
            chosen.append(victim)
            space -= status.st_blocks * _BLOCK
            inodes -= 1
            if len(chosen) >= _AT_ONCE or (space <= 0 and inodes <= 0):
                break
    return chosen


def _delete_all(victims: Sequence[Victim], root: bytes) -> list[bytes]:
    """Given victims and the stream's directory, delete those that are still the same; return their names."""
    gone = []
    with DirectoryHandles(root) as handles:
        for victim in victims:
            above, _, last = victim.name.rpartition(b"/")
            try:
                if _delete(last, handles.get(above), victim.identity):
                    gone.append(victim.name)
            except OSError:
                # It has gone, or is not ours to delete.
                continue
    return gone


def _delete(last: bytes, above: int, identity: Identity) -> bool:
    handle, writers = leases.take(last, dir_fd=above)
    try:
        if writers is Writers.SOME or identity_of(os.fstat(handle)) != identity:
            return False
        # The name may lead elsewhere by now; with the lease held the content cannot change meanwhile.
        if identity_of(os.stat(last, dir_fd=above, follow_symlinks=False)) != identity:
            return False
        if writers is Writers.NONE and not leases.held(handle):
            return False
        os.unlink(last, dir_fd=above)
    finally:
        os.close(handle)
    return True


def _ledger_file(stream: StreamSettings) -> Path:
    """Given a stream, return the path of its ledger."""
    return stream.state_dir / "ledger.sqlite"

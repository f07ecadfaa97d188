"""The end of a unit's way: confirmed by every required target, recorded, and only then removed at the source.

The order is the promise.  (1) The ledger holds the confirmation, on disk.  (2) The
source is looked at once more: same device, inode, size, mtime and ctime as
confirmed, and no writer came.  (3) It is removed.  (4) The ledger notes the end.  A
process that dies in between finishes from the ledger, with the same check.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mistamover.files import leases
from mistamover.files.identity import DirectoryHandles, identity_of
from mistamover.files.names import display
from mistamover.model import Confirmed, Identity, Kind, TreeEntry, Unit, Writers
from mistamover.watch.scan import manifest

logger = logging.getLogger(__name__)

CHANGED = "changed after it was sent: kept, and sent again"
BUSY = "open for writing: kept, and sent again"


class Completion:
    """Which required targets have confirmed which unit; a unit may go when all of them have."""

    def __init__(self, required: frozenset[str]) -> None:
        """Given the names of the required targets, know of no confirmation yet."""
        self._required = required
        self._partial: dict[tuple[bytes, Identity], set[str]] = {}

    def confirmed(self, target: str, items: Iterable[Confirmed]) -> list[Confirmed]:
        """Given what one target has confirmed, return the items that every required target has confirmed now."""
        if self._required == {target}:
            return list(items)
        complete = []
        for item in items:
            key = (item.unit.name, item.unit.identity)
            have = self._partial.setdefault(key, set())
            have.add(target)
            if have >= self._required:
                del self._partial[key]
                complete.append(item)
        return complete


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """What became of one source."""

    name: bytes
    kept: str | None
    """Why the source is still there, or None: it was removed (or had gone)."""
    stuck: bool = False
    """It is what was delivered, but cannot be removed: only a person can help."""


def _nobody_came(_: bytes) -> None:
    """What is told after a removal where nobody keeps the removed file."""


def remove_sources(
    root: bytes,
    units: Iterable[Unit],
    intact: Callable[[bytes], bool],
    removed: Callable[[bytes], None] = _nobody_came,
    touched: set[tuple[int, int]] | None = None,
) -> list[HandedOver]:
    """Given the stream's directory and units that may go, remove each source that is still what was confirmed.

    `intact` tells whether no writer came to a name since its lease was taken; `removed` is told of every file right
    after its removal, while its lease is still held.
    """
    result = []
    # Removing one name of an inode changes the ctime of its other names; that change is ours.
    touched = set() if touched is None else touched
    with DirectoryHandles(root) as handles:
        for unit in units:
            stuck = False
            try:
                kept = _remove(root, handles, unit, intact, removed, touched)
            except OSError as error:
                kept, stuck = f"delivered, but cannot be removed here: {error.strerror or error}", True
                logger.error("%s: %s", display(unit.name), kept)
            result.append(HandedOver(name=unit.name, kept=kept, stuck=stuck))
    return result


def remove_after_restart(root: bytes, confirmed: Iterable[Confirmed]) -> list[HandedOver]:
    """Given what a predecessor confirmed but did not hand over, remove it under fresh leases."""
    touched: set[tuple[int, int]] = set()
    return [_remove_one_after_restart(root, item.unit, touched) for item in confirmed]


def _remove_one_after_restart(root: bytes, unit: Unit, touched: set[tuple[int, int]]) -> HandedOver:
    files = [unit.name] if unit.kind is Kind.FILE else []
    if unit.kind is Kind.TREE:
        files = [unit.name + b"/" + entry.name for entry in unit.manifest if entry.kind is Kind.FILE]
    held: dict[bytes, int] = {}
    try:
        if any(_busy(root, name, held) for name in files):
            return HandedOver(name=unit.name, kept=BUSY)
        return remove_sources(root, [unit], lambda name: name not in held or leases.held(held[name]), touched=touched)[
            0
        ]
    finally:
        for handle in held.values():
            os.close(handle)


def _busy(root: bytes, name: bytes, held: dict[bytes, int]) -> bool:
    try:
        handle, writers = leases.take(root + b"/" + name)
    except OSError:
        # Gone, or not to be opened: the identity check that follows decides.
        return False
    held[name] = handle
    if writers is Writers.UNKNOWN:
        os.close(held.pop(name))
    return writers is Writers.SOME


def _remove(
    root: bytes,
    handles: DirectoryHandles,
    unit: Unit,
    intact: Callable[[bytes], bool],
    removed: Callable[[bytes], None],
    touched: set[tuple[int, int]],
) -> str | None:
    if unit.kind is Kind.TREE:
        return _remove_tree(root, handles, unit, intact, removed)
    try:
        directory = handles.get(unit.name.rpartition(b"/")[0])
        status = handles.lstat(unit.name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    last = unit.name.rpartition(b"/")[2]
    if unit.kind is Kind.DIRECTORY:
        return _remove_directory(last, directory)
    now = identity_of(status)
    if not _same(now, unit.identity, touched) or not intact(unit.name):
        return CHANGED
    os.unlink(last, dir_fd=directory)
    removed(unit.name)
    if status.st_nlink > 1:
        touched.add(now[:2])
    return None


def _same(now: Identity, then: Identity, touched: set[tuple[int, int]]) -> bool:
    if now == then:
        return True
    return now[:2] in touched and now[:4] == then[:4]


def _remove_directory(last: bytes, above: int) -> str | None:
    try:
        os.rmdir(last, dir_fd=above)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"kept: {error.strerror}"
    return None


def _remove_tree(
    root: bytes,
    handles: DirectoryHandles,
    unit: Unit,
    intact: Callable[[bytes], bool],
    removed: Callable[[bytes], None],
) -> str | None:
    """Remove a directory unit: every part is checked first, and only parts of the manifest go."""
    try:
        now = {entry.name: entry for entry in manifest(root, unit.name)}
    except FileNotFoundError:
        return None
    then = {entry.name: entry for entry in unit.manifest}
    if any(entry.kind is Kind.SPECIAL for entry in now.values()):
        raise OSError(errno.EPERM, "it holds a FIFO, socket or device, which is never sent")
    touched: set[tuple[int, int]] = set()
    for name, entry in now.items():
        if not _same_part(entry, then.get(name)) or not intact(unit.name + b"/" + name):
            return CHANGED
    for entry in unit.manifest:
        if entry.kind is not Kind.DIRECTORY and entry.name in now:
            part = Unit(name=unit.name + b"/" + entry.name, kind=entry.kind, identity=entry.identity)
            kept = _remove(root, handles, part, intact, removed, touched)
            if kept is not None:
                return kept
    handles.close()
    try:
        _remove_empty_tree(root, unit)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Something came in after the last look.
        return CHANGED
    return None


def _remove_empty_tree(root: bytes, unit: Unit) -> None:
    directories = [e.name for e in unit.manifest if e.kind is Kind.DIRECTORY]
    for name in sorted(directories, key=lambda n: n.count(b"/"), reverse=True):
        with contextlib.suppress(FileNotFoundError):  # a predecessor was here
            os.rmdir(root + b"/" + unit.name + b"/" + name)
    os.rmdir(root + b"/" + unit.name)


def _same_part(now: TreeEntry, then: TreeEntry | None) -> bool:
    if then is None or now.kind is not then.kind:
        return False
    # A directory's own times change when its content goes; its content is checked name by name.
    return now.kind is Kind.DIRECTORY or now.identity == then.identity

"""Removal at the target of a mirror: what this stream put there and is gone here, never too much at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from mistamover.config.settings import StreamSettings, TransferMode
from mistamover.files.names import ZIP
from mistamover.stream.ledger import Ledger

logger = logging.getLogger(__name__)


class MirrorRemoval:
    """What a mirror with `mirror_delete` has to remove; looked for once after each full scan."""

    def __init__(self, settings: StreamSettings, target: str) -> None:
        """Given the stream's settings and the target's name, know of nothing to remove."""
        self._enabled = settings.mode is TransferMode.MIRROR and settings.mirror_delete
        self._most = settings.mirror_max_delete
        self._zips = settings.zips
        self._target = target
        self._scans_done = 0
        self._scans_seen = 0
        self.refused = ""
        """Why nothing is removed although something should be; empty when all is well."""

    def due(self, full_scans: int) -> bool:
        """Given how many full scans were finished, tell whether there is one that was not compared yet."""
        self._scans_seen = full_scans
        return self._enabled and full_scans > self._scans_done

    def wanted(self, ledger: Ledger, root: bytes) -> Sequence[bytes]:
        """Given the ledger and the stream's directory, return the names to remove, content before its directory."""
        self._scans_done = self._scans_seen
        gone = [name for name, _ in ledger.all_mirrored(self._target) if not self._is_here(root + b"/" + name)]
        refused = ""
        if gone and not _holds_anything(root):
            refused = "the source directory is empty or cannot be read: nothing is removed at the target"
        elif len(gone) > self._most:
            refused = (
                f"{len(gone)} names are gone at the source, more than mirror_max_delete = {self._most}:"
                " none is removed at the target; raise the key if that is right"
            )
        if refused and refused != self.refused:
            logger.error("%s", refused)
        self.refused = refused
        return [] if refused else gone[::-1]

    def _is_here(self, path: bytes) -> bool:
        """Whether a name at the target has its source: the same name here, or the directory that was zipped."""
        zipped = self._zips and path.endswith(ZIP) and os.path.isdir(path.removesuffix(ZIP))
        return zipped or os.path.lexists(path)

    def done(self, ledger: Ledger, removed: Sequence[bytes], *, failed: bool) -> None:
        """Given the names that are gone at the target now, forget them; look again soon if it failed."""
        ledger.forget_mirrored(removed, self._target)
        if removed:
            logger.info("removed %d names at the target that are gone at the source", len(removed))
        if failed:
            self._scans_done = self._scans_seen - 1


def forget_gone(ledger: Ledger, root: bytes, target: str) -> None:
    """Given the ledger, the stream's directory and the target's name, forget what was delivered and has gone here."""
    gone = [name for name, _ in ledger.all_mirrored(target) if not os.path.lexists(root + b"/" + name)]
    if gone:
        ledger.forget_mirrored(gone, target)


def _holds_anything(root: bytes) -> bool:
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except OSError:
        return False

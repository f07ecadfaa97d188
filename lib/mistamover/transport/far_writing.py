"""One batch on its way to one far end: each file is written under a name of ours, proven, and renamed.

What is confirmed has been flushed, where the far end can do that: few files one by one, many together at the end.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Sequence
from typing import cast

from mistamover.config.settings import TargetSettings, Verify
from mistamover.errors import TargetError
from mistamover.files import digests
from mistamover.files.names import parent
from mistamover.model import FaultClass, Kind, Unit
from mistamover.transport.base import Guard
from mistamover.transport.far import FarFiles, FarRefusal, Means, OwningFiles
from mistamover.transport.far_place import Place
from mistamover.transport.far_source import NotSent, Reading, Source

#: From this size on a file is worth resuming after a broken attempt.
_RESUME_FROM = 16 * 1024 * 1024

#: What a far end may do with content: no program becomes another user's by being sent.
_FILE_BITS = 0o777
_DIRECTORY_BITS = 0o1777

#: Faults after which the same content may be sent again.
_ONCE_MORE = (FaultClass.ABANDONED, FaultClass.SOURCE)

_HASHES = ("md5", "sha1", "sha256", "sha512", "blake2b", "xxh128")


class Writing:
    """One connection in use for one batch."""

    def __init__(
        self,
        far: FarFiles,
        means: Means,
        source: Source,
        *,
        guard: Guard,
        target: TargetSettings,
        place: Place,
        alone: bool,
        beside: Writing | None = None,
    ) -> None:
        """Given a connection and what it can do, the source, the guard, the target, our place there, whether there is
        one unit only, so that its progress can be told, and who writes the same batch over another connection, write
        nothing yet.
        """
        self.far = far
        self.means = means
        self._source = source
        self._guard = guard if alone else None
        self._target = target
        self._place = place
        # Those who write one batch make each directory once, and one of them dresses all.
        self._made: _Made = _Made() if beside is None else beside._made
        self.algorithm = algorithm(means, target)

    # -- files --------------------------------------------------------------------------------

    def file(self, unit: Unit, *, flush: bool, final: Callable[[], bytes] | None = None) -> str:
        """Given a file's unit, have it at the target under its final name, proven; return its hash.

        `final`: tells the name when everything is ready (default: the unit's).  Raise NotSent, LinkError, TargetError.
        """
        if not self.means.rename:
            return self._in_place(unit, final() if final is not None else unit.name)
        if unit.identity.size >= _RESUME_FROM and self.means.resume:
            with contextlib.suppress(_ElsewhereRefused):
                return self._resumed(unit, final, flush=flush)
        with self._place.beside(unit.name) as temporary:
            try:
                digest = self.write(unit, temporary)
                self._show(temporary, unit.name if final is None else final, flush=flush)
            except BaseException as error:
                self._discard(temporary, error)
                raise
        return digest

    def write(self, unit: Unit, path: bytes, *, offset: int = 0) -> str:
        """Given a file's unit and a name of ours, write, prove and dress it there; return its hash."""
        size = unit.identity.size
        with self._source.opened(unit) as handle:
            status = os.fstat(handle)
            reading = Reading(self._source, unit, handle, self.algorithm, self._guard)
            if offset:
                reading.told(offset)
            if offset < size or not size:
                self.far.write(path, handle, size, offset, reading.told)
            digest = reading.digest()
        self.prove(path, size, digest)
        self._own(path, status)
        if self.means.attributes:
            self.far.set_attributes(path, status.st_mode & _FILE_BITS, status.st_mtime_ns)
        return digest

    def _own(self, path: bytes, status: os.stat_result) -> None:
        """Given what was written for something of this status here, give it its owner, where that is possible."""
        if self.means.owners:
            cast("OwningFiles", self.far).set_owner(path, status.st_uid, status.st_gid)

    def prove(self, path: bytes, size: int, digest: str) -> None:
        """Given a name at the far end, and the size and hash that it should have, raise FarRefusal if it has not."""
        if self.algorithm in self.means.hashes:
            same = self.far.digest(path, self.algorithm) == digest
        elif self._target.verify is Verify.CONTENT:
            same = self.read_back(path, self.algorithm) == digest
        else:
            there = self.far.look(path)
            same = there is not None and there.size == size
        if not same:
            raise _NotProven("what is at the target is not what was sent")

    def read_back(self, path: bytes, name: str) -> str:
        """Given a name at the far end and a hash's, return the hash of what is read from there."""
        value = digests.new(name)
        for piece in self.far.read(path):
            value.update(piece)
            self._source.go_on()
        return value.hexdigest()

    def _in_place(self, unit: Unit, final: bytes) -> str:
        """Write a file where what is written is seen only when it is whole."""
        try:
            return self.write(unit, final)
        except _NotProven:
            with contextlib.suppress(FarRefusal):
                self.far.remove(final)
            raise

    def _resumed(self, unit: Unit, final: Callable[[], bytes] | None, *, flush: bool) -> str:
        """Send a file that takes a while: what has arrived of it stays there for the next attempt."""
        try:
            self._place.make(self.far, self.means)
        except FarRefusal as error:
            raise _ElsewhereRefused(str(error)) from error
        path = self._place.resumable(unit)
        there = self.far.look(path)
        offset = there.size if there is not None and there.size <= unit.identity.size else 0
        try:
            digest = self.write(unit, path, offset=offset)
        except FarRefusal:
            with contextlib.suppress(FarRefusal):
                self.far.remove(path)
            raise
        except NotSent as error:
            if error.fault not in _ONCE_MORE:
                with contextlib.suppress(FarRefusal):
                    self.far.remove(path)
            raise
        try:
            self._show(path, unit.name if final is None else final, flush=flush)
        except NotSent:
            self.far.remove(path)
            raise
        except FarRefusal as error:
            with contextlib.suppress(FarRefusal):
                self.far.remove(path)
            there = self.far.look(unit.name)
            if there is None or there.kind is not Kind.DIRECTORY:
                # A directory on another filesystem, or under another quota: then it has to be written there.
                raise _ElsewhereRefused(str(error)) from error
            raise
        return digest

    def _show(self, temporary: bytes, final: bytes | Callable[[], bytes], *, flush: bool) -> None:
        if flush and self.means.flush:
            self.far.flush([temporary])
        self.far.rename(temporary, final if isinstance(final, bytes) else final())

    def _discard(self, temporary: bytes, error: BaseException) -> None:
        """Remove what was written of a unit that failed, where the far end can still be asked."""
        if isinstance(error, TargetError | NotSent):
            with contextlib.suppress(TargetError):
                self.far.remove(temporary)

    # -- what has no content ------------------------------------------------------------------

    def link(self, unit: Unit, path: bytes | None = None) -> None:
        """Given a link's unit, have it at the target (or under a name of ours)."""
        if not self.means.links:
            raise FarRefusal("the target cannot hold symbolic links: set [data_stream] symlinks = ignore to leave them")
        text = self._source.link(unit)
        status = self._source.status(unit.name)
        if path is not None:
            self.far.symlink(text, path)
            self._own(path, status)
            return
        with self._place.beside(unit.name) as temporary:
            try:
                self.far.symlink(text, temporary)
                self._own(temporary, status)
                self.far.rename(temporary, unit.name)
            except BaseException as error:
                self._discard(temporary, error)
                raise

    def above(self, directory: bytes) -> None:
        """Given a directory of the stream, make sure that it is at the target, and those above it; see `dress`."""
        if not directory or directory in self._made.directories or not self.means.directories:
            return
        with self._made.lock:
            self.above(parent(directory))
            self.make(directory, directory)

    def make(self, name: bytes, path: bytes) -> None:
        """Given a directory of the stream and its name at the target, make it; it gets its mode and time by `dress`."""
        status = self._source.status(name)
        mode = status.st_mode & _DIRECTORY_BITS
        self.far.make_directory(path)
        self._own(path, status)
        if self.means.attributes:
            # At once, for those who read there; and something is going to be written into it.
            self.far.set_attributes(path, mode | 0o300, status.st_mtime_ns)
        self._made.directories[path] = (mode, status.st_mtime_ns)

    def dress(self) -> None:
        """Give every directory that was made or used its mode and time, now that nothing more comes into it."""
        if self.means.attributes:
            for path in sorted(self._made.directories, reverse=True):
                with contextlib.suppress(FarRefusal):
                    self.far.set_attributes(path, *self._made.directories[path])

    def dress_again(self, staging: bytes, final: bytes, changed: Collection[bytes]) -> None:
        """Given where directories were built and where they are now, dress those that were changed since."""
        if self.means.attributes:
            for path in sorted(changed, reverse=True):
                built = self._made.directories.get(staging + path[len(final) :])
                if built is not None and path.startswith(final):
                    self.far.set_attributes(path, *built)

    def flush(self, paths: Sequence[bytes]) -> None:
        """Given what was renamed into place, have it on disk, and its directories."""
        if self.means.flush and paths:
            self.far.flush([*paths, *sorted({parent(path) for path in paths})])


class _Made:
    """The directories that were made or used in one batch, with the mode and time that they are to have."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.directories: dict[bytes, tuple[int, int]] = {}


class _NotProven(FarRefusal):
    """What was written is not what was read."""


class _ElsewhereRefused(Exception):
    """What was written in our place cannot be renamed to where it belongs."""


def algorithm(means: Means, target: TargetSettings) -> str:
    """Given what a far end can do and what is asked for, return the hash that files are confirmed by."""
    if not means.hashes or target.hash in means.hashes:
        return target.hash
    return next((name for name in _HASHES if name in means.hashes), target.hash)

"""Putting arrivals into the stream's directory: by one rename each, or by a checked copy onto another filesystem."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path

from mistamover.files import digests
from mistamover.files.durable import sync_filesystem
from mistamover.files.identity import DirectoryHandles, identity_of
from mistamover.files.names import MARK
from mistamover.handshake.arrival import Announced, Measured, measure
from mistamover.handshake.messages import Status
from mistamover.watch.scan import manifest

#: Files of a round that are flushed one by one; beyond, their whole filesystem is.
_FEW = 8

#: In the stream's directory, on its filesystem: where copies are made and what is replaced is put; never data.
_PLACE = MARK + b"-arrivals"

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class ChangedMeanwhile(Exception):
    """What was measured is not what lies there now."""


class Delivery:
    """The deliveries of one round: from the incoming directory to that of the stream; use it as a context."""

    def __init__(self, incoming: Path, directory: Path) -> None:
        """Given both directories, open them."""
        self._incoming, self._directory = os.fsencode(incoming), os.fsencode(directory)
        self._from = DirectoryHandles(self._incoming)
        self._to = DirectoryHandles(self._directory)
        self._delivered: list[bytes] = []

    def __enter__(self) -> Delivery:
        return self

    def __exit__(self, *_: object) -> None:
        self._from.close()
        with contextlib.suppress(OSError):  # there may be none
            os.rmdir(_PLACE, dir_fd=self._to.get(b""))
        self._to.close()

    def sweep(self) -> None:
        """Remove what a predecessor left half done. Raise OSError."""
        _remove(_PLACE, self._to.get(b""))

    def deliver(self, measured: Measured) -> None:
        """Given an arrival that is as announced, let it appear in the stream's directory, whole.

        Raise ChangedMeanwhile if it is another one by now, OSError if it cannot be done; it is where it was then.
        """
        name = measured.announced.name
        above, _, last = name.rpartition(b"/")
        source = self._from.get(above)
        now = identity_of(os.stat(last, dir_fd=source, follow_symlinks=False))
        if now != measured.identity:
            raise ChangedMeanwhile
        target = self._directory_for(above)
        try:
            self._move(last, source, last, target, tree=measured.tree)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._copy(measured, source, target, last)
        self._delivered.append(name)

    def has(self, announced: Announced) -> bool:
        """Given what was announced, tell whether just that lies in the stream's directory, on disk. Raise OSError."""
        if measure(self._directory, self._to, announced).status is not Status.OK:
            return False
        self._delivered.append(announced.name)
        self.flush()
        return True

    def deliver_directory(self, name: bytes) -> None:
        """Given an empty directory, have one of that name in the stream's directory, and remove this one. Raise
        OSError.
        """
        self._directory_for(name)
        above, _, last = name.rpartition(b"/")
        os.rmdir(last, dir_fd=self._from.get(above))

    def flush(self) -> None:
        """Wait until all that was delivered is on disk, under its name. Raise OSError."""
        if not self._delivered:
            return
        root = self._to.get(b"")
        if len(self._delivered) > _FEW:
            sync_filesystem(root)
            return
        for name in self._delivered:
            above, _, last = name.rpartition(b"/")
            with contextlib.suppress(FileNotFoundError):  # whoever it was meant for has taken it already
                status = self._to.lstat(name)
                if not stat.S_ISREG(status.st_mode):
                    sync_filesystem(root)
                    continue
                handle = os.open(last, _READ, dir_fd=self._to.get(above))
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        for above in {name.rpartition(b"/")[0] for name in self._delivered}:
            os.fsync(self._to.get(above))

    def _directory_for(self, name: bytes) -> int:
        """Return the descriptor of a directory below the stream's, made if it is not there; never through a link."""
        missing: list[bytes] = []
        while True:
            try:
                handle = self._to.get(name)
                break
            except FileNotFoundError:
                if not name:
                    # The stream's directory itself, which may be a disk that is not mounted.
                    raise
                missing.append(name)
                name = name.rpartition(b"/")[0]
        for below in reversed(missing):
            mode = stat.S_IMODE(os.fstat(self._from.get(below)).st_mode)
            os.mkdir(below.rpartition(b"/")[2], mode, dir_fd=handle)
            handle = self._to.get(below)
        return handle

    def _move(self, name: bytes, source: int, last: bytes, target: int, *, tree: bool) -> None:
        """Rename; a directory that has the name of one is put aside first: only an empty one could be renamed over."""
        if not tree:
            os.rename(name, last, src_dir_fd=source, dst_dir_fd=target)
            return
        aside, place = _unused(), self._place()
        with contextlib.suppress(FileNotFoundError):
            os.rename(last, aside, src_dir_fd=target, dst_dir_fd=place)
        try:
            os.rename(name, last, src_dir_fd=source, dst_dir_fd=target)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.rename(aside, last, src_dir_fd=place, dst_dir_fd=target)
            raise
        _remove(aside, place)

    def _place(self) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(_PLACE, 0o700, dir_fd=self._to.get(b""))
        return self._to.get(_PLACE)

    def _copy(self, measured: Measured, source: int, target: int, last: bytes) -> None:
        """Copy onto another filesystem under a name of ours, check the copy, and let it appear by rename."""
        temporary, place = _unused(), self._place()
        try:
            if measured.tree:
                self._copy_tree(measured, temporary)
            else:
                _copy_file(measured, source, last, place, temporary)
            self._move(temporary, place, last, target, tree=measured.tree)
        except BaseException:
            _remove(temporary, place)
            raise
        # On disk before the other one goes.
        sync_filesystem(target)
        _remove(last, source)

    def _copy_tree(self, measured: Measured, temporary: bytes) -> None:
        copy = _PLACE + b"/" + temporary
        source = os.path.join(self._incoming, measured.announced.name)
        shutil.copytree(os.fsdecode(source), os.fsdecode(os.path.join(self._directory, copy)), symlinks=True)
        algorithm = measured.announced.control.checksum.algorithm
        digest, _ = digests.of_tree(self._directory, copy, manifest(self._directory, copy), algorithm)
        if digest != measured.announced.control.checksum.digest:
            raise OSError(errno.EIO, "the copy is not what was copied")


def _copy_file(measured: Measured, source: int, last: bytes, target: int, temporary: bytes) -> None:
    algorithm = measured.announced.control.checksum.algorithm
    with (
        os.fdopen(os.open(last, _READ, dir_fd=source), "rb") as old,
        os.fdopen(os.open(temporary, _WRITE, 0o600, dir_fd=target), "wb") as new,
    ):
        status = os.fstat(old.fileno())
        if identity_of(status) != measured.identity:
            raise ChangedMeanwhile
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fchmod(new.fileno(), stat.S_IMODE(status.st_mode))
        with contextlib.suppress(PermissionError):
            os.fchown(new.fileno(), status.st_uid, status.st_gid)
        os.utime(new.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fsync(new.fileno())
    check = os.open(temporary, _READ, dir_fd=target)
    try:
        digest, _ = digests.of_file(check, algorithm)
    finally:
        os.close(check)
    if digest != measured.announced.control.checksum.digest:
        raise OSError(errno.EIO, "the copy is not what was copied")


def _remove(name: bytes, directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        try:
            os.unlink(name, dir_fd=directory)
        except (IsADirectoryError, PermissionError):
            shutil.rmtree(name, dir_fd=directory)


def _unused() -> bytes:
    return os.urandom(6).hex().encode()

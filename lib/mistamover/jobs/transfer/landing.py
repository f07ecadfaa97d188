"""The directory of one cart, held open: files come into it under temporary names, and get their paths when they are
whole.

No path leads out of it: each directory on the way is opened by itself, and none is a link.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from mistamover.errors import JobRefused
from mistamover.files.durable import sync_filesystem
from mistamover.jobs import paths
from mistamover.jobs.carts.volume import Volume

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: From so many files on, all of the filesystem is flushed at once.
_MANY = 16


class Landing:
    """See the module; used by several threads. Every method raises OSError."""

    def __init__(self, volume: Volume, job: str) -> None:
        """Given the volume and a job, make the directories of its cart, as far as they are missing; what did not become
        whole before goes.
        """
        self._job = job
        volume.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(volume.partial(job), ignore_errors=True)
        with contextlib.ExitStack() as stack:
            # The volume itself may be a link: that is for its administrator to say.
            self.volume = _held(stack, os.open(volume.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            self._top = _held(stack, _made(self.volume, job))
            self._files = _held(stack, _made(self._top, "files"))
            self._partial = _held(stack, _made(self._top, "partial"))
            os.fsync(self._top)
            os.fsync(self.volume)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Let go of it."""
        self._stack.close()

    def free(self) -> int:
        """Return how many bytes are free on the disk."""
        status = os.fstatvfs(self.volume)
        return status.f_bavail * status.f_frsize

    def has(self, path: str, size: int | None) -> bool:
        """Given the path of a file and its size, tell whether it is here."""
        with contextlib.suppress(FileNotFoundError), self._above(path, make=False) as (above, name):
            status = os.stat(name, dir_fd=above, follow_symlinks=False)
            return stat.S_ISREG(status.st_mode) and status.st_size == size
        return False

    def size(self) -> int:
        """Return how many bytes all files have that are here."""
        return sum(
            os.stat(name, dir_fd=above, follow_symlinks=False).st_size
            for _, _, names, above in os.fwalk(".", dir_fd=self._files)
            for name in names
        )

    def write(self, name: str) -> BinaryIO:
        """Given a temporary name, return a new file of that name."""
        return os.fdopen(os.open(name, _NEW, 0o600, dir_fd=self._partial), "w+b")

    def drop(self, name: str) -> None:
        """Given a temporary name, remove what has it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._partial)

    def place(self, name: str, path: str) -> None:
        """Given a temporary name, and the path that its file is to have, let it have that."""
        with self._above(path, make=True) as (above, last):
            os.rename(name, last, src_dir_fd=self._partial, dst_dir_fd=above)

    def flush(self, found: Sequence[str]) -> None:
        """Given the paths of files, wait until they are on the disk, with the directories on their way."""
        if len(found) >= _MANY:
            sync_filesystem(self.volume)
            return
        for path in found:
            with self._above(path, make=False, flush=True) as (above, name):
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)

    # -- the bundle ---------------------------------------------------------------------------

    def bundle_size(self, name: str) -> int | None:
        """Given the name of a bundle, return its size; None if it is not here."""
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=self._top, follow_symlinks=False)
            return status.st_size if stat.S_ISREG(status.st_mode) else None
        return None

    def place_bundle(self, temporary: str, name: str) -> None:
        """Given a temporary name, and that of a bundle, let its file have that, for good."""
        os.rename(temporary, name, src_dir_fd=self._partial, dst_dir_fd=self._top)
        os.fsync(self._top)

    def tidy(self, *, files: bool) -> None:
        """The cart is ready: remove what is not of it, and, if it is only a bundle, the `files` that it was made of."""
        for name in ("partial", "files") if files else ("partial",):
            shutil.rmtree(name, ignore_errors=True, dir_fd=self._top)

    @contextlib.contextmanager
    def _above(self, path: str, *, make: bool, flush: bool = False) -> Iterator[tuple[int, str]]:
        """Given a path, yield its directory, opened step by step (and made, or flushed), and its last part."""
        parts = path.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise JobRefused("bad-path", f"{paths.shown(path)} is no path in a bundle")
        with contextlib.ExitStack() as stack:
            at = self._files
            for part in parts[:-1]:
                if flush:
                    os.fsync(at)
                at = _held(stack, _made(at, part) if make else os.open(part, _DIRECTORY, dir_fd=at))
            yield at, parts[-1]
            if flush:
                os.fsync(at)


def _held(stack: contextlib.ExitStack, handle: int) -> int:
    stack.callback(os.close, handle)
    return handle


def _made(above: int, name: str) -> int:
    """Given a directory and a name in it, return the directory of that name, which is made if it is missing."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=above)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=above)
        return os.open(name, _DIRECTORY, dir_fd=above)

"""What a directory entry is, and whether it is still the same one."""

from __future__ import annotations

import os
import stat

from mistamover.model import Identity, Kind

_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFLNK: Kind.LINK, stat.S_IFDIR: Kind.DIRECTORY}

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""For opening a directory of which no part may turn into a symbolic link under us."""


def identity_of(status: os.stat_result) -> Identity:
    """Given the result of lstat or fstat, return what must not change until the source is removed."""
    # What Identity(...) would do, in a third of the time; this is called several times for every file.
    values = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return tuple.__new__(Identity, values)


def kind_of(status: os.stat_result) -> Kind:
    """Given the result of lstat, return the kind; a directory is DIRECTORY, whatever its use."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), Kind.SPECIAL)


class DirectoryHandles:
    """Descriptors of the directories below a root, opened one part at a time and never through a link.

    A file is looked at and removed relative to its directory's descriptor: one
    path look-up less for each call, and a directory that somebody replaced by a
    symbolic link is an error, not a way out of the tree.
    """

    def __init__(self, root: bytes, limit: int = 256) -> None:
        """Given the root's path and how many descriptors may be kept open, open nothing yet."""
        self._root = root
        self._limit = limit
        self._open: dict[bytes, int] = {}

    def get(self, directory: bytes) -> int:
        """Given a directory's name relative to the root, return its descriptor. Raise OSError if it is not one."""
        handle = self._open.get(directory)
        if handle is not None:
            return handle
        if len(self._open) >= self._limit:
            self.close()
        if not directory:
            handle = os.open(self._root, DIRECTORY_FLAGS & ~os.O_NOFOLLOW)
        else:
            above, _, last = directory.rpartition(b"/")
            handle = os.open(last, DIRECTORY_FLAGS, dir_fd=self.get(above))
        self._open[directory] = handle
        return handle

    def forget(self, directory: bytes) -> None:
        """Given a directory's name, let the next `get` find out anew what has it."""
        handle = self._open.pop(directory, None)
        if handle is not None:
            os.close(handle)

    def lstat(self, name: bytes) -> os.stat_result:
        """Given a name relative to the root, return its lstat. Raise OSError as lstat does."""
        above, _, last = name.rpartition(b"/")
        return os.stat(last, dir_fd=self.get(above), follow_symlinks=False)

    def close(self) -> None:
        """Close every descriptor; the next `get` opens what it needs again."""
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()

    def __enter__(self) -> DirectoryHandles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

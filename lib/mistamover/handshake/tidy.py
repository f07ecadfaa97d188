"""Writing and removing single small files below an open root, never through a link."""

from __future__ import annotations

import contextlib
import os
import re
import stat

from mistamover.files.identity import DirectoryHandles, identity_of
from mistamover.files.names import MARK, looks_like_rsync_temporary
from mistamover.model import Identity

_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: What a file is called while it is written: this and twelve hexadecimal digits.
_TEMPORARY = MARK + b"-"
_LEFTOVER = re.compile(re.escape(_TEMPORARY) + rb"[0-9a-f]{12}")


def is_leftover(last: bytes) -> bool:
    """Given the last part of a name, tell whether `write` made it, and somebody who was killed has left it."""
    return _LEFTOVER.fullmatch(last) is not None


def write(handles: DirectoryHandles, path: bytes, content: bytes) -> None:
    """Given a path and its whole content, let the file appear by rename, readable for whoever may see the directory.

    Never replaces anything but a regular file. Raise OSError.
    """
    above, _, last = path.rpartition(b"/")
    directory = handles.get(above)
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(last, dir_fd=directory, follow_symlinks=False).st_mode):
            raise FileExistsError(f"{os.fsdecode(last)} is there already, and no file")
    temporary = _TEMPORARY + os.urandom(6).hex().encode()
    handle = os.open(temporary, _WRITE, 0o644, dir_fd=directory)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.rename(temporary, last, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


def remove(handles: DirectoryHandles, path: bytes) -> None:
    """Given the path of a file or link, remove it, if it is there. Raise OSError."""
    above, _, last = path.rpartition(b"/")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(last, dir_fd=handles.get(above))


def remove_same(handles: DirectoryHandles, path: bytes, identity: Identity) -> None:
    """Given the path of a file and what it was, remove it if it still is that one. Raise OSError."""
    with contextlib.suppress(FileNotFoundError):
        if identity_of(handles.lstat(path)) == identity:
            remove(handles, path)


def is_being_written(handles: DirectoryHandles, path: bytes) -> bool:
    """Given a path, tell whether an rsync seems to write a file of that name. Raise OSError."""
    above, _, last = path.rpartition(b"/")
    # By /proc, since a listing by descriptor would give text.
    names = os.listdir(b"/proc/self/fd/%d" % handles.get(above))
    return any(name.startswith(b"." + last + b".") and looks_like_rsync_temporary(name) for name in names)

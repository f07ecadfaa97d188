"""Moving what is somebody's data: never in the place of another, whole, with its owner, also to another filesystem."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat

from mistamover.files.durable import sync_directory, sync_filesystem
from mistamover.files.names import display

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1

#: Errors by which a filesystem says that it cannot rename without replacing, as NFS does.
_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)


def rename_exclusively(source: bytes, destination: bytes) -> None:
    """Given two paths, rename the first to the second unless that is taken.

    Raise FileExistsError if it is, OSError with EXDEV if they are on different filesystems, OSError otherwise.
    """
    # An older C library does not have it.
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        if call(_AT_FDCWD, source, _AT_FDCWD, destination, _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _CANNOT:
            raise OSError(code, os.strerror(code), display(source), None, display(destination))
    _rename_by_a_link(source, destination)


def _rename_by_a_link(source: bytes, destination: bytes) -> None:
    """Do the same with what every filesystem can do; a process that dies in between leaves one file with both names."""
    if os.path.isdir(source) and not os.path.islink(source):
        # A directory has one name only; that another is made in this very moment is the smaller risk.
        if os.path.lexists(destination):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), display(destination))
        os.rename(source, destination)
        return
    os.link(source, destination, follow_symlinks=False)
    os.unlink(source)


def copy_whole(source: bytes, destination: bytes) -> None:
    """Given a file, link or directory and a free path on another filesystem, copy it with owner, mode and times.

    It is on the disk before this returns.  Raise OSError; what was copied by then is left.
    """
    if os.path.isdir(source) and not os.path.islink(source):
        shutil.copytree(os.fsdecode(source), os.fsdecode(destination), symlinks=True)
        for above, directories, files in os.walk(source):
            there = destination + above[len(source) :]
            _own_as(above, there)
            for name in (*directories, *files):
                _own_as(above + b"/" + name, there + b"/" + name)
    else:
        shutil.copy2(source, destination, follow_symlinks=False)
        _own_as(source, destination)
    handle = os.open(os.path.dirname(destination), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_filesystem(handle)
    finally:
        os.close(handle)


def remove_whole(path: bytes) -> None:
    """Given a path, remove what is there, a directory with all it holds; if nothing is, that is well. Raise OSError."""
    try:
        is_directory = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if is_directory:
        shutil.rmtree(path)
    else:
        os.unlink(path)


def make_directories(path: bytes, *, mode: int = 0o777) -> None:
    """Given a directory, make it and those above it that are not there, durably, owned like the one above them.

    Raise OSError.
    """
    if os.path.lexists(path):
        return
    above = os.path.dirname(path)
    make_directories(above, mode=mode)
    os.mkdir(path, mode)
    own_like(path, above)
    sync_directory(above)


def own_like(path: bytes, model: bytes) -> None:
    """Given a path that root has made, and another, give the first the owner of the second. Raise OSError.

    Whoever is not root makes everything as himself.
    """
    if os.geteuid() == 0:
        status = os.lstat(model)
        os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)


def _own_as(model: bytes, path: bytes) -> None:
    """Give a copy the owner and group of what it is a copy of, as far as we may; its mode survives that."""
    then, now = os.lstat(model), os.lstat(path)
    if (then.st_uid, then.st_gid) == (now.st_uid, now.st_gid):
        return
    try:
        os.chown(path, then.st_uid, then.st_gid, follow_symlinks=False)
    except PermissionError:
        return
    if not stat.S_ISLNK(then.st_mode):
        # The kernel takes set-id bits away from what changes hands.
        os.chmod(path, stat.S_IMODE(then.st_mode))

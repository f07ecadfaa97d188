"""Asking the system: which filesystem holds a directory, and what is left on it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import psutil

from mistamover.config.settings import StreamSettings
from mistamover.disk.level import Space


def space_on(directory: Path) -> Space:
    """Given a directory, return what its filesystem has left. Raise OSError."""
    usage = psutil.disk_usage(os.fspath(directory))
    inodes = os.statvfs(directory)
    return Space(free=usage.free, total=usage.total, inodes_free=inodes.f_favail, inodes=inodes.f_files)


def mount_of(directory: Path) -> str:
    """Given a directory, return where its filesystem is mounted. Raise OSError if there is no such directory."""
    path = os.path.realpath(directory, strict=True)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def by_filesystem(streams: Iterable[StreamSettings]) -> dict[str, list[StreamSettings]]:
    """Given streams, return them by the filesystems that a delivery to them needs room on.

    That is the one that others deliver into, and the one that an arrival monitor puts it on.  A directory that is not
    there is left out: nothing can be delivered there, and its process makes it.
    """
    found: dict[str, list[StreamSettings]] = {}
    for stream in streams:
        for mount in dict.fromkeys(filter(None, map(_mount_or_none, (delivered_into(stream), stream.directory)))):
            found.setdefault(mount, []).append(stream)
    return found


def lies_on(directory: Path, mount: str) -> bool:
    """Given a directory and where a filesystem is mounted, tell whether it is on that one."""
    return _mount_or_none(directory) == mount


def _mount_or_none(directory: Path) -> str | None:
    try:
        return mount_of(directory)
    except OSError:
        return None


def delivered_into(stream: StreamSettings) -> Path:
    """Given a stream, return the directory into which others deliver for it: its stop file is theirs to heed."""
    return stream.directory if stream.monitor is None else stream.monitor.directory

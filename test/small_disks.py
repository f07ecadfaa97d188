"""Small filesystems that a test may fill."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

MIB = 1 << 20


class SmallDisk:
    """A mounted filesystem, and the ballast that leaves just so much of it free."""

    def __init__(self, path: Path) -> None:
        """Given where it is mounted, put nothing on it yet."""
        self.path = path
        self.ballast = path / "ballast"

    def leave(self, mib: float) -> None:
        """Given how much is to be free, in MiB, change the size of the ballast accordingly."""
        with self.ballast.open("ab") as file:
            now = file.tell()
            size = now + os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize - int(mib * MIB)
            os.ftruncate(file.fileno(), max(0, min(now, size)))
            if size > now:
                os.posix_fallocate(file.fileno(), now, size - now)


@contextlib.contextmanager
def mounted(path: Path, *, mib: int = 16, inodes: int = 4000) -> Iterator[SmallDisk]:
    """Given a directory, mount a filesystem of that size on it; skip the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a filesystem")
    words = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,nr_inodes={inodes},mode=0755", "tmpfs", str(path)]
    mount = subprocess.run(words, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"cannot mount a filesystem: {mount.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)

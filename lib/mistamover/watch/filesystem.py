"""Which filesystems report changes, and which must be polled."""

from __future__ import annotations

import os
from pathlib import Path

#: Other hosts change these behind the kernel's back, so it cannot tell us (see inotify(7), "Limitations").
_SILENT = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "lustre", "gpfs", "glusterfs", "fuse", "ncpfs", "beegfs", "pvfs")


def reports_changes(directory: bytes) -> bool:
    """Given a directory, tell whether its filesystem reports every change by inotify."""
    return not filesystem_type(directory).startswith(_SILENT)


def filesystem_type(directory: bytes) -> str:
    """Given a directory, return the type of its filesystem as /proc/self/mountinfo names it; empty if unknown."""
    try:
        device = os.stat(directory).st_dev
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return ""

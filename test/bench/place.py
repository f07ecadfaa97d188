"""Where the files lie: a fresh filesystem with a journal for each measurement, or a directory that the user names.

ext4 without a journal does not give inodes out again that were freed in the last minutes
(`recently_deleted` in fs/ext4/ialloc.c) and searches for others: after many removals creating a file
takes ten times as long.  Some virtual machines have such a root.  So measuring there tells more
about the round before than about the program.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

_MKFS = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]
_PREFIX = "mistamover-bench-"


class Place(Protocol):
    """Where measurements take place, one after the other."""

    words: str
    """What it is, for the report."""

    def fresh(self) -> contextlib.AbstractContextManager[Path]:
        """Return the context of one measurement: an empty directory that is gone afterwards."""


@contextlib.contextmanager
def prepared(chosen: Path | None, *, size: int, files: int) -> Iterator[Place]:
    """Given the user's directory, or None, and how many bytes and files a measurement needs, yield a place for it."""
    if chosen is not None:
        yield DirectoryPlace(chosen)
        return
    with contextlib.ExitStack() as stack:
        try:
            place: Place = stack.enter_context(_loop(size, files))
        except (OSError, subprocess.SubprocessError) as error:
            place = DirectoryPlace(Path(tempfile.gettempdir()), f"; no filesystem of our own: {error}")
        yield place


class DirectoryPlace:
    """Temporary directories below one that is there."""

    def __init__(self, top: Path, why: str = "") -> None:
        """Given the directory, and why it has to be this one, describe it."""
        self._top = top
        self.words = f"{kind(top)} at {top}, as it is{why}"

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """Yield an empty directory; what was removed before may be felt."""
        with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=self._top, ignore_cleanup_errors=True) as directory:
            yield Path(directory)


class LoopPlace:
    """A filesystem in a file, made anew for each measurement."""

    def __init__(self, device: str, mount: Path, size: int, inodes: int) -> None:
        """Given the loop device, where to mount it, its size and the files it must take, describe it."""
        self._device, self._mount, self._inodes = device, mount, inodes
        self.words = f"fresh ext4 with a journal in a preallocated file of {size / 2**30:.1f} GiB (loop, direct I/O)"

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """Make the filesystem, yield where it is mounted, and unmount it."""
        _run([*_MKFS, "-N", str(self._inodes), self._device])
        # Without noinit_itable the kernel goes on writing inode tables while we measure.
        _run(["mount", "-o", "noinit_itable", self._device, str(self._mount)])
        try:
            yield self._mount
        finally:
            _unmount(self._mount)


@contextlib.contextmanager
def _loop(size: int, files: int) -> Iterator[LoopPlace]:
    """Given what a measurement puts into the source, yield a place that holds it twice; leave nothing behind."""
    if os.geteuid() != 0:
        raise PermissionError("loop devices need root")
    top = Path(tempfile.mkdtemp(prefix=_PREFIX))
    image, mount, device = top / "image", top / "fs", ""
    total = 2**29 + int(2.5 * max(size, 4096 * files))
    try:
        mount.mkdir()
        with image.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, total)
        device = _run(["losetup", "--find", "--show", "--direct-io=on", str(image)])
        yield LoopPlace(device, mount, total, int(2.5 * files) + 50_000)
    finally:
        if device:
            _run(["losetup", "--detach", device])
        if not os.path.ismount(mount):
            shutil.rmtree(top)


def _unmount(mount: Path) -> None:
    """Given a mount point, unmount it; a process that still works there gets some seconds to end."""
    deadline = time.monotonic() + 15
    while subprocess.run(["umount", str(mount)], capture_output=True, check=False, timeout=600).returncode:
        if time.monotonic() > deadline:
            _run(["umount", "--lazy", str(mount)])
            return
        time.sleep(0.1)


def _run(argv: list[str]) -> str:
    """Given a command, return what it prints; raise OSError if it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise OSError(f"{argv[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def flush_times(directory: Path, count: int = 9) -> list[float]:
    """Given a directory, return how long it takes to flush a small new file there, several times, in seconds.

    It tells how much of a latency is the disk's, or another user's of the machine.
    """
    times = []
    for number in range(count):
        with (directory / f"flush-{number}").open("wb") as file:
            file.write(b"." * 4096)
            file.flush()
            begin = time.monotonic()
            os.fsync(file.fileno())
            times.append(time.monotonic() - begin)
    return times


def kind(path: Path) -> str:
    """Given a path, return the kind of its filesystem and its options, as far as they are about the journal."""
    with contextlib.suppress(OSError):
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
        fitting = [m for m in mounts if path.resolve().is_relative_to(m[1])]
        if fitting:
            _, _, name, options, *_ = max(fitting, key=lambda m: len(m[1]))
            return f"{name} ({options})"
    return "filesystem"

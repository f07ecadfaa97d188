"""Owning the state directory, and leaving the terminal."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mistamover.config.settings import Settings
from mistamover.errors import AlreadyRunning
from mistamover.files.durable import write_whole
from mistamover.master.fork import keep_from_streams
from mistamover.report import mastership


@contextlib.contextmanager
def ownership(settings: Settings) -> Iterator[int]:
    """Given the settings, own their state directory; yield the descriptor that holds the lock.

    Raise AlreadyRunning, saying who it is, when another process owns it.
    """
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = mastership.claim(settings.state_dir)
    if handle is None:
        holder = mastership.read(settings.state_dir)
        who = holder.words() if holder is not None else "another process"
        raise AlreadyRunning(f"{settings.state_dir} is in use by {who}: stop that one first, or use another state_dir")
    keep_from_streams(handle)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def pid_file(path: Path) -> Iterator[None]:
    """Given a path, let it hold this process's number while the context lasts."""
    write_whole(path, b"%d\n" % os.getpid(), mode=0o644)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def detached(lock: int) -> Iterator[None]:
    """Given the descriptor of the lock, go on as a daemon; the calling process ends with status 0.

    The lock is taken before and kept, so that a start that cannot succeed fails in sight of the caller.
    """
    import daemon  # python-daemon; only this mode needs it

    # Signals are the master's own business; the pid file is ours, because python-daemon's lock outlives kill -9.
    context = daemon.DaemonContext(files_preserve=[lock], umask=0o022, signal_map={}, detach_process=True)
    with context:
        yield

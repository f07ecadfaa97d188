"""Small files of our own making, to a target and back by rsync: one run for as many as there are.

They lie in a private directory here for the length of a run.  What comes back is a stranger's: it is read without
following a link, and never beyond its longest size.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mistamover.errors import LinkError, TargetError
from mistamover.files.identity import DirectoryHandles
from mistamover.transport.rsync_output import parse_errors
from mistamover.transport.rsync_run import Ended
from mistamover.transport.rsync_verdicts import PARTIAL

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Carrier(Protocol):
    """Runs rsync for small files; what came of it tells the run."""

    def put(self, staging: Path, names: Iterable[bytes]) -> Ended:
        """Given a directory here, send small files in it, whose directories exist at the target."""

    def fetch(self, staging: Path, names: Iterable[bytes], longest: int) -> Ended:
        """Given a directory here, bring small files of the target there, as far as they exist and are no longer."""


class SmallFiles:
    """See `transport.base.Messenger`."""

    def __init__(self, carrier: Carrier, run_dir: Path) -> None:
        """Given what runs rsync, and a private directory, do nothing yet."""
        self._carrier = carrier
        self._run_dir = run_dir

    def put(self, files: Mapping[bytes, bytes]) -> None:
        """See `Messenger.put`."""
        if not files:
            return
        with self._staging() as staging:
            for directory in sorted({name.rpartition(b"/")[0] for name in files}):
                os.makedirs(os.path.join(staging, directory), mode=0o700, exist_ok=True)
            for name, content in files.items():
                handle = os.open(
                    os.path.join(staging, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
                )
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
            run = self._carrier.put(Path(os.fsdecode(staging)), files)
        if run.status != 0:
            raise _error(run)

    def fetch(self, names: Sequence[bytes], longest: int, _patience: float) -> dict[bytes, bytes]:
        """See `Messenger.fetch`."""
        if not names:
            return {}
        with self._staging() as staging:
            run = self._carrier.fetch(Path(os.fsdecode(staging)), names, longest)
            if run.status != 0 and run.status not in PARTIAL:
                raise _error(run)
            with DirectoryHandles(staging) as handles:
                found = ((name, _read(handles, name, longest)) for name in names if name in run.lines)
                return {name: content for name, content in found if content is not None}

    def _staging(self) -> tempfile.TemporaryDirectory[bytes]:
        return tempfile.TemporaryDirectory(prefix=b"messages-", dir=os.fsencode(self._run_dir))


def _read(handles: DirectoryHandles, name: bytes, longest: int) -> bytes | None:
    above, _, last = name.rpartition(b"/")
    try:
        handle = os.open(last, _READ, dir_fd=handles.get(above))
    except OSError:
        # A link, a directory, or not there: it is not what was asked for.
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > longest:
            return None
        content = os.pread(handle, longest + 1, 0)
    finally:
        os.close(handle)
    return content if len(content) <= longest else None


def _error(run: Ended) -> LinkError | TargetError:
    words = parse_errors(run.stderr).summary() or f"rsync ended with status {run.status}"
    if run.status in PARTIAL:
        return TargetError(words)
    return LinkError(words)

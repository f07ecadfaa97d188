"""One transport over a real connection, without a stream: its two ends, and the processes at the far one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from mistamover.config.settings import SshSettings, TargetSettings
from mistamover.files.identity import identity_of
from mistamover.model import Batch, Kind, Unit, Verdict
from mistamover.testing.sshd import PrivateSshd
from mistamover.transport.rsync_ssh import RsyncSsh
from support import contents

#: Shown by the command line of the receiver: how it is started.
_BOOT = "exec(t)"


class Watcher:
    """A guard without leases, except for descriptors that a test hands in; its deadline can be set by hand."""

    def __init__(self, handles: dict[bytes, int] | None = None, sent: Callable[[bytes], None] = lambda _: None) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._deadline: float | None = None
        self.handles = handles or {}
        self.sent = sent

    def fileno(self) -> int:
        return self._event

    def handle(self, name: bytes) -> int | None:
        return self.handles.get(name)

    def read_enough(self) -> None:
        pass

    def progressed(self, size: int) -> None:
        pass

    def deadline(self) -> float | None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._event)
        return self._deadline

    def give_up(self) -> None:
        """Ask for the end of the attempt."""
        self._deadline = time.monotonic()
        os.eventfd_write(self._event, 1)

    def close(self) -> None:
        os.close(self._event)


class Way:
    """One transport to a private server, and the directories at its two ends."""

    def __init__(self, place: Path, sshd: PrivateSshd, *, express: bool = True) -> None:
        self.source, self.target = place / "source", place / "target"
        for directory in (self.source, self.target):
            directory.mkdir()
        (place / "run").mkdir(mode=0o700)
        ssh = SshSettings(
            rsync=("rsync",),
            ssh=("ssh",),
            username=None,
            port=None,
            identity_file=None,
            ssh_config=sshd.ssh_config,
            use_checksum=False,
            bandwidth_limit=None,
            ciphers=None,
            compress=False,
            connect_timeout=10,
            express=express,
        )
        settings = TargetSettings(
            name="target",
            protocol="rsync_ssh",
            host=sshd.host,
            directory=os.fspath(self.target),
            stop_file=".stop",
            stop_file_poll_interval=1,
            required=True,
            hash="xxh128",
            ssh=ssh,
        )
        source = os.fsencode(self.source)
        self.transport = RsyncSsh(
            source=source,
            target=settings,
            state_dir=place / "run",
            links_dir=place / "links",
            owner="me",
            keep_extra=False,
        )
        self.batches = 0

    def put(self, name: str, content: bytes) -> Unit:
        """Write a file at the source; return its unit."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return Unit(name=os.fsencode(name), kind=Kind.FILE, identity=identity_of(path.lstat()))

    def deliver(self, units: Sequence[Unit], guard: Watcher | None = None) -> list[Verdict]:
        """Deliver a batch; a lane looks whether the target is suspended before."""
        self.batches += 1
        own = guard or Watcher()
        try:
            return self.transport.deliver(Batch(number=self.batches, units=tuple(units), size=0), own)
        finally:
            own.close()

    def there(self) -> set[bytes]:
        """Return the names of the files at the target, except our own."""
        return {name for name in contents(self.target) if not name.startswith(b".mistamover/")}

    def far(self, is_wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
        """Return the processes of the far end that a look at their words and at their directory picks."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if words and is_wanted(words) and self._is_here(process):
                    found.append(process)
        return found

    def receivers(self) -> list[psutil.Process]:
        """Return the running receivers."""
        return self.far(lambda words: words[0].endswith("python3") and any(_BOOT in word for word in words))

    def _is_here(self, process: psutil.Process) -> bool:
        """Tell whether a process works in our target directory, or has it open."""
        held = [process.cwd()]
        for handle in os.listdir(f"/proc/{process.pid}/fd"):
            with contextlib.suppress(OSError):
                held.append(os.readlink(f"/proc/{process.pid}/fd/{handle}"))
        return os.fspath(self.target) in held

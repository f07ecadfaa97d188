"""How to log in at a private server, and a process that keeps connections to it, for the tests of this room."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from mistamover.config.settings import SshSettings, TargetSettings
from mistamover.links import messages
from mistamover.links.login import Login
from mistamover.links.messages import Answer
from mistamover.links.shared import SharedLink
from mistamover.testing.sshd import PrivateSshd
from support import TOP, wait_until

_PROGRAM = """
import sys
from pathlib import Path
from mistamover.config.settings import LogSettings
from mistamover.links import messages, pool
from mistamover.master import links
place = Path(sys.argv[1])
pool._IDLE = float(sys.argv[2])
sys.exit(links.run(place, messages.listen(place), LogSettings(directory=Path(sys.argv[3]), level="DEBUG"), debug=True))
"""


def settings_of(server: PrivateSshd | None, **changes: Any) -> TargetSettings:
    """Given a server (None: nobody listens at the port 1) and changes of the ssh settings, return those of a target."""
    ssh = SshSettings(
        rsync=("rsync",),
        ssh=("ssh",),
        username=None,
        port=None if server else 1,
        identity_file=None,
        ssh_config=server.ssh_config if server else None,
        use_checksum=False,
        bandwidth_limit=None,
        ciphers=None,
        compress=False,
        connect_timeout=10,
        express=True,
    )
    return TargetSettings(
        name="target",
        protocol="rsync_ssh",
        host=str(changes.pop("host", "127.0.0.1")),
        directory=str(changes.pop("directory", "/nowhere")),
        stop_file=".stop",
        stop_file_poll_interval=1,
        required=True,
        hash="xxh128",
        ssh=dataclasses.replace(ssh, **changes),
    )


def login_to(server: PrivateSshd | None, **changes: Any) -> Login:
    """Given what `settings_of` takes, return how to log in."""
    return Login.of(settings_of(server, **changes))


def living(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


class Keeper:
    """The process `links` by itself; `with` ends it."""

    def __init__(self, place: Path, *, idle: float = 10.0) -> None:
        """Given a directory, and the seconds that an unused connection is kept, start it."""
        self.directory, self.run_dir, self.logs = place / "links", place / "run", place / "log"
        for directory in (self.run_dir, self.logs):
            directory.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, os.fspath(self.directory), str(idle), os.fspath(self.logs)],
            env={**os.environ, "PYTHONPATH": str(TOP / "lib")},
            stdin=subprocess.DEVNULL,
        )
        wait_until(self.is_there, 20, "somebody keeps connections")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()

    def is_there(self) -> bool:
        """Tell whether questions are answered."""
        assert self.process.poll() is None, self.said()
        probe = messages.reach(self.directory)
        if probe is not None:
            probe.close()
        return probe is not None

    def said(self) -> str:
        """Return what it has logged."""
        return "".join(path.read_text(errors="replace") for path in self.logs.iterdir())

    def link(self, login: Login) -> SharedLink:
        """Given how to log in, return what a stream has."""
        return SharedLink(login, self.directory, self.run_dir)

    def connections(self) -> list[psutil.Process]:
        """Return the ssh processes that it keeps."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if "-M" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
        return found

    def send(self, *packets: bytes) -> socket.socket:
        """Send packets as a stranger would; return the socket."""
        asking = messages.reach(self.directory)
        assert asking is not None
        for packet in packets:
            asking.send(packet)
        return asking

    def ask(self, wish: Any, timeout: float = 30) -> tuple[socket.socket, Answer | None]:
        """Ask as `shared` does; return where it was asked, and the answer."""
        asking = messages.ask(self.directory, wish)
        assert asking is not None
        return asking, messages.answer(asking, timeout)


@contextlib.contextmanager
def closing_all(things: Sequence[Any]) -> Iterator[None]:
    """Close them all at the end; things may still be added."""
    try:
        yield
    finally:
        for thing in things:
            thing.close()

"""A private rsync daemon on the loopback: the real thing, with its own configuration and passwords, for tests.

It needs no root.  Never import this from production code.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from mistamover.testing import sshd

#: Ports tried when another process takes the free one first.
_ATTEMPTS = 10


def available() -> str | None:
    """Return why a private rsync daemon cannot run here, or None if it can."""
    return None if sshd.find("rsync") else "not installed: rsync"


class PrivateRsyncd:
    """A real rsync daemon on 127.0.0.1, started by `start` or `with`.

    Its module `all` holds everything below a directory, for whoever knows `user` and `password`.
    """

    user = "mover"
    password = "a secret; of #words"  # noqa: S105

    def __init__(self, directory: Path, top: Path, *, modules: Mapping[str, Sequence[str]] | None = None) -> None:
        """Given a directory for its files, the one that is served, and lines for more modules that serve the same,
        prepare it all.
        """
        self.directory = directory
        self.top = top
        self.host = "127.0.0.1"
        self.port = 0
        self.password_file = directory / "password"
        self.log = directory / "rsyncd.log"
        self._modules = {"all": ("auth users = " + self.user,), **(modules or {})}
        self._configuration = directory / "rsyncd.conf"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in (("password", self.password), ("secrets", f"{self.user}:{self.password}")):
            path = directory / name
            path.touch(mode=0o600)
            path.write_text(text + "\n")

    def __enter__(self) -> Self:
        """Start and return the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    @property
    def address(self) -> str:
        """Host and port, as target_host takes them."""
        return f"{self.host}:{self.port}"

    def place(self, path: Path, module: str = "all") -> str:
        """Given a path below what is served, return it as target_dir takes it."""
        return f"/{module}/{path.relative_to(self.top)}"

    def start(self) -> None:
        """Start listening: at a free port the first time, at the same port ever after. Raise RuntimeError."""
        for port in [self.port] if self.port else (sshd.free_port() for _ in range(_ATTEMPTS)):
            self._write_configuration(port)
            if self._launch(port):
                self.port = port
                return
        raise RuntimeError(f"rsyncd does not start; its log: {self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """End the listener and every connection at once; harmless when not running."""
        process, self._process = self._process, None
        if process is None:
            return
        victims = _below(process.pid)
        process.kill()
        process.wait(sshd.DEADLINE)
        sshd.kill(victims)

    def kill_connections(self) -> int:
        """Kill (SIGKILL) the server's processes of every connection; return how many there were."""
        assert self._process is not None
        victims = _below(self._process.pid)
        sshd.kill(victims)
        return len(victims)

    def pause(self) -> None:
        """Freeze it: to the clients it looks like a network that swallows packets."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let everything that `pause` froze go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        for process in [psutil.Process(self._process.pid), *_below(self._process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _launch(self, port: int) -> bool:
        """Given the port in its configuration, start it; return False if it ends instead of listening."""
        process = subprocess.Popen(
            [sshd.find("rsync") or "rsync", "--daemon", "--no-detach", f"--config={self._configuration}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + sshd.DEADLINE
        try:
            while time.monotonic() < deadline:
                if _greets(self.host, port) and process.poll() is None:
                    self._process = process
                    return True
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.01)  # between two looks; returns early if it ended
                    return False
            return False
        finally:
            if self._process is not process:
                process.kill()
                process.wait(sshd.DEADLINE)

    def _write_configuration(self, port: int) -> None:
        lines = [
            f"address = {self.host}",
            f"port = {port}",
            "socket options = TCP_NODELAY",
            f"log file = {self.log}",
            f"lock file = {self.directory / 'lock'}",
            f"secrets file = {self.directory / 'secrets'}",
            # Only root may change its root; without that links are changed, or marked and changed back.
            f"use chroot = {'yes' if os.geteuid() == 0 else 'no'}",
            f"munge symlinks = {'no' if os.geteuid() == 0 else 'yes'}",
            "read only = no",
            # As whoever runs the tests: without this it is nobody, if that is root.
            *([f"uid = {os.geteuid()}", f"gid = {os.getegid()}"] if os.geteuid() == 0 else []),
        ]
        for name, more in self._modules.items():
            lines += [f"[{name}]", f"path = {self.top}", *more]
        self._configuration.write_text("\n".join([*lines, ""]))


def _greets(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            return connection.recv(8) == b"@RSYNCD:"
    except OSError:
        return False


def _below(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []

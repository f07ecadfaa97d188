"""A private Redis on the loopback: the real thing, at a port of its own and with a password, for tests.

It needs no root and no configuration of the machine's own server. What is in it is on disk before it is answered, as an
operator of a broker should have it. Never import this from production code.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mistamover.testing.certificate import certify

#: Seconds within which a started server answers, and one that is killed is gone.
DEADLINE: Final = 30.0
SOON: Final = 10.0
#: Ports tried when another process takes a free one before it is bound.
ATTEMPTS: Final = 3


def available() -> str | None:
    """Return why a private server cannot run here, or None if it can."""
    return "not installed: redis-server" if shutil.which("redis-server") is None else None


class PrivateRedis:
    """A real Redis on 127.0.0.1, started by `start` or `with`."""

    def __init__(self, directory: Path | None = None) -> None:
        """Given a directory for its data (default: a temporary one), prepare it."""
        self._temporary = tempfile.mkdtemp(prefix="mistamover-redis-") if directory is None else None
        self.directory = Path(self._temporary or directory or "").absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.host = "127.0.0.1"
        self.port = 0
        self.tls_port = 0
        self.certificate = self.directory / "certificate.pem"
        """What a client must trust on the port for TLS."""
        self.password = f"s3cret-{secrets.token_hex(8)}"
        self._key = self.directory / "key.pem"
        if not self._key.exists():
            certify(self._key, self.certificate, self.host)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start and return the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server; remove its directory if it is a temporary one."""
        self.close()

    @property
    def running(self) -> bool:
        """Whether it is started and alive."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: int = 0) -> str:
        """Given the number of a database, return its URL, without the password."""
        return f"redis://{self.host}:{self.port}/{database}"

    def start(self) -> None:
        """Start the server: at a free port the first time, at the same one with the same data ever after.

        Return when it answers; raise RuntimeError if it does not within the deadline.
        """
        if self.running:
            return
        for ports in [(self.port, self.tls_port)] if self.port else [_free_ports() for _ in range(ATTEMPTS)]:
            if self._launch(*ports):
                self.port, self.tls_port = ports
                return
        raise RuntimeError(f"Redis does not start; it said: {self._log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """End it at once with SIGKILL, as a switched-off machine would; harmless when not running."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(SOON)

    def pause(self) -> None:
        """Freeze it: to the clients it looks like a network that swallows packets."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Stop, and remove the directory if it is a temporary one."""
        self.stop()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self.directory / "output.log"

    def _launch(self, port: int, encrypted: int) -> bool:
        """Given the ports, start the server; return False if it ends instead of listening."""
        configuration = self.directory / "redis.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"bind {self.host}\nport {port}\ndir {self.directory}\nrequirepass {self.password}\n"
            'save ""\nappendonly yes\nappendfsync always\ndaemonize no\n'
            f"tls-port {encrypted}\ntls-cert-file {self.certificate}\ntls-key-file {self._key}\n"
            f"tls-ca-cert-file {self.certificate}\ntls-auth-clients no\n"
        )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["redis-server", str(configuration)],
                cwd=self.directory,
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the program that uses us
            )
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE
        while self.running and time.monotonic() < deadline:
            if self._answers(port):
                return True
            pause.wait(0.02)
        self.stop()
        return False

    def _answers(self, port: int) -> bool:
        """Given its port, return whether it lets in somebody who knows the password: not any other server there."""
        with contextlib.suppress(OSError), socket.create_connection((self.host, port), timeout=1) as connection:
            connection.sendall(f"AUTH {self.password}\r\n".encode())
            return connection.recv(16).startswith(b"+OK")
        return False


def _free_ports() -> tuple[int, int]:
    """Return two TCP ports of the loopback that are free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return int(one.getsockname()[1]), int(other.getsockname()[1])

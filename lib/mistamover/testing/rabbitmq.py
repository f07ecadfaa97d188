"""A private RabbitMQ on the loopback: the real thing, with its own node, cookie and port mapper, for tests.

It needs no root, no configuration of the machine's own broker, and takes everything it started with it when it ends.
Never import this from production code.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from mistamover.testing.certificate import certify

#: The scripts themselves: what Debian has in /usr/sbin changes to a user of its own first.
SCRIPTS: Final = (Path("/usr/lib/rabbitmq/bin"), Path("/usr/local/lib/rabbitmq/bin"))
#: Seconds within which a started broker takes connections; it is a large program, and the machine may be busy.
DEADLINE: Final = 60.0
#: Seconds within which a killed process is gone, and the port mapper answers.
SOON: Final = 10.0
#: Sets of ports tried when another process takes a free one before it is bound.
ATTEMPTS: Final = 3

_GREETING = b"AMQP\x00\x00\x09\x01"

Ports = tuple[int, int, int, int]
"""Of clients, of clients that encrypt, of Erlang, of its port mapper."""


def available() -> str | None:
    """Return why a private broker cannot run here, or None if it can."""
    if _server() is None:
        return "not installed: rabbitmq-server"
    return "not installed: epmd" if shutil.which("epmd") is None else None


class PrivateRabbit:
    """A real RabbitMQ on 127.0.0.1, started by `start` or `with`, for the user who runs it."""

    def __init__(self, directory: Path | None = None) -> None:
        """Given a directory for its data and logs (default: a temporary one), prepare it all."""
        self._temporary = tempfile.mkdtemp(prefix="mistamover-rabbitmq-") if directory is None else None
        self.directory = Path(self._temporary or directory or "").absolute()
        self.host = "127.0.0.1"
        self.port = 0
        self.tls_port = 0
        self.certificate = self.directory / "certificate.pem"
        """What a client must trust on the port for TLS."""
        self.user = "robot"
        self.password = f"s3cret-{secrets.token_hex(8)}"
        self.log = self.directory / "output.log"
        self._ports: Ports = (0, 0, 0, 0)
        self._processes: list[subprocess.Popen[bytes]] = []
        for name in ("home", "data", "log"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self._key = self.directory / "key.pem"
        if not self._key.exists():
            certify(self._key, self.certificate, self.host)

    def __enter__(self) -> Self:
        """Start and return the broker."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the broker; remove its directory if it is a temporary one."""
        self.close()

    @property
    def url(self) -> str:
        """Where it is, without the password."""
        return f"amqp://{self.user}@{self.host}:{self.port}/"

    @property
    def running(self) -> bool:
        """Whether it is started and alive."""
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    def start(self) -> None:
        """Start the broker: at free ports the first time, at the same ones with the same data ever after.

        Return when it takes connections; raise RuntimeError if it does not within the deadline.
        """
        if self.running:
            return
        for ports in [self._ports] if self.port else [_free_ports() for _ in range(ATTEMPTS)]:
            if self._launch(ports):
                self._ports, self.port, self.tls_port = ports, ports[0], ports[1]
                return
        raise RuntimeError(f"RabbitMQ does not start; it said: {self.log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """End it at once with SIGKILL, as a switched-off machine would; harmless when not running."""
        self.pause()  # no new child between the list and the kill
        victims = self._tree()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        for process in self._processes:
            process.wait(SOON)
        self._processes = []
        pause, deadline = threading.Event(), time.monotonic() + SOON
        while left := [victim.pid for victim in victims if _lives(victim)]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes that SIGKILL does not end: {left}")
            pause.wait(0.01)
        # One with threads counts as dead before its last thread has closed what it had open.
        while self.port and _listens(self.host, self.port):
            if time.monotonic() > deadline:
                raise RuntimeError(f"port {self.port} is still open")
            pause.wait(0.01)

    def pause(self) -> None:
        """Freeze it: to the clients it looks like a network that swallows packets."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def control(self, *words: str) -> None:
        """Given the words of a command, run it with rabbitmqctl; raise subprocess.CalledProcessError if it fails."""
        subprocess.run(
            [str((_server() or Path()).with_name("rabbitmqctl")), "--quiet", *words],
            env=self._environment(self._ports),
            cwd=self.directory,
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
        )

    def close(self) -> None:
        """Stop, and remove the directory if it is a temporary one."""
        self.stop()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def _tree(self) -> list[psutil.Process]:
        """Return all that runs; the parents come before their children."""
        found: list[psutil.Process] = []
        for process in self._processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                parent = psutil.Process(process.pid)
                found += [parent, *parent.children(recursive=True)]
        return found

    def _launch(self, ports: Ports) -> bool:
        """Given the ports, start the port mapper and the broker; return False if they end instead of listening."""
        port, _, _, mapper = ports
        environment = self._environment(ports)
        # In the foreground: the one that the broker would start by itself outlives it.
        self._spawn(["epmd", "-port", str(mapper), "-address", self.host], environment)
        up = self._until(lambda: _listens(self.host, mapper), SOON)
        if up:
            self._spawn([str(_server())], environment)
            up = self._until(lambda: _greets(self.host, port), DEADLINE)
        if not up:
            self.stop()
        return up

    def _spawn(self, words: list[str], environment: dict[str, str]) -> None:
        with self.log.open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    words,
                    env=environment,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C in the terminal is for the program that uses us
                )
            )

    def _until(self, ready: Callable[[], bool], seconds: float) -> bool:
        pause, deadline = threading.Event(), time.monotonic() + seconds
        while self.running and time.monotonic() < deadline:
            if ready():
                return True
            pause.wait(0.05)
        return False

    def _environment(self, ports: Ports) -> dict[str, str]:
        """Given the ports, write its configuration; return the environment, which holds nothing of the machine's."""
        port, encrypted, distribution, mapper = ports
        configuration = self.directory / "rabbitmq.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f"listeners.tcp.1 = {self.host}:{port}\n"
            f"listeners.ssl.1 = {self.host}:{encrypted}\n"
            f"ssl_options.cacertfile = {self.certificate}\n"
            f"ssl_options.certfile = {self.certificate}\n"
            f"ssl_options.keyfile = {self._key}\n"
            "ssl_options.verify = verify_none\n"
            f"default_user = {self.user}\n"
            f"default_pass = {self.password}\n"
            # A disk that is nearly full, as that of a test machine may be, must not block publishers.
            "disk_free_limit.absolute = 1MB\n"
        )
        plugins = self.directory / "enabled_plugins"
        plugins.write_text("[].\n")
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(self.directory / "home"),  # of the cookie
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": self.host,
            "RABBITMQ_NODENAME": f"mistamover{port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONFIG_FILE": str(configuration),
            "RABBITMQ_CONF_ENV_FILE": str(self.directory / "no-rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none",
        }


def _server() -> Path | None:
    for directory in SCRIPTS:
        if os.access(directory / "rabbitmq-server", os.X_OK):
            return directory / "rabbitmq-server"
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


def _free_ports() -> Ports:
    """Return four TCP ports of the loopback that are free at this moment."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        first, second, third, fourth = (int(probe.getsockname()[1]) for probe in probes)
        return first, second, third, fourth


def _lives(process: psutil.Process) -> bool:
    """Given a process, return whether it is there and is more than an entry that nobody has asked for yet."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def _greets(host: str, port: int) -> bool:
    """Given an address, return whether a broker begins to talk there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1) as connection:
        connection.sendall(_GREETING)
        return connection.recv(1) == b"\x01"
    return False

"""A private PostgreSQL on the loopback: the real thing, with a cluster and a password of its own, for tests.

It needs no root and no cluster of the machine's own, and ends with all that it started. Where root runs the tests it
runs as another user, since it refuses to be root. Never import this from production code.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
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
from typing import Any, Final, Self

#: Where Debian has the programs of each version, and PATH does not lead.
PROGRAMS: Final = Path("/usr/lib/postgresql")
#: Who runs it in place of root, the first who is there.
USERS: Final = ("postgres", "nobody")
#: Seconds within which a cluster is made, and a started server takes connections.
DEADLINE: Final = 60.0
#: Seconds within which a server that is told to has ended.
SOON: Final = 10.0
#: Ports tried when another process takes a free one before it is bound.
ATTEMPTS: Final = 3


def available() -> str | None:
    """Return why a private server cannot run here, or None if it can."""
    if _program("initdb") is None or _program("postgres") is None:
        return "not installed: postgresql"
    if importlib.util.find_spec("psycopg") is None:
        return "not installed: psycopg"
    return "no user to run as in place of root" if os.getuid() == 0 and _user() is None else None


class PrivatePostgres:
    """A real PostgreSQL on 127.0.0.1, started by `start` or `with`."""

    def __init__(self) -> None:
        """Make a cluster, in a directory that its user can reach whoever runs the tests."""
        self.directory = Path(tempfile.mkdtemp(prefix="mistamover-pg-"))
        self.host = "127.0.0.1"
        self.port = 0
        self.user = "robot"
        self.password = f"s3cret-{secrets.token_hex(8)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        user = _user() if os.getuid() == 0 else None
        if user is not None:
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self.directory, user.pw_uid, user.pw_gid)
        try:
            self._initialise()
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise

    def __enter__(self) -> Self:
        """Start and return the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server; remove its directory."""
        self.close()

    @property
    def running(self) -> bool:
        """Whether it is started and alive."""
        return self._process is not None and self._process.poll() is None

    def url(self, database: str) -> str:
        """Given a database, return its URL, with the password."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"

    def new_database(self, template: str = "") -> str:
        """Return the URL of a new database, with the password; a copy of a `template` that nobody uses, if given."""
        name = f"d{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}{f' TEMPLATE {template}' if template else ''}")
        return self.url(name)

    def execute(self, statement: str) -> None:
        """Given a statement of SQL, run it in the database of administrators."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True, connect_timeout=round(SOON)) as connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start the server: at a free port the first time, at the same one with the same data ever after.

        Return when it takes connections; raise RuntimeError if it does not within the deadline.
        """
        if self.running:
            return
        for port in [self.port] if self.port else [_free_port() for _ in range(ATTEMPTS)]:
            if self._launch(port):
                self.port = port
                return
        raise RuntimeError(f"PostgreSQL does not start; it said: {self._log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        """End it at once, as a switched-off machine would; harmless when not running."""
        process, self._process = self._process, None
        if process is None:
            return
        # Its own way to end at once: SIGKILL would leave its children behind.
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(SOON)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(SOON)

    def close(self) -> None:
        """Stop, and remove the directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def _log(self) -> Path:
        return self.directory / "output.log"

    def _initialise(self) -> None:
        word = self.directory / "password"
        word.touch(mode=0o600)
        word.write_text(self.password)
        if self._as:
            os.chown(word, self._as["user"], self._as["group"])
        # Not flushed to disk: that costs nothing but what a power cut would take.
        words = [str(_program("initdb")), "--pgdata", str(self.directory / "data"), "--pwfile", str(word), "--no-sync"]
        words += ["--username", self.user, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"]
        subprocess.run(
            words,
            check=True,
            cwd=self.directory,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
            **self._as,
        )
        word.unlink()

    def _launch(self, port: int) -> bool:
        """Given a port, start the server; return False if it ends instead of listening."""
        words = [str(_program("postgres")), "-D", str(self.directory / "data")]
        for setting in (f"port={port}", f"listen_addresses={self.host}", f"unix_socket_directories={self.directory}"):
            words += ["-c", setting]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*words, "-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=16MB"],
                cwd=self.directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C in the terminal is for the program that uses us
                **self._as,
            )
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE
        while self.running and time.monotonic() < deadline:
            if self._answers(port):
                return True
            pause.wait(0.05)
        self.stop()
        return False

    def _answers(self, port: int) -> bool:
        """Given its port, return whether it lets in somebody who knows the password: not any other server there."""
        import psycopg

        login = f"host={self.host} port={port} dbname=postgres user={self.user} password={self.password}"
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(login, connect_timeout=round(SOON)):
            return True
        return False


def _program(name: str) -> Path | None:
    versions = sorted(PROGRAMS.glob("[0-9]*"), key=lambda path: float(path.name), reverse=True)
    for directory in versions:
        if os.access(directory / "bin" / name, os.X_OK):
            return directory / "bin" / name
    found = shutil.which(name)
    return Path(found) if found else None


def _user() -> pwd.struct_passwd | None:
    for name in USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _environment() -> dict[str, str]:
    """Return an environment that holds nothing of the machine's."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "TZ": "UTC"}


def _free_port() -> int:
    """Return a TCP port of the loopback that is free at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])

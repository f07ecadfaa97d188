"""Connections to one target: one ssh process that has logged in, and the sessions over it.

Keys, agents, jump hosts and known hosts are OpenSSH's and are asked for once.  `OwnLink`
is a connection that the stream keeps for itself; `shared.SharedLink` is one that the streams of an agent
have together.  Sockets lie in private directories and are named relative to them, which keeps
them below the length that the system allows.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mistamover.errors import LinkError, SessionRefused
from mistamover.files.durable import write_whole
from mistamover.links import askpass
from mistamover.links import login as logins
from mistamover.links import process as processes
from mistamover.links.login import Login
from mistamover.links.mux import Session

logger = logging.getLogger(__name__)

#: Seconds that a session may take that is opened only to see whether there is room for one.
TRIAL_SECONDS = 10.0


class Link(Protocol):
    """A way to one target; used by several threads once it is open."""

    @property
    def alive(self) -> bool:
        """Whether the connection stands, as far as is known here."""

    def open(self) -> None:
        """Log in, unless the connection stands. Raise LinkError."""

    def session(self, command: str, *, subsystem: bool = False) -> Session:
        """Given a remote command line or the name of a subsystem, run it. Raise LinkError."""

    def rsync_shell(self) -> contextlib.AbstractContextManager[str]:
        """Yield the value of rsync's -e, good for one rsync within the context. Raise LinkError."""

    def abort(self) -> None:
        """End every session at once, from any thread: whoever waits for one meets its end."""

    def close(self) -> None:
        """End every session, and the connection unless others use it."""


class OwnLink:
    """A connection of one's own; see `Link`.

    Where its server allows no further session on it, there is another one behind it.
    """

    def __init__(self, login: Login, run_dir: Path, *, name: str, background: bool = False) -> None:
        """Given how to log in, a private directory and a name that is unique in it, do nothing yet.

        With `background` the connection gives way: see `process.give_way`.
        """
        self._login = login
        self._run_dir = run_dir
        self._name = name
        self._background = background
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = ""
        self._lock = threading.Lock()
        self._used = 0
        """Sessions that are open."""
        self._proven = 0
        """The most sessions that were open at a time."""
        self._more: OwnLink | None = None

    @property
    def alive(self) -> bool:
        """See `Link.alive`."""
        return self._process is not None and self._process.poll() is None

    def open(self) -> None:
        """See `Link.open`."""
        if self.alive:
            return
        self.close()
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        end_orphan(self._run_dir, self._name)
        self._socket = f"./{self._name}{next(self._numbers)}"
        noted = self._run_dir / f"{self._name}.pid"
        # Whoever is killed before the number is known leaves at least the socket.
        write_whole(noted, f"{self._socket}\n".encode(), durable=False)
        process = start(self._login, self._run_dir, self._socket, background=self._background)
        self._process = process
        write_whole(noted, f"{process.pid} {_started(process.pid)}\n".encode(), durable=False)
        while (said := processes.read_line(process, self._login.patience)) is not None:
            if said == b"connected":
                return
        words = self._login.explain(processes.last_words(process))
        self.close()
        raise LinkError(words)

    def session(self, command: str, *, subsystem: bool = False) -> Session:
        """See `Link.session`."""
        try:
            session = Session(self._run_dir, self._socket, command, subsystem=subsystem)
        except SessionRefused:
            return self._behind().session(command, subsystem=subsystem)
        self._count(1)
        session.at_end(self._count, -1)
        return session

    @contextlib.contextmanager
    def rsync_shell(self) -> Iterator[str]:
        """See `Link.rsync_shell`."""
        if not self._has_room():
            with self._behind().rsync_shell() as words:
                yield words
            return
        self._count(1)
        try:
            yield logins.client(self._socket)
        finally:
            self._count(-1)

    def _has_room(self) -> bool:
        """Whether one more session is allowed; it is tried before, since rsync's ssh could not go elsewhere."""
        with self._lock:
            if self._used < self._proven:
                return True
        try:
            trial = Session(self._run_dir, self._socket, "exit 0")
        except SessionRefused:
            return False
        trial.outlast(TRIAL_SECONDS)
        trial.close()
        return True

    def _count(self, change: int) -> None:
        with self._lock:
            self._used += change
            self._proven = max(self._proven, self._used)

    def _behind(self) -> OwnLink:
        with self._lock:
            if self._more is None:
                logger.info("%s allows %d sessions on one connection: making another", self._login.who, self._used)
                self._more = OwnLink(self._login, self._run_dir, name=f"{self._name}-", background=self._background)
            more = self._more
            more.open()
        return more

    def abort(self) -> None:
        """See `Link.abort`; ssh holds the other ends of all that anybody waits for."""
        process, more = self._process, self._more
        if process is not None:
            process.kill()
        if more is not None:
            more.abort()

    def close(self) -> None:
        """See `Link.close`."""
        if self._more is not None:
            self._more.close()
        if self._process is not None:
            processes.end(self._process)
            self._process = None
        if self._socket:
            for suffix in ("", askpass.SUFFIX):
                (self._run_dir / f"{self._socket}{suffix}").unlink(missing_ok=True)


def start(login: Login, directory: Path, socket: str, *, background: bool = False) -> subprocess.Popen[bytes]:
    """Given how to log in, a private directory and the name of the socket in it, start ssh there.

    It prints `connected` once it is, and ends with its reasons on the error output if it cannot.
    Raise LinkError if there is no ssh, or it cannot be started.
    """
    try:
        (directory / socket).unlink(missing_ok=True)
        configuration = None
        if login.configuration is not None:
            configuration = f"{socket}.conf"
            write_whole(directory / configuration, os.fsencode(login.configuration), durable=False)
        process = processes.spawn(
            login.words(configuration, socket),
            directory=directory,
            stdin=subprocess.DEVNULL,
            environment=askpass.environment(directory, socket, login.password_file),
        )
    except FileNotFoundError as error:
        raise LinkError(f"{error}: install the package openssh-client") from None
    except OSError as error:
        # The disk is full, or too many processes run: that may pass.
        raise LinkError(f"cannot start ssh: {error.strerror or error}") from None
    if background:
        processes.give_way(process.pid)
    return process


def end_orphan(run_dir: Path, name: str) -> None:
    """Given a run directory and a connection's name, end the one that a killed predecessor left behind, if any.

    The kernel does that, unless the predecessor was killed in the instant in which it started ssh.
    """
    noted = run_dir / f"{name}.pid"
    try:
        first, *started = noted.read_text().split()
        if not started:
            _end(_running(run_dir, "-S", first))
        elif [_started(int(first))] == started:
            _end([int(first)])
    except (OSError, ValueError):
        return
    finally:
        noted.unlink(missing_ok=True)


def end_orphans(directory: Path) -> None:
    """Given the directory of one who makes connections there, and has not begun, end those of a killed predecessor."""
    with contextlib.suppress(OSError):
        _end(_running(directory, "-M", "-N"))


def _end(orphans: list[int]) -> None:
    for pid in orphans:
        logger.info("ending ssh process %d that an earlier process left behind", pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _running(directory: Path, option: str, next_word: str) -> list[int]:
    """Given a directory, and two words that follow each other in a command, return the processes that run it there."""
    pair = (os.fsencode(option), os.fsencode(next_word))
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        # Those of others cannot be looked into, and any can end meanwhile.
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if pair in itertools.pairwise(words) and (entry / "cwd").samefile(directory):
                found.append(int(entry.name))
    return found


def _started(pid: int) -> str:
    """Given a process, return when it was started, in the kernel's own clock: its number may be another's by now.

    Raise OSError or ValueError when there is no such process.
    """
    # Behind the program's name, which may hold anything; see proc(5), /proc/PID/stat, field 22.
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()

"""The connections that the streams of one agent share: which one has a place for one more session.

A server allows ten sessions on a connection where its administrator has said nothing else (MaxSessions in
sshd_config(5)); one that refuses earlier is believed.  Only the process `links` uses this.
"""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mistamover.links import askpass
from mistamover.links import process as processes
from mistamover.links.link import end_orphans, start
from mistamover.links.login import Login

logger = logging.getLogger(__name__)

#: Sessions on one connection.
MOST_SESSIONS = 10

#: Seconds that a connection without sessions is kept.
_IDLE = 10.0

#: Seconds for which a refusal is believed.  A session that was closed counts at the server until its command has ended,
#: so a refusal may also mean that somebody has just left.
_BELIEVED = 60.0


@dataclass(eq=False, slots=True, kw_only=True)
class Connection:
    """One ssh process, and who uses it."""

    login: Login
    process: subprocess.Popen[bytes]
    socket: str
    """Its name in the pool's directory."""
    deadline: float
    """Until when the login must have come to an end; later, when an unused connection ends."""
    connected: bool = False
    room: int = MOST_SESSIONS
    """Sessions that it takes; 0 when it refused one while it had none: commands that do not end fill it."""
    believed: float = 0.0
    """Until when `room` is less than usual."""
    places: set[int] = field(default_factory=set)
    said: bytes = b""

    @property
    def output(self) -> int:
        """The descriptor on which it says that it is connected, and that ends with it."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()


class Pool:
    """All connections."""

    def __init__(self, directory: Path) -> None:
        """Given a private directory for the sockets, have none; what a killed predecessor has there is ended."""
        end_orphans(directory)
        self._directory = directory
        self._numbers = itertools.count(1)
        self._connections: list[Connection] = []

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections)

    def take(self, login: Login, place: int) -> Connection:
        """Given how to log in and a number for the place, give it a place; the connection may still have to connect.

        Raise LinkError if there is no ssh.
        """
        now = time.monotonic()
        for connection in self._connections:
            if now >= connection.believed:
                connection.room = MOST_SESSIONS
            alive = connection.process.poll() is None
            if alive and connection.login == login and len(connection.places) < connection.room:
                break
        else:
            connection = self._connect(login)
        connection.places.add(place)
        return connection

    def leave(self, place: int, *, full: bool = False) -> None:
        """Given a place, give it up; with `full`, because the server gave no session for it."""
        for connection in self._connections:
            if place in connection.places:
                connection.places.discard(place)
                if full:
                    connection.room = len(connection.places)
                    connection.believed = time.monotonic() + _BELIEVED
                if not connection.places:
                    connection.deadline = time.monotonic() + _IDLE

    def hear(self, connection: Connection) -> None:
        """Given a connection whose descriptor can be read, take note of what it says; `ended` tells of its end."""
        chunk = os.read(connection.output, 4096)
        connection.said += chunk
        if b"connected" in connection.said.split(b"\n"):
            connection.connected = True
        if not chunk:
            connection.process.kill()

    def ended(self) -> list[tuple[Connection, str]]:
        """Return the connections that have ended, with what ssh said; end those that nobody wants any more."""
        now = time.monotonic()
        gone = []
        for connection in list(self._connections):
            late = now >= connection.deadline
            if late and not (connection.connected and connection.places):
                connection.process.kill()
                connection.process.wait()
            if connection.process.poll() is not None:
                self._connections.remove(connection)
                words = processes.last_words(connection.process)
                logger.info("connection %s to %s ended: %s", connection.socket, connection.login.who, words or "unused")
                gone.append((connection, words))
                self._forget(connection)
        return gone

    def next_moment(self) -> float | None:
        """Return the monotonic time at which `ended` has something to do, apart from events."""
        times = [c.deadline for c in self._connections if not (c.connected and c.places)]
        return min(times, default=None)

    def close(self) -> None:
        """End every connection."""
        for connection in self._connections:
            connection.process.kill()
            self._forget(connection)
        self._connections.clear()

    def _connect(self, login: Login) -> Connection:
        socket = f"./s{next(self._numbers)}"
        process = start(login, self._directory, socket)
        deadline = time.monotonic() + login.patience
        connection = Connection(login=login, process=process, socket=socket, deadline=deadline)
        self._connections.append(connection)
        logger.info("connecting to %s (connection %s)", login.who, socket)
        return connection

    def _forget(self, connection: Connection) -> None:
        processes.end(connection.process)
        for suffix in ("", ".conf", askpass.SUFFIX):
            (self._directory / f"{connection.socket}{suffix}").unlink(missing_ok=True)

"""The stream's side of what is shared: places on connections, and turns; see `holder`."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from mistamover.errors import LinkError, NobodyShares, SessionRefused
from mistamover.links import login as logins
from mistamover.links import messages
from mistamover.links.link import TRIAL_SECONDS
from mistamover.links.login import Login
from mistamover.links.mux import Session
from mistamover.links.turns import Request

#: Seconds beyond a login's own patience that its answer may take.
_ANSWER = 10.0

#: Connections that are tried when servers refuse sessions.
_TRIES = 5

#: Seconds within which it is tried again when a connection does not take a session.
_QUICK = 5.0


class SharedLink:
    """Sessions on connections that other streams use as well; see `link.Link`."""

    def __init__(self, login: Login, directory: Path, run_dir: Path) -> None:
        """Given how to log in, the holder's directory and the one that rsync runs in, do nothing yet."""
        self._login = login
        self._directory = directory
        self._relative = os.path.relpath(directory, run_dir)
        self._lock = threading.Lock()
        self._sessions: set[Session] = set()
        self._spare: _Place | None = None
        self._open = False

    @property
    def alive(self) -> bool:
        """See `Link.alive`; each session tells of its own end."""
        return self._open

    def open(self) -> None:
        """See `Link.open`."""
        self._spare = self._spare or self._take()
        self._open = True

    def session(self, command: str, *, subsystem: bool = False) -> Session:
        """See `Link.session`."""
        session, place = self._begin(command, subsystem=subsystem)
        session.at_end(place.close)
        return session

    def _begin(self, command: str, *, subsystem: bool = False) -> tuple[Session, _Place]:
        refusal: LinkError | None = None
        began = time.monotonic()
        for _ in range(_TRIES):
            with self._lock:
                place, self._spare = self._spare, None
            place = place or self._take()
            try:
                session = Session(self._directory, place.socket, command, subsystem=subsystem)
            except SessionRefused as error:
                place.refuse()
                refusal = error
            except LinkError as error:
                place.close()
                if time.monotonic() - began > _QUICK:
                    raise
                # The connection has ended in this very moment: the next place is on another one.
                refusal = error
            else:
                self._sessions.add(session)
                session.at_end(self._sessions.discard, session)
                return session, place
        raise refusal or LinkError("no session")

    @contextlib.contextmanager
    def rsync_shell(self) -> Iterator[str]:
        """See `Link.rsync_shell`."""
        # rsync's ssh could not go elsewhere if the server refuses, so that is tried before.
        trial, place = self._begin("exit 0")
        trial.outlast(TRIAL_SECONDS)
        trial.close()
        try:
            yield logins.client(f"{self._relative}/{place.socket}")
        finally:
            place.close()

    def abort(self) -> None:
        """See `Link.abort`."""
        for session in list(self._sessions):
            session.abort()

    def close(self) -> None:
        """See `Link.close`; sessions are closed by those who hold them."""
        self._open = False
        with self._lock:
            place, self._spare = self._spare, None
        if place is not None:
            place.close()

    def _take(self) -> _Place:
        asking = messages.ask(self._directory, self._login)
        answer = messages.answer(asking, self._login.patience + _ANSWER) if asking is not None else None
        if asking is None or answer is None or not answer.socket:
            if asking is not None:
                asking.close()
            if answer is None:
                raise NobodyShares("the process that keeps the connections is gone, or does not answer")
            raise LinkError(answer.error)
        return _Place(asking, answer.socket)


class _Place:
    """A place on a shared connection."""

    def __init__(self, asking: socket.socket, name: str) -> None:
        self._asking = asking
        self.socket = name

    def refuse(self) -> None:
        """Give the place up, saying that the server gave no session for it."""
        with contextlib.suppress(OSError):
            self._asking.send(messages.FULL)
        self.close()

    def close(self) -> None:
        """Give the place up."""
        self._asking.close()


class Turn:
    """A turn for a large batch: asked for, waited for at its descriptor, and given up by `close`."""

    def __init__(self, asking: socket.socket) -> None:
        """Given where the answer will come; see `ask`."""
        self._asking = asking

    @classmethod
    def ask(cls, directory: Path, request: Request) -> Turn | None:
        """Given the holder's directory and a request, ask for a turn; None where nobody has to be asked."""
        asking = messages.ask(directory, request)
        return cls(asking) if asking is not None else None

    def fileno(self) -> int:
        """Return the descriptor that can be read when it is our turn, or when nobody is there to ask any more."""
        return self._asking.fileno()

    def close(self) -> None:
        """Let the next one have it."""
        self._asking.close()


def is_kept(directory: Path) -> bool:
    """Given the holder's directory, tell whether somebody keeps connections there."""
    probe = messages.reach(directory)
    if probe is not None:
        probe.close()
    return probe is not None

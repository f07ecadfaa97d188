"""The connection under SFTP: OpenSSH's, the stream's own or one that streams share, without any command at the target.

The lanes of a stream have one session each on it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from mistamover.config.settings import TargetSettings
from mistamover.errors import LinkError, NobodyShares, TargetError
from mistamover.links.link import Link, OwnLink
from mistamover.links.login import Login
from mistamover.links.mux import LOST, Session
from mistamover.links.shared import SharedLink, is_kept
from mistamover.transport.sftp_wire import Wire

#: Seconds for the last words of a session that did not come to anything.
_LAST_WORDS = 2.0


class SftpLink:
    """The way to one target, used by the threads of one stream."""

    def __init__(self, target: TargetSettings, run_dir: Path, links_dir: Path) -> None:
        """Given the target, a private directory of ours and the one of shared connections, do nothing yet."""
        self._host = target.host
        self._run_dir = run_dir
        self._links_dir = links_dir
        self._login = Login.of(target)
        self._own = OwnLink(self._login, run_dir, name="c")
        self._shared = SharedLink(self._login, links_dir, run_dir)
        self._lock = threading.Lock()
        self._wires = 0

    def wire(self) -> Wire:
        """Connect, unless the connection stands, and return a new session. Raise LinkError or TargetError."""
        with self._lock:
            link = self._open()
            self._wires += 1
        try:
            session = link.session("sftp", subsystem=True)
        except BaseException:
            self._leave()
            raise
        session.at_end(self._leave)
        wire = Wire(session)
        try:
            wire.greet()
        except LinkError as error:
            # A server that has no such subsystem ends the session, and leaves the connection.
            refused = session.wait(_LAST_WORDS) not in (None, LOST) and link.alive
            wire.close()
            if refused:
                raise TargetError(f"{self._host}: the login gives no SFTP ({error})") from None
            raise
        except BaseException:
            wire.close()
            raise
        return wire

    def command(self, words: str) -> Session:
        """Given a command line for the other end's shell, run it on the connection, as `wire` does. Raise LinkError."""
        with self._lock:
            link = self._open()
            self._wires += 1
        try:
            session = link.session(words)
        except BaseException:
            self._leave()
            raise
        session.at_end(self._leave)
        return session

    @contextlib.contextmanager
    def rsync_shell(self) -> Iterator[str]:
        """Yield the value of rsync's -e, good for one rsync within the block. Raise LinkError."""
        with self._lock:
            link = self._open()
            self._wires += 1
        try:
            with link.rsync_shell() as words:
                yield words
        finally:
            self._leave()

    def abort(self) -> None:
        """Cut the connection at once, from any thread."""
        self._shared.abort()
        self._own.abort()

    def _open(self) -> Link:
        """Log in, with others or alone: who came alone may have company by now, and the other way round."""
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_kept(self._links_dir):
            with contextlib.suppress(NobodyShares):
                self._shared.open()
                return self._shared
        self._own.open()
        return self._own

    def _leave(self) -> None:
        """End the connection with its last session."""
        with self._lock:
            self._wires -= 1
            if not self._wires:
                self._own.close()
                self._shared.close()

"""A connection to one target, alone or with others: whichever is the right one when it is opened."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mistamover.errors import NobodyShares
from mistamover.links.link import Link, OwnLink
from mistamover.links.login import Login
from mistamover.links.mux import Session
from mistamover.links.shared import SharedLink, is_kept


class ChosenLink:
    """See `link.Link`."""

    def __init__(self, login: Login, run_dir: Path, links_dir: Path, *, name: str) -> None:
        """Given how to log in, a private directory, the one of shared connections, and a name that is unique in the
        first, do nothing yet.
        """
        self._own = OwnLink(login, run_dir, name=name)
        self._shared = SharedLink(login, links_dir, run_dir)
        self._run_dir = run_dir
        self._links_dir = links_dir
        self._link: Link = self._own

    @property
    def alive(self) -> bool:
        """See `Link.alive`."""
        return self._link.alive

    def open(self) -> None:
        """See `Link.open`: who came alone may have company by now, and the other way round."""
        self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_kept(self._links_dir):
            self._link = self._shared
            with contextlib.suppress(NobodyShares):
                self._link.open()
                return
        self._link = self._own
        self._link.open()

    def session(self, command: str, *, subsystem: bool = False) -> Session:
        """See `Link.session`."""
        return self._link.session(command, subsystem=subsystem)

    def rsync_shell(self) -> contextlib.AbstractContextManager[str]:
        """See `Link.rsync_shell`."""
        return self._link.rsync_shell()

    def abort(self) -> None:
        """See `Link.abort`."""
        self._link.abort()

    def close(self) -> None:
        """See `Link.close`."""
        self._link.close()

"""How an rsync gets to a far end that gives nothing but rsync: a daemon, or an ssh key that is restricted to it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mistamover.config.access import NativeAccess
from mistamover.config.settings import TargetSettings
from mistamover.errors import SecretError, TargetError
from mistamover.files.private import read_private
from mistamover.links.chosen import ChosenLink
from mistamover.links.login import Login

#: What the names of files with a password begin with; each lives as long as one run.
_PASSWORD = "password-"  # noqa: S105


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What one rsync needs to get there."""

    words: Sequence[str]
    """Options."""


class RsyncFar(Protocol):
    """One target; used by several threads."""

    secluded: bool
    """Whether names in the command are to be kept away from a shell there by rsync's own means."""

    def open(self) -> None:
        """Connect, if that is done before an rsync is started. Raise LinkError."""

    def passage(self) -> contextlib.AbstractContextManager[Passage]:
        """Yield what one rsync needs within the context. Raise LinkError or TargetError."""

    def place(self, directory: str) -> str:
        """Given a directory at the target, as in its settings, return how rsync is told of it."""

    def anchored(self, directory: str) -> str:
        """Given a directory at the target, return how an option names it: from the top of what is given to us."""

    def top_and_rest(self, directory: str) -> tuple[str, str]:
        """Given a directory at the target, return one that is there for certain, and the way from there to it."""

    def fetching(self, directory: str) -> tuple[str, bytes]:
        """Given a directory at the target, return where names to be fetched begin, and what stands before each."""

    def description(self) -> str:
        """Return in words what is there."""

    def abort(self) -> None:
        """Cut the connection, from any thread."""

    def close(self) -> None:
        """End the connection."""


class Daemon:
    """An rsync daemon; each rsync connects for itself."""

    secluded = True

    def __init__(self, settings: NativeAccess, run_dir: Path) -> None:
        """Given how to get there, and a private directory, do nothing yet."""
        self._settings = settings
        self._run_dir = run_dir
        self._cleared = False
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        user = f"{settings.username}@" if settings.username else ""
        port = f":{settings.port}" if settings.port is not None else ""
        self._address = f"{host}{port}"
        self._url = f"rsync://{user}{self._address}/"

    def open(self) -> None:
        """See `RsyncFar.open`: a predecessor that was killed may have left a password."""
        if not self._cleared:
            for path in self._run_dir.glob(f"{_PASSWORD}*"):
                path.unlink(missing_ok=True)
            self._cleared = True

    @contextlib.contextmanager
    def passage(self) -> Iterator[Passage]:
        """See `RsyncFar.passage`."""
        # rsync talks in small pieces at the start and the end of a run: none of them is to wait for an acknowledgement.
        words = [f"--contimeout={max(1, round(self._settings.connect_timeout))}", "--sockopts=TCP_NODELAY"]
        # rsync 3.5 takes no descriptor in its place.  With an empty one rsync asks nobody.
        handle, path = tempfile.mkstemp(prefix=_PASSWORD, dir=self._run_dir)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self._password().encode() + b"\n")
            yield Passage(words=[*words, f"--password-file={path}"])
        finally:
            os.unlink(path)

    def place(self, directory: str) -> str:
        """See `RsyncFar.place`."""
        return f"{self._url}{directory}/"

    def anchored(self, directory: str) -> str:
        """See `RsyncFar.anchored`: from the top of the module."""
        return f"/{directory.partition('/')[2]}".rstrip("/")

    def top_and_rest(self, directory: str) -> tuple[str, str]:
        """See `RsyncFar.top_and_rest`."""
        module, _, rest = directory.partition("/")
        return module, rest

    def fetching(self, directory: str) -> tuple[str, bytes]:
        """See `RsyncFar.fetching`: a daemon of 3.5 without chroot finds no file of a list below the top of a module."""
        module, rest = self.top_and_rest(directory)
        return module, os.fsencode(f"{rest}/./") if rest else b""

    def description(self) -> str:
        """See `RsyncFar.description`."""
        return f"rsync daemon {self._address}"

    def abort(self) -> None:
        """See `RsyncFar.abort`."""

    def close(self) -> None:
        """See `RsyncFar.close`."""

    def _password(self) -> str:
        if self._settings.password_file is None:
            return self._settings.password
        try:
            lines = read_private(self._settings.password_file)
        except SecretError as error:
            raise TargetError(str(error)) from error
        return lines[0] if lines else ""


class RestrictedKey:
    """A login by ssh that runs rsync and nothing else, as with rrsync(1)."""

    # rrsync takes no such option; and where rsync is 3.2.4 or newer, what is special is marked anyway.
    secluded = False

    def __init__(self, target: TargetSettings, run_dir: Path, links_dir: Path) -> None:
        """Given the target, a private directory, and the one of shared connections, do nothing yet."""
        self._link = ChosenLink(Login.of(target), run_dir, links_dir, name="o")
        self._host = target.host

    def open(self) -> None:
        """See `RsyncFar.open`."""
        if not self._link.alive:
            self._link.open()

    @contextlib.contextmanager
    def passage(self) -> Iterator[Passage]:
        """See `RsyncFar.passage`."""
        self.open()
        with self._link.rsync_shell() as shell:
            yield Passage(words=("-e", shell))

    def place(self, directory: str) -> str:
        """See `RsyncFar.place`."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{directory.rstrip('/')}/"

    def anchored(self, directory: str) -> str:
        """See `RsyncFar.anchored`: rrsync takes paths in options from the top of its directory."""
        return f"/{directory.strip('/')}".rstrip("/")

    def top_and_rest(self, directory: str) -> tuple[str, str]:
        """See `RsyncFar.top_and_rest`."""
        rest = directory.strip("/")
        return ("" if directory.startswith("/") else "."), rest

    def fetching(self, directory: str) -> tuple[str, bytes]:
        """See `RsyncFar.fetching`."""
        return directory, b""

    def description(self) -> str:
        """See `RsyncFar.description`."""
        return f"rsync over ssh to {self._host}, whose login runs nothing but rsync"

    def abort(self) -> None:
        """See `RsyncFar.abort`."""
        self._link.abort()

    def close(self) -> None:
        """See `RsyncFar.close`."""
        self._link.close()

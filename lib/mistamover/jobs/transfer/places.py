"""The endpoints as jobs use them: connections that are lent, and paths that never lead out of the base.

A path of a client is resolved before it is used: links in its directories are followed where the far end tells where
they lead, and only as far as they stay inside; where it does not tell, they are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mistamover.config.serving import EndpointSettings
from mistamover.files.names import display, parent
from mistamover.jobs import lines
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.groups import check_here
from mistamover.jobs.transfer.far_ends import FarEnd, far_end
from mistamover.jobs.transfer.far_shell import FarShell
from mistamover.model import Kind
from mistamover.transport.far import FarFiles, FarRefusal, Means, ResolvingFiles, StreamingFiles, There
from mistamover.transport.far_pool import Pool

#: Seconds after which a connection that nobody uses is ended.
_IDLE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file that can be read."""

    size: int
    mtime: float
    pieces: Iterator[bytes]
    """From the position that was asked for; closed by who does not read it to its end."""


class Visit:
    """One connection to an endpoint, for as long as it is lent, by one thread."""

    def __init__(self, place: Place, far: FarFiles, means: Means) -> None:
        """Given the place, a connection to it and what it can do, be ready."""
        self.place = place
        self.far = far
        self.means = means
        self.streamed = False
        """Something was read piece by piece: who breaks off in between may leave answers under way."""
        self._reading: list[Iterator[bytes]] = []
        self._base: bytes | None = None
        self._real: dict[bytes, bytes] = {b"": b""}

    def look(self, path: str) -> There | None:
        """Given a clean path, return what has it, links not followed in its last part. Raise TransportError."""
        return self.far.look(self.real(path))

    def content(self, path: str, offset: int = 0) -> Content:
        """Given a clean path and a position, return the file to be read from there on. Raise TransportError."""
        name, there = self.file(path)
        return Content(size=there.size, mtime=there.mtime, pieces=self.read(name, offset))

    def file(self, path: str) -> tuple[bytes, There]:
        """Given a clean path, return the name by which its file is had, and what it is. Raise FarRefusal if none is."""
        name = self.real(path)
        there = self.far.look(name)
        if there is not None and there.kind is Kind.LINK:
            name = self._inside(name, whole=name)
            there = self.far.look(name)
        if there is None:
            raise Missing(f"{_shown(path)}: no such file or directory")
        if there.kind is not Kind.FILE:
            raise FarRefusal(f"{_shown(path)} is {'a directory' if there.kind is Kind.DIRECTORY else 'no file'}")
        return name, there

    def read(self, name: bytes, offset: int = 0) -> Iterator[bytes]:
        """Given a resolved name and a position, return what yields the content from there on."""
        self.streamed = True
        if self.means.pieces:
            pieces = cast("StreamingFiles", self.far).read_from(name, offset)
        else:
            pieces = _skipped(self.far.read(name), offset)
        self._reading.append(pieces)
        return pieces

    def close(self) -> None:
        """End what is being read: the connection may be another one's next."""
        for pieces in self._reading:
            if isinstance(pieces, Generator):
                pieces.close()
        self._reading.clear()

    def real(self, path: str) -> bytes:
        """Given a clean path, return it with the links in its directories resolved; what is missing stays as it is.

        Raise FarRefusal where a link leads out of the base, or cannot be resolved.
        """
        name = path.encode("utf-8", "surrogateescape")
        above, slash, last = name.rpartition(b"/")
        return self._directory(above, whole=name) + slash + last if slash else name

    def directory(self, path: str) -> bytes:
        """Given the clean path of a directory (empty: the base), return it with all its links resolved, its own too.

        Raise FarRefusal as `real`.
        """
        name = path.encode("utf-8", "surrogateescape")
        return self._directory(name, whole=name)

    def make_way(self, name: bytes) -> None:
        """Given a resolved name, make the directories above it, as far as they are missing. Raise TransportError."""
        self.make_directories(parent(name))

    def make_directories(self, name: bytes) -> None:
        """Given a resolved name, make it a directory, and those above it, as far as they are missing."""
        if not self.means.directories:
            return
        above = name
        missing = []
        while above and self.far.look(above) is None:
            missing.append(above)
            above = parent(above)
        for directory in reversed(missing):
            self.far.make_directory(directory)
            if self.means.attributes:
                self.far.set_attributes(directory, 0o777 & ~_umask(), time.time_ns())
            self._real.pop(directory, None)

    def absolute(self, name: bytes) -> bytes:
        """Given a resolved name, return where it is at the far end, where that tells. Raise TransportError."""
        return self._top() + b"/" + name if name else self._top()

    # -- inside -------------------------------------------------------------------------------

    def _directory(self, directory: bytes, *, whole: bytes) -> bytes:
        known = self._real.get(directory)
        if known is None:
            known = self._real[directory] = self._inside(directory, whole=whole)
        return known

    def _inside(self, name: bytes, *, whole: bytes) -> bytes:
        if not self.means.directories:
            return name
        if not self.means.resolves:
            self._refuse_links(name)
            return name
        rest: list[bytes] = []
        at = name
        while (real := cast("ResolvingFiles", self.far).real_path(at)) is None and at:
            there = self.far.look(at)
            if there is not None and there.kind is Kind.LINK:
                raise FarRefusal(f"{display(whole)}: {display(at)} is a link to nothing")
            at, _, last = at.rpartition(b"/")
            rest.append(last)
        top = self._top()
        if real is None or not (real == top or real.startswith(top.rstrip(b"/") + b"/")):
            raise FarRefusal(f"{display(whole)}: a link in it leads out of the endpoint {self.place.settings.name}")
        found = real[len(top) :].lstrip(b"/")
        return b"/".join([*filter(None, [found]), *reversed(rest)])

    def _top(self) -> bytes:
        if self._base is None:
            base = cast("ResolvingFiles", self.far).real_path(b"")
            if base is None:
                raise FarRefusal(f"the directory of the endpoint {self.place.settings.name} is not there any more")
            self._base = base
        return self._base

    def _refuse_links(self, name: bytes) -> None:
        at = name
        while at:
            there = self.far.look(at)
            if there is not None and there.kind is Kind.LINK:
                raise FarRefusal(f"{display(name)}: {display(at)} is a link, and this endpoint cannot follow it")
            at = parent(at)


class Missing(FarRefusal):
    """There is nothing of a name."""


def _abort(far: FarFiles) -> None:
    far.abort()


class Place:
    """One endpoint, with its connections."""

    def __init__(self, settings: EndpointSettings, run_dir: Path, links_dir: Path) -> None:
        """Given an endpoint, a private directory of its own, and that of shared connections, connect to nothing yet.

        Raise TargetError if such an endpoint holds no files.
        """
        self.settings = settings
        self.run_dir = run_dir
        self.end: FarEnd = far_end(settings, run_dir, links_dir)
        self.shell = FarShell(self.end.link, settings.host) if self.end.link is not None else None
        self._pool = Pool(self._make)
        self._lock = threading.Lock()
        self._lent = 0
        self._used = time.monotonic()

    @contextlib.contextmanager
    def lend(self) -> Iterator[Visit]:
        """Lend a connection for the length of the block. Raise LinkError or TargetError if there can be none."""
        self._count(1)
        try:
            with (
                self._pool.lend() as connection,
                lines.held(connection.far, _abort),
                contextlib.closing(Visit(self, connection.far, connection.means)) as visit,
            ):
                yield visit
        finally:
            self._count(-1)

    def idle(self, seconds: float) -> bool:
        """Given so many seconds, tell whether nobody has used it for as long."""
        with self._lock:
            return not self._lent and time.monotonic() - self._used >= seconds

    def rest(self) -> None:
        """End the connections that nobody uses."""
        self._pool.close()

    def abort(self) -> None:
        """Cut every connection, from any thread."""
        self._pool.abort()

    def close(self) -> None:
        """End all of it; nobody uses it."""
        self._pool.close()
        self.end.close()

    def _make(self) -> FarFiles:
        far = self.end.make()
        # The login may take as long as anything else.
        lines.note(far, _abort)
        return far

    def _count(self, change: int) -> None:
        with self._lock:
            self._lent += change
            self._used = time.monotonic()


class Places:
    """All endpoints that this process has to do with; used by several threads."""

    def __init__(
        self, endpoints: Endpoints, run_dir: Path, links_dir: Path, *, groups: Collection[str] | None = None
    ) -> None:
        """Given the endpoints, a private directory and that of shared connections, open nothing yet.

        `groups` are the groups of workers whose endpoints can be used from here; None: who asks has seen to it.
        """
        self._groups = groups
        self.endpoints = endpoints
        self.run_dir = run_dir
        self._links_dir = links_dir
        self._lock = threading.Lock()
        self._open: dict[str, Place] = {}
        self._old: list[Place] = []

    def of(self, name: str) -> Place:
        """Given an endpoint's name, return its place.

        Raise JobRefused if there is none (any more), or it cannot be used from here; TargetError if such an endpoint
        holds no files.
        """
        settings = self.endpoints.need(name)
        if self._groups is not None:
            check_here(settings, self._groups)
        with self._lock:
            place = self._open.get(name)
            if place is not None and place.settings == settings:
                return place
            if place is not None:
                # Its settings have changed: who uses it goes on with it.
                self._old.append(place)
            # Names may differ in case only, or be long: a socket's path may not.
            key = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
            place = self._open[name] = Place(settings, self.run_dir / f"e-{key}-{len(self._old)}", self._links_dir)
            return place

    def tidy(self) -> None:
        """End connections that nobody has used for a minute."""
        with self._lock:
            for place in self._open.values():
                if place.idle(_IDLE):
                    place.rest()
            for place in [old for old in self._old if old.idle(0.0)]:
                self._old.remove(place)
                place.close()

    def abort(self) -> None:
        """Cut every connection, from any thread."""
        with self._lock:
            for place in (*self._open.values(), *self._old):
                place.abort()

    def close(self) -> None:
        """End all of it; nobody uses it any more."""
        with self._lock:
            for place in (*self._open.values(), *self._old):
                place.close()
            self._open.clear()
            self._old.clear()


def _skipped(pieces: Iterator[bytes], offset: int) -> Iterator[bytes]:
    for piece in pieces:
        if offset >= len(piece):
            offset -= len(piece)
            continue
        yield piece[offset:]
        offset = 0


def _shown(path: str) -> str:
    return display(path.encode("utf-8", "surrogateescape"))


def _umask() -> int:
    """Return which permissions this process takes away, without changing them for a moment as umask(2) would."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022

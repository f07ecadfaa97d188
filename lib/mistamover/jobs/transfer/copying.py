"""One file on its way to an endpoint: written under a name of ours, proven, flushed, and only then given its own name.

What has the name already is never replaced unless that is asked for; the same content counts as delivered, so that
whatever was broken off can be done again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

from mistamover.errors import LinkError
from mistamover.files import digests
from mistamover.files.names import display, parent
from mistamover.jobs.transfer import far_shell, rsync_way
from mistamover.jobs.transfer.far_shell import Follower
from mistamover.jobs.transfer.faults import Trouble
from mistamover.jobs.transfer.leftovers import Traces
from mistamover.jobs.transfer.origins import FarOrigin, Origin, blaming
from mistamover.jobs.transfer.places import Place, Visit
from mistamover.model import FaultClass, Kind
from mistamover.transport.far import ExclusiveFiles, FarRefusal, NameTaken, StreamingFiles, There

#: By what content is proven and recorded where nobody asks for anything else.
HASH = "sha256"

#: From this size on it is hashed by a program at the far end, while it is written; what is smaller is read back sooner
#: than such a program is started.
_FOLLOWED_FROM = 1 << 20

_CHUNK = 1 << 20

#: More than any file has.
_ENDLESS = 1 << 62

#: What a file may have at a target: no program becomes another user's by being sent.
_FILE_BITS = 0o777
_USUAL_BITS = 0o644

Told = Callable[[int], None]
"""Called with the bytes that are done; raises when the attempt is to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How a file is to arrive."""

    job: str
    seq: int
    overwrite: bool
    hash_type: str = ""
    hash_value: str = ""
    """What it must have; empty: whatever it has."""

    @property
    def algorithm(self) -> str:
        """By what it is proven and recorded."""
        return self.hash_type or HASH

    def check(self, digest: str) -> None:
        """Given the hash of what is there, raise Trouble unless it is what was asked for."""
        if self.hash_value and digest != self.hash_value:
            words = f"the content has the {self.algorithm} {digest}, and {self.hash_value} was expected"
            raise Trouble(FaultClass.SOURCE, words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What was confirmed of a file."""

    algorithm: str
    digest: str
    size: int
    present: bool = False
    """It was there before."""
    replaced: bool = False
    """Something of its name was there before, be it the same."""


def deliver(
    origin: Origin,
    visit: Visit,
    final: bytes,
    wanted: Wanted,
    traces: Traces,
    *,
    sending: Told,
    proving: Told,
) -> Arrived:
    """Given content, a connection to the target, a resolved final name there, and how it is to arrive, deliver it.

    `sending` hears of bytes that were sent, `proving` of bytes that were compared.  Raise Trouble, TransportError,
    OSError, and what these two raise.
    """
    there = visit.far.look(final)
    if there is not None and there.kind is Kind.DIRECTORY and visit.means.directories:
        raise Trouble(FaultClass.REFUSED, f"{display(final)} is a directory", final=True)
    if there is not None and not wanted.overwrite:
        return _compared(origin, visit, final, there, wanted, proving)
    visit.make_way(final)
    if not visit.means.rename:
        arrived = _in_place(origin, visit, final, wanted, sending, proving)
        return replace(arrived, replaced=there is not None)
    with traces.beside(visit, final, wanted.job, wanted.seq) as temporary:
        with _followed(visit, temporary, origin, wanted) as follower:
            try:
                arrived = _written(origin, visit, temporary, wanted, sending)
            except (FarRefusal, Trouble) as error:
                if not isinstance(error, Trouble) or error.fault is FaultClass.REFUSED:
                    # Who reads a file that shrinks or grows complains of one end or the other: it is none of these.
                    origin.check()
                raise
            _prove(visit, temporary, arrived, wanted, follower, proving)
        _dress(visit, temporary, origin)
        if visit.means.flush:
            visit.far.flush([temporary])
        # The last moment: behind it everybody sees the file.
        proving(arrived.size)
        try:
            _show(visit, temporary, final, overwrite=wanted.overwrite)
        except NameTaken:
            visit.far.remove(temporary)
            taken = visit.far.look(final)
            if taken is None:
                raise Trouble(FaultClass.CHANGED, f"{display(final)} came and went") from None
            return _same(visit, final, taken, arrived, wanted, proving)
    flush_entry(visit, final)
    return replace(arrived, replaced=there is not None)


def put_mark(visit: Visit, name: bytes) -> None:
    """Given a connection and a temporary name, write an empty file there. Raise TransportError."""
    handle = os.memfd_create("mistamover-mark", os.MFD_CLOEXEC)
    try:
        visit.far.write(name, handle, 0, 0, lambda _: None)
    finally:
        os.close(handle)


def flush_entry(visit: Visit, name: bytes) -> None:
    """Given a name that was given or taken away, have its directory on disk."""
    if visit.means.flush:
        with contextlib.suppress(FarRefusal):
            visit.far.flush([parent(name)])


def read_back(visit: Visit, name: bytes, algorithm: str, told: Told) -> tuple[str, int]:
    """Given a resolved name, return the hash and the size of what is read from there.

    On this host that may come from memory, as it does at a far end that hashes: the flush is what the disk answers for.
    """
    value, size = digests.new(algorithm), 0
    for piece in visit.read(name):
        value.update(piece)
        size += len(piece)
        told(size)
    return value.hexdigest(), size


def digest_of(visit: Visit, name: bytes, size: int, algorithm: str, told: Told) -> str:
    """Given a resolved name and its size, return its hash, computed where that is cheapest. Raise TransportError."""
    if algorithm in visit.means.hashes:
        return visit.far.digest(name, algorithm)
    if _can_follow(visit, algorithm, size):
        assert visit.place.shell is not None
        with visit.place.shell.following(visit.absolute(name), algorithm) as follower:
            return follower.digest(size, lambda: told(0))
    return read_back(visit, name, algorithm, told)[0]


# -- inside -----------------------------------------------------------------------------------


class _Stream:
    """What is read of an origin, piece by piece as it is asked for, and hashed on its way; see `far.Pieces`."""

    def __init__(self, origin: Origin, wanted: Wanted, *, exact: bool) -> None:
        self._origin = origin
        self._wanted = wanted
        self._pieces = origin.pieces()
        self._rest = memoryview(b"")
        self._exact = exact
        self._hash = digests.new(wanted.algorithm)
        self.mtime_ns = origin.mtime_ns
        self.size = 0
        """Bytes that were handed over."""

    def piece(self, size: int, position: int) -> bytes:
        """See `Pieces.piece`; unless it must be exact, a piece may also be shorter, never empty before the end."""
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        piece = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        while self._exact and len(piece) < size and (more := next(self._pieces, b"")):
            self._rest = memoryview(more)[size - len(piece) :]
            piece += more[: size - len(piece)]
        self._hash.update(piece)
        self.size += len(piece)
        if not piece:
            self._whole()
        return piece

    def same(self) -> None:
        """See `Pieces.same`; it must also be what is wanted, before it appears anywhere."""
        self._whole()
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        if self._rest:
            raise Trouble(FaultClass.CHANGED, "the source grew while it was read")
        self._origin.check()
        self._wanted.check(self._hash.hexdigest())

    def arrived(self) -> Arrived:
        """Return what was handed over, when that is all. Raise Trouble if it is not."""
        self.same()
        return Arrived(algorithm=self._wanted.algorithm, digest=self._hash.hexdigest(), size=self.size)

    def _whole(self) -> None:
        if self._origin.size is not None and self.size < self._origin.size:
            words = f"the source ended after {self.size} of {self._origin.size} bytes"
            raise Trouble(FaultClass.CHANGED, words)


class _Handed:
    """A file of this machine that the far end reads by itself, hashed as far as it has come."""

    def __init__(self, handle: int, algorithm: str, told: Told) -> None:
        self._handle = handle
        self._hash = digests.new(algorithm)
        self._told = told
        self.size = 0

    def told(self, position: int) -> None:
        """Given how many bytes were sent in all, hash as many."""
        self._told(min(position, self.size))
        while self.size < position:
            piece = os.pread(self._handle, min(_CHUNK, position - self.size), self.size)
            if not piece:
                break
            self._hash.update(piece)
            self.size += len(piece)
            self._told(self.size)

    def digest(self, size: int) -> str:
        """Given the size, return the hash of the whole."""
        self.told(size)
        return self._hash.hexdigest()


def _written(origin: Origin, visit: Visit, name: bytes, wanted: Wanted, told: Told) -> Arrived:
    """Write an origin's content to a name, and check that it is what was wanted."""
    place = rsync_way.fits(origin, visit) if wanted.algorithm in far_shell.HASHES else None
    if place is not None:
        return _rsynced(place, origin, visit, name, wanted, told)
    if origin.handle is not None and origin.size is not None and not visit.means.whole:
        handed = _Handed(origin.handle, wanted.algorithm, told)
        visit.far.write(name, origin.handle, origin.size, 0, handed.told)
        digest = handed.digest(origin.size)
        if handed.size != origin.size:
            raise Trouble(FaultClass.CHANGED, f"the source ended after {handed.size} of {origin.size} bytes")
        origin.check()
        wanted.check(digest)
        return Arrived(algorithm=wanted.algorithm, digest=digest, size=handed.size)
    if not visit.means.pieces:
        raise Trouble(FaultClass.BUG, "this endpoint takes only what is in a file here", final=True)
    if origin.size is None and visit.means.whole:
        words = "how long it is nobody says, and this endpoint wants to know that first: fetch it to another one"
        raise Trouble(FaultClass.REFUSED, words, final=True)
    stream = _Stream(origin, wanted, exact=visit.means.whole)
    size = _ENDLESS if origin.size is None else origin.size
    cast("StreamingFiles", visit.far).write_from(name, stream, size, told)
    return stream.arrived()


def _rsynced(place: Place, origin: Origin, visit: Visit, name: bytes, wanted: Wanted, told: Told) -> Arrived:
    """Let rsync write an origin's content to a name; what it is to be is found out by other means."""
    size = origin.size
    assert size is not None
    if origin.handle is not None:
        handed = _Handed(origin.handle, wanted.algorithm, told)
        with blaming(place.settings.name):
            rsync_way.copy(place, origin, visit, name, handed.told)
        digest = handed.digest(size)
    else:
        assert isinstance(origin, FarOrigin) and place.shell is not None
        with (
            blaming(place.settings.name),
            place.shell.following(origin.visit.absolute(origin.name), wanted.algorithm) as follower,
        ):
            rsync_way.copy(place, origin, visit, name, told)
            digest = follower.digest(size, lambda: told(size))
    origin.check()
    wanted.check(digest)
    return Arrived(algorithm=wanted.algorithm, digest=digest, size=size)


@contextlib.contextmanager
def _followed(visit: Visit, name: bytes, origin: Origin, wanted: Wanted) -> Iterator[Follower | None]:
    """Yield what hashes at the far end while it is written there, where that is possible and worth it."""
    if origin.size is None or not _can_follow(visit, wanted.algorithm, origin.size):
        yield None
        return
    assert visit.place.shell is not None
    with visit.place.shell.following(visit.absolute(name), wanted.algorithm) as follower:
        yield follower


def _can_follow(visit: Visit, algorithm: str, size: int) -> bool:
    shell = visit.place.shell
    return shell is not None and size >= _FOLLOWED_FROM and algorithm in far_shell.HASHES and shell.has("python3")


def _prove(visit: Visit, name: bytes, arrived: Arrived, wanted: Wanted, follower: Follower | None, told: Told) -> None:
    """Raise Trouble unless what stands under a name is what was sent."""
    told(0)
    size = arrived.size
    if follower is not None:
        digest = follower.digest(arrived.size, lambda: told(0))
    elif wanted.algorithm in visit.means.hashes:
        digest = visit.far.digest(name, wanted.algorithm)
    else:
        digest, size = read_back(visit, name, wanted.algorithm, told)
    if (digest, size) != (arrived.digest, arrived.size):
        raise Trouble(FaultClass.TARGET, "what arrived is not what was sent", endpoint=visit.place.settings.name)


def _dress(visit: Visit, name: bytes, origin: Origin) -> None:
    if visit.means.attributes:
        mode = _USUAL_BITS if origin.mode is None else origin.mode & _FILE_BITS
        if origin.mtime_ns:
            visit.far.set_attributes(name, mode, origin.mtime_ns)
            return
        there = visit.far.look(name)
        visit.far.set_attributes(name, mode, int(there.mtime * 1e9) if there is not None else 0)


def _show(visit: Visit, temporary: bytes, final: bytes, *, overwrite: bool) -> None:
    """Give what was written its own name. Raise NameTaken where that is another's."""
    if overwrite:
        visit.far.rename(temporary, final)
    elif visit.means.exclusive:
        cast("ExclusiveFiles", visit.far).rename_new(temporary, final)
    elif visit.far.look(final) is not None:
        raise NameTaken(f"there is something of the name {display(final)} already")
    else:
        # Nothing better is to be had here: a moment is left in which another one may take it.
        visit.far.rename(temporary, final)


def _in_place(origin: Origin, visit: Visit, final: bytes, wanted: Wanted, sending: Told, proving: Told) -> Arrived:
    """Write where what is written is seen only when it is whole; what is not proven all the same is removed."""
    arrived = _written(origin, visit, final, wanted, sending)
    try:
        _prove(visit, final, arrived, wanted, None, proving)
    except Trouble:
        with contextlib.suppress(FarRefusal, LinkError):
            visit.far.remove(final)
        raise
    return arrived


def _compared(origin: Origin, visit: Visit, final: bytes, there: There, wanted: Wanted, told: Told) -> Arrived:
    """Given what has the final name already, return it as arrived if it is the same. Raise Trouble if it is not."""
    if there.kind is not Kind.FILE or (origin.size is not None and there.size != origin.size):
        raise _taken(final)
    stream = _Stream(origin, wanted, exact=False)
    while stream.piece(_CHUNK, stream.size):
        told(0)
    arrived = stream.arrived()
    return _same(visit, final, there, arrived, wanted, told)


def _same(visit: Visit, final: bytes, there: There, arrived: Arrived, wanted: Wanted, told: Told) -> Arrived:
    if there.kind is Kind.FILE and there.size == arrived.size:
        digest = digest_of(visit, final, there.size, wanted.algorithm, told)
        if digest == arrived.digest:
            if visit.means.flush:
                visit.far.flush([final, parent(final)])
            return Arrived(algorithm=arrived.algorithm, digest=digest, size=arrived.size, present=True, replaced=True)
    raise _taken(final)


def _taken(final: bytes) -> Trouble:
    words = f"{display(final)} is there already, and is not the same: ask for overwriting, or take another name"
    return Trouble(FaultClass.REFUSED, words, final=True)

"""One arrival: a control file, what lies beside it, and what follows from both.

Looks, reads and hashes; delivers nothing and removes nothing (see `delivery`).  Every name of a peer is used relative
to the descriptor of its directory, and no link is followed.
"""

from __future__ import annotations

import functools
import os
import pwd
import stat
from dataclasses import dataclass

from mistamover.errors import PeerFileError
from mistamover.files import digests
from mistamover.files.identity import DirectoryHandles, identity_of
from mistamover.handshake import lists, messages
from mistamover.handshake.lists import ControlList
from mistamover.handshake.messages import Control, Status
from mistamover.model import Identity
from mistamover.watch.scan import manifest

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """A control file that could be read."""

    path: bytes
    """Of the control file, relative to the incoming directory."""
    identity: Identity
    """Of the control file."""
    directory: bytes
    control: Control
    peer: str
    """Whom the control file belongs to."""

    @property
    def name(self) -> bytes:
        """The name of what was announced, relative to the incoming directory and to the stream's."""
        return self.directory + b"/" + self.control.item if self.directory else self.control.item


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A list of control entries that could be read."""

    path: bytes
    identity: Identity
    control: ControlList
    digest: str
    """Of its content, as the receipt repeats it."""
    announced: tuple[Announced, ...]
    """Its entries, each as if it had a control file of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What is really there under an announced name."""

    announced: Announced
    status: Status
    words: str
    """Why it is not as announced; empty if it is."""
    size: int = -1
    digest: str = ""
    identity: Identity | None = None
    tree: bool = False
    mtime_ns: int = 0


def read_control(handles: DirectoryHandles, path: bytes) -> Announced | Listed:
    """Given the incoming directory and the path of a control file in it, return what it announces.

    Raise PeerFileError if it says nothing that can be used, FileNotFoundError if it is gone, OSError if it cannot be
    read.
    """
    content, status = read_small(handles, path, lists.MOST_BYTES)
    identity, peer = identity_of(status), _owner(status.st_uid)
    if not lists.is_list(content):
        control = messages.parse_control(content)
        directory = path.rpartition(b"/")[0]
        return Announced(path=path, identity=identity, directory=directory, control=control, peer=peer)
    if b"/" in path:
        raise PeerFileError("a list must lie at the top")
    listed = lists.parse_control(content)
    return Listed(
        path=path,
        identity=identity,
        control=listed,
        digest=lists.digest_of(content),
        announced=tuple(_entry(path, identity, peer, listed.receipt, entry) for entry in listed.entries),
    )


def _entry(path: bytes, identity: Identity, peer: str, receipt: bytes, entry: lists.Entry) -> Announced:
    directory, _, item = entry.name.rpartition(b"/")
    control = Control(item=item, size=entry.size, checksum=entry.checksum, receipt=receipt)
    return Announced(path=path, identity=identity, directory=directory, control=control, peer=peer)


def read_small(
    handles: DirectoryHandles, path: bytes, longest: int = messages.MOST_BYTES
) -> tuple[bytes, os.stat_result]:
    """Given a path of a message, return its content, as far as `longest` and one byte more, and its status.

    Raise PeerFileError if it is no regular file, FileNotFoundError if it is gone, OSError if it cannot be read.
    """
    above, _, last = path.rpartition(b"/")
    directory = handles.get(above)
    if not stat.S_ISREG(os.stat(last, dir_fd=directory, follow_symlinks=False).st_mode):
        raise PeerFileError("it is no regular file")
    handle = os.open(last, _OPEN, dir_fd=directory)
    try:
        status = os.fstat(handle)
        return os.pread(handle, min(longest, status.st_size) + 1, 0), status
    finally:
        os.close(handle)


def measure(root: bytes, handles: DirectoryHandles, announced: Announced) -> Measured:
    """Given the incoming directory and what was announced, look at what is there. Raise OSError."""
    control = announced.control
    try:
        status = handles.lstat(announced.name)
    except (FileNotFoundError, NotADirectoryError):
        return Measured(announced=announced, status=Status.NO_SUCH_FILE, words="the data are not there yet")
    if control.checksum.tree:
        return _measure_tree(root, announced, status)
    if not stat.S_ISREG(status.st_mode):
        return Measured(announced=announced, status=Status.IO_ERROR, words="what is there is no regular file")
    if status.st_size != control.size:
        words = f"{status.st_size} bytes are there, {control.size} were announced"
        return Measured(announced=announced, status=Status.BAD_SIZE, words=words, size=status.st_size)
    above, _, last = announced.name.rpartition(b"/")
    handle = os.open(last, _OPEN, dir_fd=handles.get(above))
    try:
        digest, size = digests.of_file(handle, control.checksum.algorithm)
        identity = identity_of(os.fstat(handle))
    finally:
        os.close(handle)
    return _judged(announced, digest, size, identity, status.st_mtime_ns)


def _measure_tree(root: bytes, announced: Announced, status: os.stat_result) -> Measured:
    if not stat.S_ISDIR(status.st_mode):
        return Measured(announced=announced, status=Status.IO_ERROR, words="what is there is no directory")
    entries = manifest(root, announced.name)
    digest, size = digests.of_tree(root, announced.name, entries, announced.control.checksum.algorithm)
    return _judged(announced, digest, size, identity_of(status), status.st_mtime_ns)


def _judged(announced: Announced, digest: str, size: int, identity: Identity, mtime_ns: int) -> Measured:
    checksum = announced.control.checksum
    outcome, words = Status.OK, ""
    if digest != checksum.digest:
        outcome = Status.BAD_CHECKSUM
        words = f"its {checksum.algorithm} is {digest}, {checksum.digest} was announced"
    elif size != announced.control.size:
        outcome, words = Status.BAD_SIZE, f"{size} bytes are there, {announced.control.size} were announced"
    return Measured(
        announced=announced,
        status=outcome,
        words=words,
        size=size,
        digest=digest,
        identity=identity,
        tree=checksum.tree,
        mtime_ns=mtime_ns,
    )


@functools.lru_cache(maxsize=256)
def _owner(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def said_of(announced: Announced) -> tuple[int, str]:
    """Return what was said of it: size and checksum."""
    return announced.control.size, str(announced.control.checksum)

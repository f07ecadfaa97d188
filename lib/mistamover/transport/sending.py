"""One batch of small files on its way to a receiver: read under their leases, hashed, sent, answered."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import select
import time
from collections.abc import Iterator, Sequence

from mistamover.files.identity import DirectoryHandles, identity_of
from mistamover.model import Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport import receiver
from mistamover.transport.base import Guard
from mistamover.transport.channel import Channel, frame

#: Bytes that are gathered before they are written.
_CHUNK = 1 << 18

#: A file with fewer blocks than its size asks for has holes, which rsync keeps.  Below this size nobody minds.
_SPARSE_FROM = 64 * 1024

#: Seconds without any progress after which the far end counts as dead; and how long an attempt that is to end may last.
_STALLED = 60.0
_LAST_CALL = 2.0

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Sending:
    """One batch on its way through one channel."""

    def __init__(self, channel: Channel, source: bytes, guard: Guard, algorithm: str) -> None:
        """Given the channel, the stream's directory, the guard of the batch and the hash to use, be ready."""
        self._channel = channel
        self._handles = DirectoryHandles(source)
        self._guard = guard
        self._algorithm = algorithm
        self._new_hash = getattr(hashlib, algorithm)
        self._verdicts: dict[bytes, Verdict] = {}
        self._sent: list[tuple[Unit, str]] = []
        self._answers = b""
        self._directories: set[bytes] = set()
        self._given_up = False

    @property
    def clean(self) -> bool:
        """Whether the receiver has finished the batch and nothing half written can be left of it."""
        return len(self._answers) > len(self._sent) and receiver.DECLINED not in self._answers[:-1]

    @property
    def heard_out(self) -> bool:
        """Whether the receiver has finished the batch: nothing of it is still under way."""
        return len(self._answers) > len(self._sent)

    def run(self, units: Sequence[Unit], *, flush: bool) -> dict[bytes, Verdict]:
        """Given the units, send them; return, by name, the verdicts that could be reached."""
        with self._handles:
            whole = self._converse(iter(units), flush=flush)
        if whole:
            for (unit, digest), answer in zip(self._sent, self._answers, strict=False):
                if answer == receiver.DONE[0]:
                    self._verdicts[unit.name] = Confirmed(unit=unit, digest=digest, algorithm=self._algorithm)
        if self._given_up:
            for unit in units:
                if unit.name not in self._verdicts:
                    self._fail(unit, FaultClass.ABANDONED, "the attempt was ended because something else came first")
        return self._verdicts

    # -- the conversation ---------------------------------------------------------------------

    def _converse(self, waiting: Iterator[Unit], *, flush: bool) -> bool:
        """Send all and hear all; return whether the receiver has finished the batch, and well."""
        poll = select.poll()
        poll.register(self._channel.stdout, select.POLLIN)
        poll.register(self._guard.fileno(), select.POLLIN)
        deadline = self._guard.deadline()
        unsent = frame(receiver.BEGIN, mode=flush)
        more = True
        try:
            while more or unsent or len(self._answers) <= len(self._sent):
                if more and len(unsent) < _CHUNK:
                    parts, more = self._read(waiting)
                    unsent += parts
                unsent = self._write(unsent)
                poll.register(self._channel.stdin, select.POLLOUT if unsent else 0)
                patience = 0.0 if more and len(unsent) < _CHUNK else _STALLED
                ready = self._wait(poll, patience, deadline)
                if self._guard.fileno() in ready and not self._given_up:
                    deadline = self._guard.deadline()
                if self._channel.stdout in ready:
                    self._hear()
                if deadline is not None and time.monotonic() >= deadline:
                    if self._given_up:
                        raise TimeoutError
                    # Whoever wanted it may be content by now.
                    deadline = self._guard.deadline()
                    if deadline is None or time.monotonic() < deadline:
                        continue
                    # What was sent may still be confirmed; nothing more is read.
                    self._given_up = True
                    self._guard.read_enough()
                    poll.unregister(self._guard.fileno())
                    deadline = time.monotonic() + _LAST_CALL
                    unsent += frame(receiver.END) if more else b""
                    more = False
        except (BrokenPipeError, TimeoutError, EOFError):
            self._channel.end()
            return False
        return self._answers[-1:] == receiver.DONE

    def _wait(self, poll: select.poll, patience: float, deadline: float | None) -> set[int]:
        """Wait for what can be done next; return the descriptors. Raise TimeoutError when nothing moves any more."""
        limit = patience if deadline is None else min(patience, max(0.0, deadline - time.monotonic()))
        ready = {handle for handle, _ in poll.poll(1000 * limit)}
        if not ready and limit == _STALLED:
            raise TimeoutError
        return ready

    def _write(self, unsent: bytes) -> bytes:
        if not unsent:
            return unsent
        try:
            return unsent[os.write(self._channel.stdin, unsent) :]
        except BlockingIOError:
            return unsent

    def _hear(self) -> None:
        said = os.read(self._channel.stdout, 1 << 16)
        if not said:
            raise EOFError
        self._answers += said

    # -- what is sent -------------------------------------------------------------------------

    def _read(self, waiting: Iterator[Unit]) -> tuple[bytes, bool]:
        """Read files until there is enough to be written; return the frames, and whether more files may follow."""
        parts: list[bytes] = []
        size = 0
        for unit in waiting:
            if unit.kind is Kind.DIRECTORY:
                self._add_empty(unit, parts)
                continue
            content = self._content(unit, parts)
            if content is not None:
                parts.append(content)
                size += len(content)
                if size >= _CHUNK:
                    return b"".join(parts), True
        parts.append(frame(receiver.END))
        return b"".join(parts), False

    def _content(self, unit: Unit, parts: list[bytes]) -> bytes | None:
        """Read one file and add its frame; return the content that is to follow, or None if nothing is sent."""
        held = self._guard.handle(unit.name)
        try:
            handle = self._open(unit.name) if held is None else held
        except FileNotFoundError:
            self._fail(unit, FaultClass.VANISHED, "removed at the source before it was sent")
            return None
        except OSError:
            # rsync may be allowed more, and if not, it says why.
            return None
        try:
            status = os.fstat(handle)
            content = os.pread(handle, unit.identity.size + 1, 0)
        except OSError:
            return None
        finally:
            if held is None:
                os.close(handle)
        if identity_of(status) != unit.identity or len(content) != unit.identity.size:
            self._fail(unit, FaultClass.CHANGED, "changed while it was being sent")
            return None
        if len(content) >= _SPARSE_FROM and status.st_blocks * 512 < len(content):
            return None
        try:
            self._add_directories(unit.name.rpartition(b"/")[0], parts)
        except OSError:
            # A directory above it was renamed or replaced: rsync finds out what that means for the file.
            return None
        digest = self._new_hash(content)
        self._add_frame(receiver.FILE, unit.name, status, parts, size=len(content))
        parts.append(digest.digest())
        self._sent.append((unit, digest.hexdigest()))
        self._guard.sent(unit.name)
        return content

    def _add_empty(self, unit: Unit, parts: list[bytes]) -> None:
        """Add the frames of a directory that is sent for its own sake; its content goes for itself."""
        try:
            self._add_directories(unit.name.rpartition(b"/")[0], parts)
            self._add_frame(receiver.EMPTY, unit.name, os.fstat(self._handles.get(unit.name)), parts)
        except OSError:
            return
        self._sent.append((unit, ""))
        self._guard.sent(unit.name)

    def _open(self, name: bytes) -> int:
        return os.open(name.rpartition(b"/")[2], _OPEN, dir_fd=self._handles.get(name.rpartition(b"/")[0]))

    def _add_directories(self, name: bytes, parts: list[bytes]) -> None:
        """Tell the receiver once of every directory above a file, from the top down."""
        if not name or name in self._directories:
            return
        self._add_directories(name.rpartition(b"/")[0], parts)
        self._add_frame(receiver.DIRECTORY, name, os.fstat(self._handles.get(name)), parts)
        self._directories.add(name)

    def _add_frame(self, kind: int, name: bytes, status: os.stat_result, parts: list[bytes], *, size: int = 0) -> None:
        user, group = status.st_uid, status.st_gid
        if (receiver.USER, user) not in self._channel.known:
            self._introduce(receiver.USER, user, parts)
        if (receiver.GROUP, group) not in self._channel.known:
            self._introduce(receiver.GROUP, group, parts)
        mode, mtime = status.st_mode & 0o7777, status.st_mtime_ns
        parts.append(receiver.HEADER.pack(kind, len(name), size, mode, user, group, mtime) + name)

    def _introduce(self, kind: int, number: int, parts: list[bytes]) -> None:
        """Tell the receiver the name of a user or group, if it has one: numbers differ from host to host."""
        self._channel.known.add((kind, number))
        try:
            name = pwd.getpwuid(number).pw_name if kind == receiver.USER else grp.getgrgid(number).gr_name
        except KeyError:
            return
        parts.append(frame(kind, os.fsencode(name), user=number, group=number))

    def _fail(self, unit: Unit, fault: FaultClass, reason: str) -> None:
        self._verdicts[unit.name] = Failed(unit=unit, fault=fault, reason=reason)

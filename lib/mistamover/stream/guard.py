"""The leases of one batch, held while it travels.

A writer that comes meanwhile waits in `open` until we let go: at once when its file
has been read already, after a moment's grace when it may be read soon, and then
at the price of the attempt.  A file that lost its lease is never removed.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from mistamover.files import leases
from mistamover.files.closer import Closer
from mistamover.stream.rescue import Orphan

#: Seconds that a writer may be kept waiting for the batch that its file travels in.
GRACE = 0.25

#: Descriptors that are closed at once rather than by another thread, unless one is of a file of at least so many bytes:
#: closing a removed file of 10 GiB takes a second (measured), in which nothing else would be handed over.
_FEW = 16
_LARGE = 16 * 1024 * 1024


class LeaseGuard:
    """The stream's side of a delivery (see `transport.base.Guard`); shared by two threads."""

    def __init__(self, handles: dict[bytes, int]) -> None:
        """Given the descriptors that hold a lease, by name, take them over; `close` releases them."""
        self._handles = handles
        self._lock = threading.Lock()
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._pending: set[bytes] = set()
        self._sent: set[bytes] = set()
        self._lost: set[bytes] = set()
        self._reading = False
        self._deadline: float | None = None
        self.orphans: list[Orphan] = []
        self.sent_bytes = 0
        """Bytes of a single large file that have been sent."""

    def fileno(self) -> int:
        """See `Guard.fileno`."""
        return self._event

    def handle(self, name: bytes) -> int | None:
        """See `Guard.handle`; a descriptor is closed only after its file was sent, or with the guard."""
        return self._handles.get(name)

    def begin(self) -> None:
        """Take note that reading begins: until now a writer that came was let in at once."""
        with self._lock:
            self._reading = True

    def sent(self, name: bytes) -> None:
        """See `Guard.sent`."""
        with self._lock:
            self._sent.add(name)
            if name in self._pending:
                self._release(name)

    def read_enough(self) -> None:
        """See `Guard.read_enough`."""
        with self._lock:
            self._reading = False
            for name in list(self._pending):
                self._release(name)

    def progressed(self, size: int) -> None:
        """See `Guard.progressed`."""
        self.sent_bytes = size

    @property
    def sent_units(self) -> int:
        """How many units have been read to their end."""
        return len(self._sent)

    def deadline(self) -> float | None:
        """See `Guard.deadline`."""
        with self._lock:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._event)
            return self._deadline

    def breaking(self) -> None:
        """Look for writers that wait for one of the leases, and let in those that need not wait."""
        with self._lock:
            for name, handle in list(self._handles.items()):
                if leases.held(handle):
                    continue
                self._pending.add(name)
                if name in self._sent or not self._reading:
                    self._release(name)
            if self._pending:
                self._set_deadline(time.monotonic() + GRACE)

    def replaced(self, name: bytes) -> None:
        """Given a name that belongs to another file now, ask for the end of the attempt unless it was read before."""
        with self._lock:
            if name in self._handles and name not in self._sent:
                self._set_deadline(time.monotonic())

    def give_up(self) -> None:
        """Ask for the end of the attempt now."""
        with self._lock:
            self._set_deadline(time.monotonic())

    def intact(self, name: bytes) -> bool:
        """Tell whether no writer has come to `name` since its lease was taken, or it never had one."""
        with self._lock:
            if name in self._lost:
                return False
            handle = self._handles.get(name)
            return handle is None or leases.held(handle)

    def orphaned(self, name: bytes) -> None:
        """Given a name that was removed just now, keep its file if a writer came in that very moment; see `rescue`."""
        with self._lock:
            handle = self._handles.get(name)
            if handle is not None and not leases.held(handle):
                self.orphans.append(Orphan(name=name, handle=self._handles.pop(name)))

    def release_waiting(self) -> None:
        """Let in every writer that waits: the attempt is over."""
        with self._lock:
            for name in list(self._pending):
                self._release(name)

    def close(self, closer: Closer | None = None) -> None:
        """Release every lease, and close the descriptors: here, or by the given closer where that may take a while."""
        with self._lock:
            handles = list(self._handles.values())
            self._handles.clear()
            if self._event >= 0:
                os.close(self._event)
                self._event = -1
        if closer is None or (len(handles) < _FEW and not any(map(_large, handles))):
            for handle in handles:
                os.close(handle)
            return
        closer.close(handles)

    def _release(self, name: bytes) -> None:
        handle = self._handles.pop(name, None)
        if handle is not None:
            os.close(handle)
        self._pending.discard(name)
        self._lost.add(name)
        if not self._pending:
            self._deadline = None

    def _set_deadline(self, when: float) -> None:
        if self._deadline is None or when < self._deadline:
            self._deadline = when
            os.eventfd_write(self._event, 1)


def _large(handle: int) -> bool:
    return os.fstat(handle).st_size >= _LARGE

"""The connections to one far end: as many as are in use at a time, each opened when it is needed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from mistamover.errors import LinkError, TransportError
from mistamover.transport.far import FarFiles, FarRefusal, Means

#: Connections that are kept although nobody uses them.
_KEPT = 3


class Connection:
    """One connection that stands, and what it was found to be able to do."""

    def __init__(self, far: FarFiles, means: Means) -> None:
        self.far = far
        self.means = means


class Pool:
    """Lends connections; one that failed is not lent again."""

    def __init__(self, make: Callable[[], FarFiles]) -> None:
        """Given what makes an object that is not connected, connect to nothing yet."""
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._all: set[FarFiles] = set()
        self._aborted = 0

    @contextlib.contextmanager
    def lend(self) -> Iterator[Connection]:
        """Lend a connection for the length of the block. Raise LinkError or TargetError if there can be none.

        A name that was refused says nothing about the connection; any other exception ends it.
        """
        connection = self._take()
        try:
            yield connection
        except FarRefusal:
            self._give_back(connection)
            raise
        except TransportError as error:
            self._drop(connection)
            if isinstance(error, LinkError):
                # Where one was lost the others that stood idle are seldom any better.
                self.close()
            raise
        except BaseException:
            self._drop(connection)
            raise
        self._give_back(connection)

    def lost(self, connection: Connection) -> None:
        """Given a connection that is lent and was found to be lost, end it and all that stand idle."""
        self._drop(connection)
        self.close()

    def abort(self) -> None:
        """Cut every connection, whoever uses it."""
        with self._lock:
            self._aborted += 1
            everyone = list(self._all)
            self._idle.clear()
        for far in everyone:
            far.abort()

    def close(self) -> None:
        """End every connection that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self._drop(connection)

    def _take(self) -> Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            far = self._make()
            self._all.add(far)
            before = self._aborted
        try:
            means = far.connect()
            if self._aborted != before:
                raise LinkError("the connection was cut")
        except BaseException:
            self._forget(far)
            raise
        return Connection(far, means)

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if connection.far in self._all and len(self._idle) < max(_KEPT, connection.means.side_by_side):
                self._idle.append(connection)
                return
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self._forget(connection.far)

    def _forget(self, far: FarFiles) -> None:
        with self._lock:
            self._all.discard(far)
        far.close()

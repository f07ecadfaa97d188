"""Temporary names of jobs at endpoints: how they are made, and how those are removed that a dead worker left.

Before the first one is made in a directory, the directory is written down here, so that it is found after a crash.  A
name tells which installation, which process of it and which job it belongs to.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from pathlib import Path

from mistamover.errors import JobRefused, TransportError
from mistamover.files.durable import write_whole
from mistamover.files.names import MARK, display
from mistamover.jobs.transfer.places import Places, Visit
from mistamover.transport.far import FarRefusal

logger = logging.getLogger(__name__)

#: Directories that are remembered although nothing is being written there: most jobs need one of them again.
_KEPT = 256

_PREFIX = "trace-"


class Traces:
    """Where this process writes under temporary names; used by several threads."""

    def __init__(self, directory: Path, owner: str = "") -> None:
        """Given a private directory here, and what tells this installation from all others (default: the host and that
        directory), know of what predecessors wrote down.
        """
        self._directory = directory
        whole = owner or f"{socket.gethostname()} {directory}"
        self._owner = MARK + b"-" + hashlib.blake2b(os.fsencode(whole), digest_size=6).hexdigest().encode() + b"-"
        self._session = os.urandom(4).hex().encode()
        self._lock = threading.Lock()
        self._used: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._unclean = {path.name for path in directory.glob(f"{_PREFIX}*")}

    def name(self, final: bytes, job: str, seq: int) -> bytes:
        """Given a final name and the item of a job, return the temporary one beside it."""
        above, slash, _ = final.rpartition(b"/")
        return above + slash + self._owner + self._session + f"-{job}-{seq}".encode()

    @contextlib.contextmanager
    def beside(self, visit: Visit, final: bytes, job: str, seq: int) -> Iterator[bytes]:
        """Given a connection, a final name and the item of a job, yield the temporary name beside it.

        Nothing has that name when the block is entered, and it is removed again if something is left under it.
        Raise TransportError, OSError.
        """
        endpoint = visit.place.settings.name
        directory = final.rpartition(b"/")[0]
        temporary = self.name(final, job, seq)
        note = self._begin(endpoint, directory)
        clean = False
        try:
            yield temporary
            clean = True
        except FarRefusal:
            with contextlib.suppress(TransportError):
                visit.far.remove(temporary)
                clean = True
            raise
        finally:
            if not clean:
                clean = _removed(visit, temporary)
            self._end(endpoint, directory, note, clean=clean)

    def clean(self, places: Places, busy: Collection[str]) -> int:
        """Given the endpoints, and the ids of jobs that are under way in this process, remove what dead ones left.

        Return how many names were removed.  Endpoints that cannot be reached are tried again the next time.
        """
        removed = 0
        with self._lock:
            notes = sorted(self._unclean)
        for note in notes:
            path = self._directory / note
            try:
                found = json.loads(path.read_text())
                endpoint, directory = str(found["endpoint"]), bytes.fromhex(found["directory"])
            except FileNotFoundError:
                endpoint, directory = "", b""
            except (OSError, ValueError, KeyError) as error:
                logger.warning("%s says nothing that can be read: %s", path, error)
                endpoint, directory = "", b""
            if endpoint:
                try:
                    removed += self._clean(places, endpoint, directory, busy)
                except JobRefused as error:
                    logger.info("what a job may have left cannot be looked for: %s", error)
                    continue
                except TransportError as error:
                    logger.info("%s: what a job may have left is looked for later: %s", endpoint, error)
                    continue
            with self._lock:
                self._unclean.discard(note)
                if (endpoint, directory) not in self._used:
                    path.unlink(missing_ok=True)
        return removed

    # -- inside -------------------------------------------------------------------------------

    def _clean(self, places: Places, endpoint: str, directory: bytes, busy: Collection[str]) -> int:
        removed = 0
        with places.of(endpoint).lend() as visit:
            try:
                names = visit.far.names(directory)
            except FarRefusal:
                return 0
            for name in names:
                if not name.startswith(self._owner):
                    continue
                session, _, rest = name[len(self._owner) :].partition(b"-")
                job = rest.rpartition(b"-")[0].decode("ascii", "replace")
                if session == self._session and job in busy:
                    continue
                with contextlib.suppress(FarRefusal):
                    visit.far.remove(directory + b"/" + name if directory else name)
                    removed += 1
                    logger.info("%s: removed %s, which a job had left", endpoint, display(name))
        return removed

    def _begin(self, endpoint: str, directory: bytes) -> str:
        key = (endpoint, directory)
        note = _PREFIX + hashlib.blake2b(repr(key).encode(), digest_size=12).hexdigest()
        with self._lock:
            if key not in self._used:
                content = json.dumps({"endpoint": endpoint, "directory": directory.hex()})
                write_whole(self._directory / note, content.encode())
            self._used[key] = self._used.get(key, 0) + 1
            self._used.move_to_end(key)
        return note

    def _end(self, endpoint: str, directory: bytes, note: str, *, clean: bool) -> None:
        with self._lock:
            self._used[endpoint, directory] -= 1
            if not clean:
                self._unclean.add(note)
            if len(self._used) > _KEPT:
                self._forget_some()

    def _forget_some(self) -> None:
        """Forget the directories that were not needed for the longest time."""
        for key in [key for key, uses in self._used.items() if not uses][: len(self._used) - _KEPT]:
            del self._used[key]
            note = _PREFIX + hashlib.blake2b(repr(key).encode(), digest_size=12).hexdigest()
            if note not in self._unclean:
                (self._directory / note).unlink(missing_ok=True)


def _removed(visit: Visit, temporary: bytes) -> bool:
    """Remove what stands under a temporary name, over another connection if need be; tell whether that is done."""
    try:
        with visit.place.lend() as other:
            other.far.remove(temporary)
    except TransportError:
        return False
    return True

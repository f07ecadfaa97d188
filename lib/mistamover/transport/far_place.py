"""What is ours at a far end: temporary names, our own place, and the cleaning of both after a crash.

Small files are written beside their final names, so that they inherit what their directory gives (a group, an access
list) and are renamed within one filesystem.  Their directories are kept in a file here, so that what a crash leaves is
found.  What can be resumed, and directory units, lie in our own place, `.mistamover/OWNER`.

In our place `r-...` is a large file that may be resumed, `u-...` a directory unit that is being built, and `o-...`
holds a directory unit that is being replaced: should we be killed in that moment, it is put back.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from mistamover.files.names import MARK, base, display, parent
from mistamover.model import Kind, Unit
from mistamover.transport.far import FarFiles, FarRefusal, Means
from mistamover.transport.leftovers import Leftovers

logger = logging.getLogger(__name__)

#: Seconds after which half a large file is not kept any longer.
_RESUMABLE = 7 * 86400


class Place:
    """Our names at one target."""

    def __init__(self, owner: str, run_dir: Path, *, keep_extra: bool) -> None:
        """Given a name at the target that is ours alone, a private directory here, and whether a directory unit keeps
        what a newer one does not hold, be ready.
        """
        self.path = MARK + b"/" + os.fsencode(owner)
        self._keep_extra = keep_extra
        self._run_dir = run_dir
        # Whoever had our name before us may still have an order on its way: it must not find what we are writing.
        self._session = os.urandom(4).hex().encode()
        self._ours = MARK + b"-" + hashlib.blake2b(os.fsencode(owner), digest_size=6).hexdigest().encode() + b"-"
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._cleaning = threading.Lock()
        self._live: set[bytes] = set()
        self._dead: list[bytes] = []
        self._noted: set[bytes] = set()
        self._unclean: set[bytes] = set()
        self._records: list[Path] = []
        self._made = False
        self._cleaned = False
        self._leftovers: Leftovers | None = None

    # -- names --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def beside(self, final: bytes) -> Iterator[bytes]:
        """Given a final name, yield an unused one in its directory, which is ours for the length of the block."""
        above, slash, _ = final.rpartition(b"/")
        name = above + slash + self._ours + self._unused()
        self._live.add(name)
        try:
            yield name
        finally:
            self._live.discard(name)

    def resumable(self, unit: Unit) -> bytes:
        """Given a large file, return the name in our place under which its content, and no other, is gathered."""
        identity = hashlib.blake2b(repr(tuple(unit.identity)).encode(), digest_size=8).hexdigest()
        return self.path + f"/r-{unit.key()}-{identity}".encode()

    def inside(self, kind: bytes) -> bytes:
        """Given `u` or `o`, return an unused name in our place."""
        return self.path + b"/" + kind + b"-" + self._unused()

    def _unused(self) -> bytes:
        return self._session + b"-%x" % next(self._numbers)

    # -- what is under way --------------------------------------------------------------------

    def begin(self, names: Iterable[bytes]) -> frozenset[bytes]:
        """Given names beside which something is going to be written, remember where; return what `end` takes.

        A directory is written down when it is met first, and stays so until `close`: most batches cost nothing here.
        """
        directories = frozenset(map(parent, names))
        with self._lock:
            new = directories - self._noted
            if new:
                self._records.append(self._book().begin(sorted(new), durable=True))
                self._noted |= new
        return directories

    def end(self, batch: frozenset[bytes], *, clean: bool) -> None:
        """Given a batch that is over, and whether nothing of it can be left, have it looked for if something can."""
        if not clean:
            with self._lock:
                self._unclean |= batch

    def close(self) -> None:
        """Forget where something was written, unless something may be left there."""
        with self._lock:
            if not self._unclean:
                for record in self._records:
                    self._book().end(record)
                self._records.clear()
                self._noted.clear()

    def make(self, far: FarFiles, means: Means) -> None:
        """Make sure that our place is there."""
        if means.directories:
            far.make_directory(MARK)
            far.make_directory(self.path)
        self._made = True

    def forget(self, path: bytes) -> None:
        """Given what could not be removed in our place, remember to remove it before anything else is sent."""
        with self._cleaning:
            self._dead.append(path)

    # -- cleaning -----------------------------------------------------------------------------

    def clean(self, far: FarFiles, means: Means) -> None:
        """Remove what batches that ended badly left, this process's and its predecessors'."""
        if self._cleaned and not self._dead and not self._unclean:
            return
        with self._cleaning:
            if not self._cleaned:
                self._clean_place(far, means)
                for record, directories in self._book().found():
                    for directory in directories:
                        self._clean_directory(far, directory)
                    self._book().end(record)
                self._cleaned = True
            while self._dead:
                self._settle(far, self._dead[-1])
                self._dead.pop()
            for directory in sorted(self._unclean):
                self._clean_directory(far, directory)
                with self._lock:
                    self._unclean.discard(directory)

    def leave(self, far: FarFiles, means: Means) -> None:
        """Leave nothing of ours at the target: nothing is half sent."""
        if not self._made:
            return
        for name in names_in(far, self.path):
            self._settle(far, self.path + b"/" + name)
        if means.directories:
            for path in (self.path, MARK):
                with contextlib.suppress(FarRefusal):
                    far.remove_directory(path)
        self._made = False

    def _clean_place(self, far: FarFiles, means: Means) -> None:
        if means.directories and far.look(self.path) is None:
            return
        for name in names_in(far, self.path):
            self._made = True
            path = self.path + b"/" + name
            if name.startswith(b"r-"):
                there = far.look(path)
                if there is not None and there.mtime and time.time() - there.mtime < _RESUMABLE:
                    continue
            self._settle(far, path)

    def _settle(self, far: FarFiles, path: bytes) -> None:
        """Given something in our place that nobody needs, remove it; a directory unit that was put aside goes back."""
        try:
            if base(path).startswith(b"o-"):
                for name in names_in(far, path):
                    put_back(far, path + b"/" + name, name, merge=self._keep_extra)
            remove_all(far, path)
        except FarRefusal as error:
            # It is in nobody's way; to send nothing because of it would be worse.
            logger.warning("%s of ours cannot be removed at the target: %s", display(path), error)

    def _clean_directory(self, far: FarFiles, directory: bytes) -> None:
        for name in names_in(far, directory):
            path = directory + b"/" + name if directory else name
            if name.startswith(self._ours) and path not in self._live:
                self._settle(far, path)

    def _book(self) -> Leftovers:
        if self._leftovers is None:
            self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._leftovers = Leftovers(self._run_dir)
        return self._leftovers


def names_in(far: FarFiles, directory: bytes) -> list[bytes]:
    """Given a directory, return the names in it; none if there is no such directory."""
    try:
        return far.names(directory)
    except FarRefusal:
        return []


def remove_all(far: FarFiles, path: bytes) -> None:
    """Given anything of ours, remove it with all that it holds."""
    there = far.look(path)
    if there is None:
        return
    if there.kind is not Kind.DIRECTORY:
        far.remove(path)
        return
    for name in far.names(path):
        remove_all(far, path + b"/" + name)
    far.remove_directory(path)


def put_back(far: FarFiles, old: bytes, final: bytes, *, merge: bool) -> set[bytes]:
    """Given what was put aside and its final name, put it back there; where a newer one has the name, with `merge`,
    let it take over what it does not hold itself.  Return the directories that were changed by that.
    """
    there = far.look(final)
    if there is None:
        far.rename(old, final)
        return {parent(final)}
    before = far.look(old)
    if not merge or there.kind is not Kind.DIRECTORY or before is None or before.kind is not Kind.DIRECTORY:
        return set()
    changed: set[bytes] = set()
    for name in far.names(old):
        changed |= put_back(far, old + b"/" + name, final + b"/" + name, merge=True)
    return changed

"""A local directory for jobs: content that is in no file, names that are taken only if free, and where links lead."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace

from mistamover.files import leases
from mistamover.files.durable import begin_writing
from mistamover.files.identity import identity_of
from mistamover.files.names import display
from mistamover.model import Identity, Writers
from mistamover.transport.far import FarRefusal, Means, NameTaken, Pieces
from mistamover.transport.local import CHUNK, STRIDE, WRITE, LocalFiles, Refusing, write_all


class NotTheSame(FarRefusal):
    """What has a name is not what was to be removed."""


class BeingWritten(FarRefusal):
    """A program has a file open for writing."""


class StreamingLocal(LocalFiles):
    """See `far.StreamingFiles`, `far.ExclusiveFiles` and `far.ResolvingFiles`."""

    def connect(self) -> Means:
        """See `FarFiles.connect`."""
        return replace(super().connect(), pieces=True, exclusive=True, resolves=True)

    def write_from(self, path: bytes, pieces: Pieces, size: int, told: Callable[[int], None]) -> None:
        """See `StreamingFiles.write_from`."""
        handle = self._opened_for_writing(path, WRITE | os.O_TRUNC)
        position = 0
        while position < size and (piece := pieces.piece(min(CHUNK, size - position), position)):
            with Refusing(path):
                write_all(handle, piece, position)
            if (position + len(piece)) // STRIDE > position // STRIDE:
                begin_writing(handle, 0, position)
            position += len(piece)
            told(position)
            self._go_on()
        if not position:
            told(0)

    @contextlib.contextmanager
    def directory(self, path: bytes) -> Iterator[int]:
        """Given a path, yield a descriptor of the directory that it is in, good for as long as the block."""
        above, _ = self._split(path)
        handle = os.dup(above)
        try:
            yield handle
        finally:
            os.close(handle)

    def read_from(self, path: bytes, offset: int) -> Iterator[bytes]:
        """See `StreamingFiles.read_from`; unlike what is read to prove something, it may come from memory."""
        with self.opened(path) as handle:
            while True:
                with Refusing(path):
                    piece = os.pread(handle, CHUNK, offset)
                if not piece:
                    return
                yield piece
                offset += len(piece)

    def rename_new(self, old: bytes, new: bytes) -> None:
        """See `ExclusiveFiles.rename_new`."""
        self.hard_link(old, new)
        self.remove(old)
        self._let_go()

    def hard_link(self, old: bytes, new: bytes) -> None:
        """See `ExclusiveFiles.hard_link`."""
        self._go_on()
        from_above, from_last = self._split(old)
        to_above, to_last = self._split(new)
        with Refusing(new):
            try:
                os.link(from_last, to_last, src_dir_fd=from_above, dst_dir_fd=to_above, follow_symlinks=False)
            except FileExistsError:
                raise NameTaken(f"there is something of the name {display(new)} already") from None

    def identity(self, path: bytes) -> Identity | None:
        """Given a path, return what has it, links not followed; None if nothing has. Raise FarRefusal."""
        above, last = self._split(path)
        with Refusing(path):
            try:
                return identity_of(os.stat(last, dir_fd=above, follow_symlinks=False))
            except FileNotFoundError:
                return None

    def remove_same(self, path: bytes, identity: Identity) -> None:
        """Given a path and what must have it, remove that and nothing else; no writer can open it meanwhile.

        Raise NotTheSame; BeingWritten, where the kernel tells; FarRefusal.  See `files.leases`: who calls this hears
        their breaks.
        """
        above, last = self._split(path)
        with Refusing(path), contextlib.ExitStack() as stack:
            if stat.S_ISREG(os.stat(last, dir_fd=above, follow_symlinks=False).st_mode):
                handle, writers = leases.take(last, dir_fd=above)
                stack.callback(os.close, handle)
                if writers is Writers.SOME:
                    raise BeingWritten(f"a program has {display(path)} open for writing")
            if identity_of(os.stat(last, dir_fd=above, follow_symlinks=False)) != identity:
                raise NotTheSame(f"{display(path)} is not the same any more")
            os.unlink(last, dir_fd=above)

    def real_path(self, path: bytes) -> bytes | None:
        """See `ResolvingFiles.real_path`."""
        # A connection is kept for long, and a directory may be another one by now: it is found by its name again.
        self._handles.close()
        with Refusing(path):
            try:
                return os.path.realpath(self._directory + b"/" + path, strict=True)
            except (FileNotFoundError, NotADirectoryError):
                return None

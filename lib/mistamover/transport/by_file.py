"""A whole transport on top of any `FarFiles`: what every protocol needs that only holds files at the far end.

The work is done by the modules whose names begin with `far_`; here is the contract (see `Transport` and
`MessagingTransport`), connection by connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mistamover.config.settings import StreamSettings, TargetSettings, TransferMode, Verify
from mistamover.errors import LinkError, TargetError
from mistamover.model import Batch, Kind, Unit, Verdict
from mistamover.transport.base import Capabilities, Guard, Zip
from mistamover.transport.far import FarFiles, FarRefusal, Means
from mistamover.transport.far_batch import BatchRun
from mistamover.transport.far_place import Place
from mistamover.transport.far_pool import Connection, Pool
from mistamover.transport.far_source import Source
from mistamover.transport.far_trees import Tree
from mistamover.transport.far_writing import Writing
from mistamover.transport.far_zips import ZipWriting

logger = logging.getLogger(__name__)

_PROBE = b"mistamover" * 400


class ByFile:
    """One target of one stream, of which nothing is asked but to hold files."""

    def __init__(
        self,
        make: Callable[[], FarFiles],
        *,
        source: bytes,
        target: TargetSettings,
        run_dir: Path,
        owner: str,
        keep_extra: bool,
    ) -> None:
        """Given what makes connections, the stream's directory, the target, a private directory here, and a name that
        is ours alone at the target, connect to nothing yet.

        `keep_extra`: a directory unit that is at the target already keeps what the new one does not hold.
        """
        self._source = source
        self._target = target
        self._keep_extra = keep_extra
        self._pool = Pool(make)
        self._place = Place(owner, run_dir, keep_extra=keep_extra)
        self._told = ""

    # -- the connection -----------------------------------------------------------------------

    def open(self) -> Capabilities:
        """See `Transport.open`."""
        with self._pool.lend() as connection:
            self._place.clean(connection.far, connection.means)
            means = connection.means
            far = connection.far
            far.look(os.fsencode(self._target.stop_file or ".stop"))
        missing = _missing(means, self._target)
        description = "; ".join((means.description, *missing))
        if self._told != description:
            self._told = description
            logger.info("%s: %s", self._target.name, description)
        return Capabilities(
            description=description,
            trees=means.directories and means.rename,
            removal=means.removal,
            ways=means.ways(),
        )

    def suspended(self) -> bool:
        """See `Transport.suspended`."""
        with self._pool.lend() as connection:
            # Asked for even where no stop file is agreed on: it shows whether the target is still there.
            there = connection.far.look(os.fsencode(self._target.stop_file or ".stop"))
            return bool(self._target.stop_file) and there is not None

    def abort(self) -> None:
        """See `Transport.abort`."""
        self._pool.abort()

    def close(self, *, finished: bool) -> None:
        """See `Transport.close`."""
        if finished:
            with contextlib.suppress(LinkError, TargetError), self._pool.lend() as connection:
                self._place.clean(connection.far, connection.means)
                self._place.leave(connection.far, connection.means)
        self._place.close()
        self._pool.close()

    def probe(self) -> None:
        """See `Transport.probe`."""
        with self._pool.lend() as connection:
            self._need_room(connection.far)
            far, means = connection.far, connection.means
            note = self._place.begin([b"probe"])
            with self._place.beside(b"probe") as first, self._place.beside(b"probe") as last:
                name = first
                try:
                    try:
                        _write(far, first, _PROBE)
                        if means.flush:
                            far.flush([first])
                        if means.rename:
                            far.rename(first, last)
                            name = last
                    finally:
                        far.remove(name)
                except BaseException:
                    # Whether it was renamed, or removed, is not known when an answer is lost.
                    self._place.end(note, clean=False)
                    raise

    def _need_room(self, far: FarFiles) -> None:
        if not self._target.reserve:
            return
        free = far.free()
        if free is not None and free <= self._target.reserve:
            kept = self._target.reserve >> 20
            raise TargetError(
                f"{self._target.host}: {free >> 20} MiB are free in {self._target.directory}, and {kept} are to stay"
                " free (target_reserve)"
            )

    # -- deliveries ---------------------------------------------------------------------------

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `Transport.deliver`."""
        return self._deliver(batch, guard, flush=True)

    def deliver_unflushed(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `MessagingTransport.deliver_unflushed`."""
        return self._deliver(batch, guard, flush=False)

    def _deliver(self, batch: Batch, guard: Guard, *, flush: bool) -> list[Verdict]:
        with Source(self._source, guard) as source, self._pool.lend() as connection:
            self._place.clean(connection.far, connection.means)
            self._need_room(connection.far)
            writing = self._writing(connection, source, guard, alone=len(batch.units) == 1)
            run = BatchRun(batch.units, flush=flush, tree=self._tree)
            note = self._place.begin(unit.name for unit in batch.units)
            helpers = run.helpers(connection.means.side_by_side)
            try:
                return run.run(writing, source, [lambda: self._help(run, guard, writing)] * helpers)
            except LinkError as error:
                verdicts = run.lost(error, flushes=connection.means.flush)
                # What is confirmed stays confirmed, so nothing is raised.
                self._pool.lost(connection)
                return verdicts
            finally:
                self._place.end(note, clean=run.clean)

    def _help(self, run: BatchRun, guard: Guard, first: Writing) -> None:
        """Take part in a batch over a connection of its own."""
        with Source(self._source, guard) as source, self._pool.lend() as connection:
            run.help(self._writing(connection, source, guard, alone=False, beside=first), source)

    def _tree(self, unit: Unit, writing: Writing, source: Source) -> Verdict:
        return Tree(writing, source=source, place=self._place, keep_extra=self._keep_extra).deliver(unit)

    def deliver_zip(self, made: Zip, guard: Guard) -> Verdict:
        """See `Transport.deliver_zip`."""
        with Source(os.path.dirname(made.path), guard) as source, self._pool.lend() as connection:
            self._place.clean(connection.far, connection.means)
            self._need_room(connection.far)
            note = self._place.begin(made.names[:1])
            clean = False
            try:
                writing = self._writing(connection, source, guard, alone=True)
                verdict = ZipWriting(writing).deliver(made)
                clean = True
            finally:
                self._place.end(note, clean=clean)
        return verdict

    def _writing(
        self, connection: Connection, source: Source, guard: Guard, *, alone: bool, beside: Writing | None = None
    ) -> Writing:
        return Writing(
            connection.far,
            connection.means,
            source,
            guard=guard,
            target=self._target,
            place=self._place,
            alone=alone,
            beside=beside,
        )

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        """See `Transport.remove`."""
        gone = []
        with self._pool.lend() as connection:
            for name in names:
                # What may not be removed, or a directory that others still use, stays: it is not among those gone.
                with contextlib.suppress(FarRefusal):
                    there = connection.far.look(name)
                    if there is not None and there.kind is Kind.DIRECTORY:
                        connection.far.remove_directory(name)
                    elif there is not None:
                        connection.far.remove(name)
                    gone.append(name)
        return gone

    # -- messages -----------------------------------------------------------------------------

    def put(self, files: Mapping[bytes, bytes]) -> None:
        """See `Messenger.put`."""
        with self._pool.lend() as connection:
            far, means = connection.far, connection.means
            note = self._place.begin(files)
            for name, content in files.items():
                if not means.rename:
                    _write(far, name, content)
                    continue
                with self._place.beside(name) as temporary:
                    try:
                        _write(far, temporary, content)
                        far.rename(temporary, name)
                    except BaseException:
                        self._place.end(note, clean=False)
                        raise

    def fetch(self, names: Sequence[bytes], longest: int, patience: float) -> dict[bytes, bytes]:
        """See `Messenger.fetch`; nobody waits here."""
        found = {}
        with self._pool.lend() as connection:
            for name in names:
                with contextlib.suppress(FarRefusal):
                    there = connection.far.look(name)
                    if there is not None and there.kind is Kind.FILE and there.size <= longest:
                        content = b"".join(connection.far.read(name))
                        if len(content) <= longest:
                            found[name] = content
        return found


def _write(far: FarFiles, path: bytes, content: bytes) -> None:
    """Given a small content of ours, write it to a name at the far end."""
    handle = os.memfd_create("mistamover", os.MFD_CLOEXEC)
    try:
        os.write(handle, content)
        far.write(path, handle, len(content), 0, lambda _: None)
    finally:
        os.close(handle)


def _missing(means: Means, target: TargetSettings) -> list[str]:
    """Given what a far end can do, return in words what it cannot, and what is done about that."""
    words = []
    if not means.hashes and target.verify is Verify.CONTENT:
        words.append("it cannot hash: each file is read back and compared")
    elif not means.hashes:
        words.append("it cannot hash, and verify = size: only sizes are compared")
    if not means.flush:
        words.append("it cannot be asked to flush: it is trusted to keep what it has taken")
    if not means.rename:
        words.append("it cannot rename: files are written under their final names, which it shows when they are whole")
    if not means.directories:
        words.append("it has no directories: directory units travel as zips, empty directories do not arrive")
    if not means.links:
        words.append("it has no symbolic links: they are refused")
    if not means.attributes:
        words.append("modes and times are not kept")
    if not means.removal:
        words.append("nothing can be removed there")
    return words


def make(files: Callable[[], FarFiles], stream: StreamSettings, target: TargetSettings, owner: str) -> ByFile:
    """Given what makes connections, and the arguments of `registry.Maker`, return the transport."""
    return ByFile(
        files,
        source=os.fsencode(stream.directory),
        target=target,
        run_dir=stream.state_dir / "run",
        owner=owner,
        keep_extra=stream.mode is TransferMode.MOVE or not stream.mirror_delete,
    )

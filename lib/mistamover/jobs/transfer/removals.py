"""Items that are to be removed: files, and directories where that was said."""

from __future__ import annotations

import contextlib

from mistamover.errors import JobRefused, TransportError
from mistamover.jobs import paths
from mistamover.jobs.model import Item, ItemState
from mistamover.jobs.transfer import copying
from mistamover.jobs.transfer.context import Context, Tell
from mistamover.jobs.transfer.expanding import walk
from mistamover.jobs.transfer.faults import Trouble
from mistamover.jobs.transfer.item_sources import visited
from mistamover.model import FaultClass, Kind


def remove(item: Item, context: Context, tell: Tell, *, recursive: bool) -> None:
    """Given an item, remove what is there; what is gone already is fine. Raise Trouble, and what `tell` does."""
    location = item.source.location
    assert location is not None

    def go_on() -> None:
        tell(item.seq, ItemState.TRANSFERRING, 0, item.size)

    go_on()
    with visited(location.endpoint, context) as visit:
        name = visit.real(location.path)
        there = visit.far.look(name)
        if there is None:
            return
        if not visit.means.removal:
            raise Trouble(FaultClass.REFUSED, "nothing can be removed at this endpoint", final=True)
        if there.kind is not Kind.DIRECTORY:
            visit.far.remove(name)
            copying.flush_entry(visit, name)
            return
        if not recursive:
            words = f"{paths.shown(location.path)} is a directory: it is removed only with the option recursive"
            raise Trouble(FaultClass.REFUSED, words, final=True)
        below = []
        for path, kind in walk(visit, location.path):
            go_on()
            below.append((path, kind))
        # What is in a directory came behind it.
        for path, kind in reversed(below):
            go_on()
            inner = visit.real(paths.joined(location.path, path))
            if kind is Kind.DIRECTORY:
                visit.far.remove_directory(inner)
            else:
                visit.far.remove(inner)
        visit.far.remove_directory(name)
        copying.flush_entry(visit, name)


def remove_shelf(item: Item, context: Context) -> None:
    """Given an item that is an object no more where it was, remove the directory that an archive had made for it alone.

    What else is in there stays, and nothing depends on it.
    """
    location = item.source.location
    if location is None or not item.object_id or paths.parent(location.path) != item.object_id:
        return
    with contextlib.suppress(Trouble, TransportError, JobRefused), visited(location.endpoint, context) as visit:
        if visit.means.directories:
            visit.far.remove_directory(visit.real(item.object_id))

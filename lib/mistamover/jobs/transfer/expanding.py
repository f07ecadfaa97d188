"""Items that stand for several: directories with all they hold, and names with wildcards, at any endpoint.

Links are never followed, nor copied.  What an item stands for is written down once, in the store, before any of it is
done; a later attempt goes by that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from mistamover.files.names import is_ours
from mistamover.jobs import paths
from mistamover.jobs.model import Item, ItemState, Location, NewItem, Source
from mistamover.jobs.transfer.context import Context, Tell
from mistamover.jobs.transfer.faults import Trouble
from mistamover.jobs.transfer.item_sources import is_web, visited
from mistamover.jobs.transfer.places import Visit
from mistamover.jobs.transfer.transfers import target_of
from mistamover.model import FaultClass, Kind
from mistamover.transport.far import FarRefusal


def expanded(item: Item, context: Context, tell: Tell) -> list[NewItem] | None:
    """Given an item, return what it stands for; None if that is a file, or whatever else is no directory.

    Raise Trouble, JobRefused, and what `tell` does.
    """
    location = item.source.location
    if location is None or item.target is None or is_web(location, context):
        return None

    def go_on() -> None:
        tell(item.seq, ItemState.STAGING, 0, item.size)

    go_on()
    with visited(location.endpoint, context) as visit:
        there = visit.look(location.path) if location.path else None
        if there is None and location.path:
            if not paths.has_wildcards(location.path):
                return None  # which is said by who opens it
            found = [_matched(item, path) for path in _matching(visit, location.path)]
            if not found:
                words = f"{paths.shown(location.path)}: nothing has such a name"
                raise Trouble(FaultClass.VANISHED, words, final=True)
            return found
        if there is not None and there.kind is not Kind.DIRECTORY:
            return None
        files = [path for path, kind in _walked(visit, location.path, go_on, context) if kind is Kind.FILE]
    with visited(item.target.endpoint, context) as visit:
        top = target_of(item, visit, paths.base_name(location.path))
    if top.endpoint == location.endpoint and paths.is_inside(top.path, location.path):
        raise Trouble(FaultClass.REFUSED, "a directory cannot be copied into itself", final=True)
    return [
        NewItem(
            source=Source(location=replace(location, path=paths.joined(location.path, path))),
            target=replace(top, path=paths.joined(top.path, path)),
        )
        for path in files
    ]


def complete(item: Item, children: Sequence[Item], context: Context, tell: Tell, *, moving: bool) -> Location:
    """Given an item that stood for several, and these, which are all done, do what is left of it; return where it is.

    Of a directory that are its empty directories, and of a move those that are empty now.  Raise Trouble.
    """
    assert item.source.location is not None and item.target is not None
    source = item.source.location

    def go_on() -> None:
        tell(item.seq, ItemState.VERIFYING, 0, item.size)

    if any(child.into for child in children):
        return item.target  # by wildcards
    with visited(source.endpoint, context) as visit:
        there = visit.look(source.path) if source.path else None
        gone = there is None and bool(source.path)
        below = (
            []
            if gone
            else [path for path, kind in _walked(visit, source.path, go_on, context) if kind is Kind.DIRECTORY]
        )
    with visited(item.target.endpoint, context) as visit:
        top = _top(item, children) or target_of(item, visit, paths.base_name(source.path))
        if visit.means.directories and not gone:
            for path in ["", *below]:
                name = visit.real(paths.joined(top.path, path) if path else top.path)
                visit.make_directories(name)
    if moving and not gone:
        with visited(source.endpoint, context) as visit:
            for path in [*sorted(below, reverse=True), ""]:
                whole = paths.joined(source.path, path) if path else source.path
                # What came into it meanwhile stays, and so does the base of an endpoint.
                with contextlib.suppress(FarRefusal):
                    if whole:
                        visit.far.remove_directory(visit.real(whole))
    return top


def walk(visit: Visit, directory: str) -> Iterator[tuple[str, Kind]]:
    """Given a connection and a clean path, yield all that is below it, relative to it, and what it is.

    A directory comes before what it holds.  Our own names are left out.
    """
    waiting = [""]
    while waiting:
        above = waiting.pop()
        whole = paths.joined(directory, above) if above else directory
        for name in sorted(visit.far.names(visit.directory(whole))):
            if is_ours(name):
                continue
            path = paths.joined(above, os.fsdecode(name))
            there = visit.look(paths.joined(directory, path))
            if there is None:
                continue
            yield path, there.kind
            if there.kind is Kind.DIRECTORY:
                waiting.append(path)


# -- inside -----------------------------------------------------------------------------------


def _walked(visit: Visit, directory: str, go_on: Callable[[], None], context: Context) -> Iterator[tuple[str, Kind]]:
    most = context.settings.front.max_items
    for number, found in enumerate(walk(visit, directory), 1):
        if number > most:
            words = (
                f"{paths.shown(directory)} holds more than {most} names: make several jobs, or raise [front] max_items"
            )
            raise Trouble(FaultClass.REFUSED, words, final=True)
        go_on()
        yield found


def _top(item: Item, children: Sequence[Item]) -> Location | None:
    """Return where a directory went, as its files show."""
    assert item.source.location is not None
    for child in children:
        if child.source.location is not None and child.target is not None:
            relative = child.source.location.path[len(item.source.location.path) :].lstrip("/")
            return replace(child.target, path=child.target.path[: -len(relative)].rstrip("/"))
    return None


def _matched(item: Item, path: str) -> NewItem:
    assert item.source.location is not None and item.target is not None
    source = Source(location=replace(item.source.location, path=path))
    return NewItem(source=source, target=item.target, into=True)


def _matching(visit: Visit, pattern: str) -> list[str]:
    """Given a path with wildcards in any of its parts, return those that are there."""
    found = [""]
    for part in pattern.split("/"):
        above, found = found, []
        for directory in above:
            if not paths.has_wildcards(part):
                path = paths.joined(directory, part)
                found += [path] if visit.look(path) is not None else []
                continue
            with contextlib.suppress(FarRefusal):
                found_there = visit.far.names(visit.directory(directory))
                names = [os.fsdecode(name) for name in found_there if not is_ours(name)]
                found += [paths.joined(directory, name) for name in paths.matches(names, part)]
    return found

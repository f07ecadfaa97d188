"""What the files of a cart come from: an archive interface, which stages, or any other endpoint, which has them all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol

from mistamover.config import endpoint_urls
from mistamover.jobs import paths
from mistamover.jobs.model import Claim, Item, Location
from mistamover.jobs.transfer import origins
from mistamover.jobs.transfer.archive_interface import ArchiveInterface
from mistamover.jobs.transfer.context import Context
from mistamover.jobs.transfer.faults import Trouble
from mistamover.jobs.transfer.item_sources import interface, is_web, visited, web
from mistamover.jobs.transfer.origins import Origin
from mistamover.jobs.transfer.places import Missing
from mistamover.jobs.transfer.staging import Seen
from mistamover.model import FaultClass, Kind


class Archive(Protocol):
    """See the module; used by several threads. Every method raises Trouble, TransportError, JobRefused or OSError."""

    def stage(self, item: Item) -> None:
        """Given an item, ask for its file to be had on disk; that takes its time."""

    def look(self, item: Item) -> Seen:
        """Given an item, return what is known of its file."""

    def opened(self, item: Item, seen: Seen) -> contextlib.AbstractContextManager[Origin]:
        """Given an item whose file is on disk, and what is known of it, open it for the length of a block."""

    def close(self) -> None:
        """Nobody uses it any more."""


class Archives:
    """Those that one cart comes from; opened when they are needed, closed all at once."""

    def __init__(self, claim: Claim, context: Context) -> None:
        """Given a claim, connect to nothing yet."""
        self._claim = claim
        self._context = context
        self._open: dict[str, Archive] = {}

    def of(self, item: Item) -> Archive:
        """Given an item, return its archive; called by one thread. Raise JobRefused, TransportError, Trouble."""
        location = location_of(item)
        found = self._open.get(location.endpoint)
        if found is None:
            found = self._open[location.endpoint] = self._opened(location)
        return found

    def close(self) -> None:
        """Close all."""
        for archive in self._open.values():
            archive.close()
        self._open.clear()

    def _opened(self, location: Location) -> Archive:
        endpoint = self._context.endpoints.need(location.endpoint)
        if endpoint.dry_run:
            words = f"the endpoint {endpoint.name} is set to dry_run: nothing is had from there"
            raise Trouble(FaultClass.REFUSED, words, final=True)
        if endpoint.scheme in endpoint_urls.PACIFICA:
            return _Staging(interface(endpoint), self._context)
        if is_web(location, self._context):
            return _Web(self._claim, self._context)
        return _Plain(self._context)


def location_of(item: Item) -> Location:
    """Given an item of a cart, return where its file is."""
    location = item.source.location
    if location is None:
        raise Trouble(FaultClass.REFUSED, "the files of carts come from endpoints only", final=True)
    return location


class _Staging:
    """An archive interface."""

    def __init__(self, archive: ArchiveInterface, context: Context) -> None:
        self._archive = archive
        self._endpoints = context.endpoints

    def stage(self, item: Item) -> None:
        self._archive.stage(self._endpoints.url_of(location_of(item)))

    def look(self, item: Item) -> Seen:
        return self._archive.look(self._endpoints.url_of(location_of(item)))

    @contextlib.contextmanager
    def opened(self, item: Item, seen: Seen) -> Iterator[Origin]:
        with contextlib.closing(self._archive.opened(self._endpoints.url_of(location_of(item)), seen)) as origin:
            yield origin

    def close(self) -> None:
        self._archive.close()


class _Web:
    """An endpoint of http: what a file is, is known when it comes."""

    def __init__(self, claim: Claim, context: Context) -> None:
        self._claim = claim
        self._context = context

    def stage(self, item: Item) -> None:
        pass

    def look(self, item: Item) -> Seen:
        return Seen()

    @contextlib.contextmanager
    def opened(self, item: Item, seen: Seen) -> Iterator[Origin]:
        with contextlib.closing(web(item.source, self._claim, self._context)) as origin:
            yield origin

    def close(self) -> None:
        pass


class _Plain:
    """An endpoint that holds files."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def stage(self, item: Item) -> None:
        pass

    def look(self, item: Item) -> Seen:
        location = location_of(item)
        with visited(location.endpoint, self._context) as visit:
            try:
                _, there = visit.file(location.path)
            except Missing as error:
                if not paths.has_wildcards(location.path):
                    raise
                words = f"{error}; a cart takes names as they are, without wildcards"
                raise Trouble(FaultClass.VANISHED, words, final=True) from None
        return Seen(size=there.size if there.kind is Kind.FILE else None, mtime=int(there.mtime))

    @contextlib.contextmanager
    def opened(self, item: Item, seen: Seen) -> Iterator[Origin]:
        location = location_of(item)
        with visited(location.endpoint, self._context) as visit, origins.at(visit, location.path) as origin:
            yield origin

    def close(self) -> None:
        pass

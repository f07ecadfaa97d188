"""Sightings become candidates: what is new goes on the roll, what is known is brought up to date."""

from __future__ import annotations

import os
from collections.abc import Callable

from mistamover.config.settings import TransferUnit
from mistamover.files.identity import identity_of, kind_of
from mistamover.files.names import ZIP
from mistamover.model import Identity, Kind
from mistamover.stream.books import Books
from mistamover.stream.decide import ignored_by_name
from mistamover.stream.roll import AT_ONCE, Candidate
from mistamover.watch.scan import Sighting, manifest, tree_identity

#: Names of ignored files that are remembered, so that each is counted once.
_MOST_IGNORED = 100_000


class Intake:
    """The door of one stream."""

    def __init__(self, books: Books, target: str, replaced: Callable[[bytes], None]) -> None:
        """Given the books, the name of the target that a mirror compares with, and whom to tell when the name of a
        travelling unit belongs to another file now, start with an empty memory.
        """
        self._books = books
        self._replaced = replaced
        self._target = target
        self._ignored: dict[bytes, Kind] = {}

    def meet(self, sighting: Sighting, now: float) -> None:
        """Given a sighting and the time, do with it what is to be done."""
        name, kind, status, entries = sighting
        books = self._books
        if name == books.rules.stop_file:
            return
        if status is None:
            candidate = books.roll.get(name)
            # One that is ready or on its way ends by its verdict.
            if candidate is not None and candidate.look_at is not None:
                books.withdraw(candidate)
        elif kind is Kind.DIRECTORY and books.move:
            if ignored_by_name(name, kind, books.rules) is None:
                books.directories.seen(name, entries, status.st_ctime)
        else:
            self._meet_unit(name, kind, status, now)

    def look_at(self, name: bytes, now: float) -> None:
        """Given a name and the time, look at it now, as if it had just arrived; if it is gone, nothing happens."""
        try:
            status = os.lstat(self._books.root + b"/" + name)
        except OSError:
            return
        self._meet_unit(name, kind_in(self._books, status), status, now)

    def ignored(self, candidate: Candidate) -> None:
        """Given a candidate that is not to be sent, end it, and do not count it again."""
        self._books.roll.drop(candidate)
        self._books.counts.ignored += 1
        if len(self._ignored) < _MOST_IGNORED:
            self._ignored[candidate.name] = candidate.kind

    def _meet_unit(self, name: bytes, kind: Kind, status: os.stat_result, now: float) -> None:
        books = self._books
        candidate = books.roll.get(name)
        if candidate is not None:
            self._meet_again(candidate, kind, status, now)
            return
        if self._ignored.get(name) is kind:
            return
        trouble = books.troubles.get(name)
        if trouble is not None and trouble.quarantined:
            if trouble.identity == identity_now(books.root, name, kind, status):
                return
            # This is another unit of the same name.
            books.forget_trouble(name)
            trouble = None
        released = books.released.get(name)
        if released is not None:
            if released == identity_now(books.root, name, kind, status):
                return
            books.end_release(name)
        delivered = books.ledger.mirrored(name, self._target) if not books.move else None
        if delivered is not None and delivered == identity_now(books.root, name, kind, status):
            return
        candidate = Candidate(name, kind, identity_of(status), status.st_nlink, now)
        candidate.delivered = delivered
        if kind is Kind.TREE and books.rules.zips and not books.move:
            candidate.replaces = books.ledger.mirrored(name + ZIP, self._target)
        if trouble is not None:
            candidate.remember(trouble.attempts, trouble.retry_at, trouble.reason, trouble.since)
        books.counts.seen += 1
        books.roll.add(candidate)
        books.directories.arrived(name, now)
        books.moved_on()

    def _meet_again(self, candidate: Candidate, kind: Kind, status: os.stat_result, now: float) -> None:
        identity = identity_of(status)
        candidate.heard_at = now
        if candidate.travelling:
            candidate.again = True
            if identity[:2] != candidate.identity[:2]:
                self._replaced(candidate.name)
            return
        if kind is not candidate.kind or (kind is not Kind.TREE and identity != candidate.identity):
            candidate.identity = identity
            candidate.kind = kind
            candidate.observed = now
            self._books.directories.arrived(candidate.name, now)
            self._books.moved_on()
            # If it was ready, its lease was for what it is no more.
            candidate.release()
            self._books.roll.look(candidate, AT_ONCE)
        elif candidate.look_at is not None and candidate.look_at > now:
            # An event came: the answer may be another one now.
            self._books.roll.look(candidate, AT_ONCE)


def kind_in(books: Books, status: os.stat_result) -> Kind:
    """Given the books and the lstat of a unit, return what it is for this stream."""
    kind = kind_of(status)
    return Kind.TREE if kind is Kind.DIRECTORY and books.settings.unit is TransferUnit.DIRECTORY else kind


def identity_now(root: bytes, name: bytes, kind: Kind, status: os.stat_result) -> Identity | None:
    """Given the stream's directory, a unit's name, kind and lstat, return its identity; None while it changes."""
    if kind is not Kind.TREE:
        return identity_of(status)
    try:
        return tree_identity(status, manifest(root, name))
    except OSError:
        # It is changing under our eyes: not what it was.
        return None

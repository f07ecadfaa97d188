"""The desk of a stream: it does what operators ask about units in quarantine, and answers.

Whoever holds the stream's lock has one.  What is about to be moved is noted in the ledger before, and finished or
given up by `recover` after a crash: a unit is in one place, and the ledger knows which.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from mistamover.files.names import display
from mistamover.stream import relocation, requests
from mistamover.stream.books import Books
from mistamover.stream.intake import identity_now, kind_in
from mistamover.stream.ledger import Release, Relocation, Trouble
from mistamover.stream.quarantine import found_again, take_note_away
from mistamover.stream.requests import Ended, Meant, Outcome, Request, Verb

logger = logging.getLogger(__name__)

#: Units that are dealt with at one go: their notes are flushed together, and the stream's other work goes on between.
_AT_ONCE = 100


class Desk:
    """The desk of one stream."""

    def __init__(self, books: Books, look_at: Callable[[bytes, float], None]) -> None:
        """Given the books, and how a name is looked at anew, have nothing to do yet."""
        self._books = books
        self._state_dir = books.settings.state_dir
        self._look_at = look_at
        self._waiting: list[str] = []
        self._ended: list[Ended] = []

    @property
    def busy(self) -> bool:
        """Whether it knows of something that it has not finished."""
        return bool(self._waiting)

    def recover(self) -> None:
        """Finish, or give up, what a process was moving when it died; find what it had just moved to quarantine."""
        books = self._books
        planned = books.ledger.relocations()
        arrived = [each for each in planned if relocation.finish(each, books.ledger.note_relocations)]
        stayed = [each for each in planned if each not in arrived]
        for each in stayed:
            relocation.clean_up(each)
        self._conclude(arrived, stayed)
        moved = [t for t in books.troubles.values() if t.quarantined and t.identity and books.move]
        found = [replace(t, moved_to=place, identity=None) for t in moved if (place := found_again(books, t))]
        if found:
            books.note_troubles(found)

    def serve(self) -> None:
        """Look for requests, and do as much as can be done without keeping the stream's other work waiting."""
        if not self._waiting:
            self._waiting = requests.pending(self._state_dir)
        if not self._waiting:
            return
        key = self._waiting[0]
        request = requests.read(self._state_dir, key)
        rest = request.units[len(self._ended) :] if request is not None else ()
        if request is not None and rest:
            self._ended += self._deal_with(request, rest[:_AT_ONCE])
        if len(rest) > _AT_ONCE:
            return
        try:
            requests.answer(self._state_dir, key, self._ended)
        except OSError as error:
            logger.error("what was asked is done, but the answer cannot be written: %s", error)
            requests.withdraw(self._state_dir, key)
        self._ended = []
        self._waiting = self._waiting[1:] or requests.pending(self._state_dir)

    # -- one request --------------------------------------------------------------------------

    def _deal_with(self, request: Request, units: Sequence[Meant]) -> list[Ended]:
        """Given a request and some of its units, do it; return what became of each, in their order."""
        books = self._books
        steps = {unit: self._step(request, unit) for unit in dict.fromkeys(units)}
        ended = {unit: step for unit, step in steps.items() if isinstance(step, Ended)}
        planned = {unit: step for unit, step in steps.items() if isinstance(step, Relocation)}
        if planned:
            books.ledger.note_relocations(planned.values())
        arrived: list[Relocation] = []
        stayed: list[Relocation] = []
        for unit, each in planned.items():
            try:
                relocation.carry_out(each, books.ledger.note_relocations)
                arrived.append(each)
                ended[unit] = _moved(each)
            except OSError as error:
                relocation.clean_up(each)
                stayed.append(each)
                ended[unit] = _failed(each, error)
        self._conclude(arrived, stayed)
        for end in ended.values():
            log = logger.info if end.done else logger.warning
            log("%s: %s asked by %s: %s", display(end.name), request.verb.value, request.who, end.words)
        return [ended[unit] for unit in units]

    def _step(self, request: Request, unit: Meant) -> Relocation | Ended:
        """Given a request and one of its units, return how it is to be moved, or what has become of it already."""
        books, name = self._books, unit.name
        trouble = books.moved.get(unit.moved_to) if unit.moved_to else books.troubles.get(name)
        if trouble is None or not trouble.quarantined:
            return Ended(name=name, outcome=Outcome.ABSENT, words="it is not in quarantine")
        source = trouble.moved_to or books.root + b"/" + name
        try:
            status = os.lstat(source)
        except (FileNotFoundError, NotADirectoryError):
            books.end_quarantines([trouble])
            self._look_at(name, time.time())
            words = f"somebody has taken it away from {display(source)}: it is not in quarantine any more"
            return Ended(name=name, outcome=Outcome.GONE, words=words)
        except OSError as error:
            return Ended(name=name, outcome=Outcome.FAILED, words=f"{display(source)}: {error.strerror}", where=source)
        if trouble.moved_to is None:
            changed = identity_now(books.root, name, kind_in(books, status), status) != trouble.identity
            if (there := self._where_it_is(request, trouble, source, changed)) is not None:
                return there
        elif request.verb is Verb.RELEASE and request.to is None:
            return self._released(request, trouble, source, keep_out=False)
        destination = (books.root if request.verb is Verb.RETRY else request.to or b"") + b"/" + name
        return Relocation(
            name=name,
            verb=request.verb.value,
            who=request.who,
            source=source,
            destination=destination,
            found=(status.st_dev, status.st_ino),
        )

    def _where_it_is(self, request: Request, trouble: Trouble, source: bytes, changed: bool) -> Ended | None:
        """Given a unit that is in quarantine where it is, deal with it there; return None if it is to be moved."""
        name = trouble.name
        if request.verb is Verb.RETRY:
            self._books.end_quarantines([trouble])
            self._look_at(name, time.time())
            return Ended(name=name, outcome=Outcome.RETRIED, words="it is tried again where it is", where=source)
        if changed:
            words = "it has changed since it was quarantined, so that it is tried again by itself: it is not released"
            return Ended(name=name, outcome=Outcome.CHANGED, words=words, where=source)
        if request.to is None:
            return self._released(request, trouble, source, keep_out=True)
        if self._books.move:
            return None
        words = "a mirror leaves its source alone: release it without --to, then it is not sent unless it changes"
        return Ended(name=name, outcome=Outcome.FAILED, words=words, where=source)

    def _released(self, request: Request, trouble: Trouble, place: bytes, *, keep_out: bool) -> Ended:
        release = _release(trouble, request.who, place)
        words = f"released, and left as {display(place)}"
        if keep_out:
            release = replace(release, identity=trouble.identity)
            words += ": it is not sent unless it changes"
        self._books.end_quarantines([], [(trouble, release)])
        return Ended(name=trouble.name, outcome=Outcome.RELEASED, words=words, where=place)

    def _conclude(self, arrived: Sequence[Relocation], stayed: Sequence[Relocation]) -> None:
        """Given what was moved, and what was not, see to it that the disk says so before the ledger does."""
        books = self._books
        places = {os.path.dirname(path) for each in arrived for path in (each.source, each.destination)}
        for place in places:
            if os.path.isdir(place):
                relocation.flush_names(place)
        retried: list[Trouble] = []
        released: list[tuple[Trouble, Release]] = []
        for each in arrived:
            take_note_away(each.source, books.settings.quarantine_dir)
            trouble = books.moved.get(each.source) or books.troubles.get(each.name)
            if trouble is not None and each.verb == Verb.RELEASE.value:
                released.append((trouble, _release(trouble, each.who, each.destination)))
            elif trouble is not None:
                retried.append(trouble)
        if arrived or stayed:
            books.end_quarantines(retried, released, [each.source for each in (*arrived, *stayed)])
        now = time.time()
        for each in arrived:
            if each.verb == Verb.RETRY.value:
                self._look_at(each.name, now)


def _release(trouble: Trouble, who: str, place: bytes) -> Release:
    return Release(
        name=trouble.name, target=trouble.target, reason=trouble.reason, who=who, when=time.time(), place=place
    )


def _moved(done: Relocation) -> Ended:
    if done.verb == Verb.RETRY.value:
        words = f"put back as {display(done.destination)}, to be tried again"
        return Ended(name=done.name, outcome=Outcome.RETRIED, words=words, where=done.destination)
    words = f"released, and moved to {display(done.destination)}"
    return Ended(name=done.name, outcome=Outcome.RELEASED, words=words, where=done.destination)


def _failed(planned: Relocation, error: OSError) -> Ended:
    where = display(planned.source)
    if isinstance(error, FileExistsError):
        words = f"{display(planned.destination)} is taken: move that away first; this one stays as {where}"
        return Ended(name=planned.name, outcome=Outcome.TAKEN, words=words, where=planned.source)
    words = f"it cannot be moved to {display(planned.destination)} ({error.strerror or error}); it stays as {where}"
    return Ended(name=planned.name, outcome=Outcome.FAILED, words=words, where=planned.source)

"""A cart: its files are asked for at their archive, given room in the volume, pulled, and bundled if that is wanted.

One attempt does what can be done now, and never waits for tape: the job is put back until the archive is asked again.
What is done and on the disk is written down in batches; a later attempt goes on from there, whatever has happened.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from mistamover.errors import BundleBroken, JobRefused, NoSpace, TransportError
from mistamover.jobs.cart_model import BundleForm, Cart, Kept
from mistamover.jobs.carts import removal
from mistamover.jobs.carts.composing import pieces
from mistamover.jobs.carts.members import members_of
from mistamover.jobs.model import Claim, Item, ItemState, JobState
from mistamover.jobs.store.item_steps import Finished
from mistamover.jobs.transfer.archives import Archive, Archives, location_of
from mistamover.jobs.transfer.cart_room import Room
from mistamover.jobs.transfer.context import Context, Outcome, Tell
from mistamover.jobs.transfer.faults import Again, Trouble, decide_retry, one_line, trouble
from mistamover.jobs.transfer.fetching import Answered
from mistamover.jobs.transfer.hands import Hands
from mistamover.jobs.transfer.landing import Landing
from mistamover.jobs.transfer.pulling import Puller
from mistamover.jobs.transfer.staging import Seen, next_look
from mistamover.model import FaultClass

logger = logging.getLogger(__name__)

R = TypeVar("R")

#: What clients of the data cart are told, and look for.
NO_SPACE = "No Space Available"
_NO_SPACE_FOR_FILE = "Not enough space to download file"
_STAGE, _STATUS, _PULL = "stage", "status file", "pull"

#: An item that is none: who tells of it only hears whether to go on.
_NOBODY = -1

#: Files that are flushed and written down together, at most, and the seconds after which fewer are.
_BATCH = 500
_BATCH_TIME = 2.0

#: Files that may fail in one attempt before it is left at that.
_MOST_FAILURES = 50

#: Bytes that are kept beyond what has come of a file whose size nobody knows.
_STEP = 64 << 20

_FULL = (errno.ENOSPC, errno.EDQUOT)


def bundle(claim: Claim, context: Context, tell: Tell) -> Outcome:
    """Given a claim to the job of a cart, do what can be done of it now, and return what came of it.

    Raise what `tell` raises, and StoreError.
    """
    cart = context.carts.get(claim.job.id)
    if cart is None or cart.kept is not Kept.LIVE:
        return Outcome(state=JobState.FAILED, reason="the files of this cart are not kept any more: ask for it anew")
    try:
        landing = Landing(context.volume, claim.job.id)
    except OSError as error:
        words = f"Failed directory create with error: {error.strerror or error}"
        return Outcome(state=JobState.FAILED, reason=f"Failed to pull file({words})", fault=FaultClass.HERE)
    with contextlib.closing(landing), contextlib.closing(Archives(claim, context)) as archives:
        return _Bundling(cart, claim, context, tell, landing, archives).run()


class _Failed(Exception):
    """The cart comes to nothing."""


class _Bundling:
    """One attempt at one cart."""

    def __init__(
        self, cart: Cart, claim: Claim, context: Context, tell: Tell, landing: Landing, archives: Archives
    ) -> None:
        self._cart, self._claim, self._context, self._tell = cart, claim, context, tell
        self._job, self._form = claim.job, BundleForm.of(claim.job.options)
        self._began = self._job.created if self._job.started is None else self._job.started
        self._landing, self._archives = landing, archives
        self._room = Room(self._job, context, landing)
        self._items = {item.seq: item for item in claim.items}
        self._seen: dict[int, Seen] = {}
        self._growing: dict[int, int] = {}
        self._lock = threading.Lock()
        self._batch: list[Finished] = []
        self._since = 0.0
        self._failures = 0
        self._later: list[float] = []
        self._waits = ""
        self._dead: dict[str, str] = {}
        self._worked: set[str] = set()
        self._puller = Puller(landing, self._form.algorithm, tell, context.clock, self._grow, claim.token[:8])

    def run(self) -> Outcome:
        """See `bundle`."""
        try:
            self._give_up_on_failed()
            if self._made() is None:
                self._look_for_lost()
                self._gather()
                if self._left():
                    return self._put_back()
                if self._form.stored:
                    self._make()
            return self._done()
        except NoSpace:
            # What is here of it is in the way of others.
            removal.remove(self._context.volume, self._job.id)
            self._context.carts.removed(self._job.id)
            logger.warning("cart of job %s: there is no room for it", self._job.id)
            return self._ended(JobState.FAILED, NO_SPACE)
        except (OSError, BundleBroken, JobRefused) as error:
            return self._stumbled(error)
        except _Failed as failed:
            self._flush()
            self._context.carts.settle(self._job.id, _size(self._of_state(ItemState.DONE)))
            return self._ended(JobState.FAILED, str(failed))

    # -- what is there ------------------------------------------------------------------------

    def _give_up_on_failed(self) -> None:
        """An earlier worker may have died behind a failure that was for good."""
        for item in self._of_state(ItemState.FAILED):
            raise _Failed(_reason(item.reason))

    def _made(self) -> int | None:
        """Return the size of the bundle, if it is stored, and made already; it has its name only when it is whole."""
        return self._landing.bundle_size(self._bundle_name) if self._form.stored and not self._left() else None

    @property
    def _bundle_name(self) -> str:
        return self._context.volume.bundle(self._job.id, self._form.format).name

    def _look_for_lost(self) -> None:
        """What is done and not here any more, is to be done again."""
        for item in self._of_state(ItemState.DONE):
            if item.target is None or not self._landing.has(item.target.path, item.size):
                self._items[item.seq] = replace(item, state=ItemState.QUEUED)

    def _of_state(self, *states: ItemState) -> list[Item]:
        return [item for item in self._items.values() if item.state in states]

    def _left(self) -> list[Item]:
        return [item for item in self._items.values() if item.state is not ItemState.DONE]

    # -- gathering ----------------------------------------------------------------------------

    def _gather(self) -> None:
        """Have as many files here as can be had now."""
        due = [item for item in self._left() if self._is_due(item)]
        self._reach(due)
        while due and not self._is_enough():
            asked_at = self._context.clock()
            self._stage([item for item in due if item.state is not ItemState.STAGING])
            self._look([item for item in due if self._is_staged(item)])
            self._reserve()
            self._pull([item for item in due if self._is_staged(item) and self._seen[item.seq].on_disk])
            due = self._taped(asked_at)

    def _is_due(self, item: Item) -> bool:
        if item.not_before is None or item.not_before <= self._context.clock():
            return True
        self._later.append(item.not_before)
        self._waits = self._waits or item.reason
        return False

    def _is_staged(self, item: Item) -> bool:
        return self._items[item.seq].state is ItemState.STAGING

    def _is_enough(self) -> bool:
        return bool(self._dead) or self._failures >= _MOST_FAILURES

    def _reach(self, due: Sequence[Item]) -> None:
        """Open the archives of items, so that all threads can use them."""
        for item in due:
            try:
                self._archives.of(item)
            except (Trouble, TransportError, JobRefused, OSError) as error:
                self._note(item, _STAGE, error)

    def _stage(self, wanted: Sequence[Item]) -> None:
        """Given items, ask for their files."""
        for item, _ in self._each(wanted, _STAGE, lambda item, archive: archive.stage(item)):
            self._items[item.seq] = replace(item, state=ItemState.STAGING, fault="", reason="")

    def _look(self, wanted: Sequence[Item]) -> None:
        """Given items that were asked for, see which files can be had, and how large all are."""
        sizes: dict[int, int | None] = {}
        for item, seen in self._each(wanted, _STATUS, lambda item, archive: archive.look(item)):
            self._seen[item.seq] = seen
            self._items[item.seq] = replace(self._items[item.seq], size=seen.size)
            sizes[item.seq] = seen.size
        self._context.claims.items_staged(self._claim, sizes)

    def _taped(self, asked_at: float) -> list[Item]:
        """Return the items to ask for again now; where that has to wait, note until when."""
        taped = [self._items[seq] for seq, seen in self._seen.items() if not seen.on_disk]
        taped = [item for item in taped if item.state is ItemState.STAGING]
        if not taped:
            return []
        timeout = self._context.settings.carts.stage_timeout
        when = next_look(self._began, asked_at, timeout, random.random())  # noqa: S311 (no secret)
        if when is None:
            words = f"the archive does not have it on disk after {timeout:g} s"
            self._note(taped[0], _STAGE, Trouble(FaultClass.SOURCE, words, final=True))
            return []
        if when <= self._context.clock():
            return taped
        self._later.append(when)
        self._waits = self._waits or f"the archive does not have {len(taped)} of the files on disk yet"
        return []

    def _reserve(self) -> None:
        """Keep room for all of it, as far as sizes are known."""
        whole = self._needed()
        self._room.reserve(whole, whole - _size(self._of_state(ItemState.DONE)))

    def _needed(self) -> int:
        with self._lock:
            size = sum(max(item.size or 0, self._growing.get(item.seq, 0)) for item in self._items.values())
        # Files and bundle lie there together until it is made.
        return 2 * size if self._form.stored else size

    def _grow(self, seq: int, size: int) -> None:
        """See `pulling.Grow`; called by any thread."""
        with self._lock:
            if size <= self._growing.get(seq, 0):
                return
            self._growing[seq] = size + _STEP
        self._room.reserve(self._needed(), _STEP)

    def _pull(self, ready: Sequence[Item]) -> None:
        """Given items whose files are on disk, get them."""

        def pull(item: Item, go_on: Callable[[], None]) -> Finished:
            return self._puller.pull(item, self._seen[item.seq], self._archives.of(item), go_on)

        while ready and not self._is_enough():
            full = False
            with contextlib.closing(self._hands(ready).results(ready, pull)) as results:
                for item, result in results:
                    if isinstance(result, Finished):
                        self._arrived(item, result)
                        continue
                    full = isinstance(result, OSError) and result.errno in _FULL
                    if not full:
                        self._note(item, _PULL, result)
                    if full or self._is_enough():
                        break
            self._flush()
            if not full:
                return
            self._room.make_more()
            ready = [item for item in ready if self._is_staged(item)]

    def _each(self, wanted: Sequence[Item], step: str, do: Callable[[Item, Archive], R]) -> Iterator[tuple[Item, R]]:
        """Given items, yield each with what is done with it, but for those where it fails."""
        if self._is_enough():
            return

        def one(item: Item, _: Callable[[], None]) -> R:
            return do(item, self._archives.of(item))

        with contextlib.closing(self._hands(wanted).results(wanted, one)) as results:
            for item, result in results:
                if not isinstance(result, Exception):
                    self._worked.add(location_of(item).endpoint)
                    yield item, result
                    continue
                self._note(item, step, result)
                if self._is_enough():
                    return

    def _hands(self, work: Sequence[Item]) -> Hands:
        return Hands(min(self._context.settings.carts.pulls, len(work)), self._tick)

    # -- what is written down -----------------------------------------------------------------

    def _tick(self) -> None:
        """Raise if the job is to end; write down what is done, if that is due."""
        self._check()
        if self._batch and time.monotonic() - self._since >= _BATCH_TIME:
            self._flush()

    def _check(self) -> None:
        self._tell(_NOBODY, ItemState.STAGING, 0, None)

    def _arrived(self, item: Item, finished: Finished) -> None:
        if not self._batch:
            self._since = time.monotonic()
        self._batch.append(finished)
        with self._lock:
            self._growing.pop(item.seq, None)
            self._items[item.seq] = replace(item, state=self._items[item.seq].state, size=finished.size)
        if len(self._batch) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        """Have on the disk what has come, then write down that it is done."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        self._landing.flush([each.landed.path for each in batch])
        self._context.claims.items_done(self._claim, batch)
        for each in batch:
            self._items[each.seq] = replace(
                self._items[each.seq],
                state=ItemState.DONE,
                landed=each.landed,
                algorithm=each.algorithm,
                digest=each.digest,
                size=each.size,
            )

    def _note(self, item: Item, step: str, error: Exception) -> None:
        """Given an item, what failed with it, and how, write that down. Raise _Failed where that was for good."""
        if isinstance(error, NoSpace):
            self._item_failed(item, FaultClass.TARGET, _NO_SPACE_FOR_FILE, None)
            raise error
        if not isinstance(error, (Trouble, TransportError, JobRefused, OSError)):
            raise error
        # Its connection may have been cut because we are to end.
        self._check()
        cause = trouble(error, location_of(item).endpoint)
        plain = f"Status code is {error.status}" if isinstance(error, Answered) else str(cause)
        words = self._context.scrubbed(plain, [location_of(item).endpoint])
        reason = one_line(f"Failed to {step} with error: {words}")
        again = self._again(cause, self._job.attempts - 1 if cause.is_patient else item.attempts)
        if cause.is_patient and cause.fault is FaultClass.LINK:
            self._dead[cause.endpoint] = words
        if again is not None:
            self._failures += 1
            self._later.append(again.not_before)
            self._waits = self._waits or reason
            if again.whole:
                # It costs no attempt: the cart just waits.
                return
        self._item_failed(item, cause.fault, reason, again)
        if again is None:
            raise _Failed(_reason(reason))

    def _item_failed(self, item: Item, fault: FaultClass, reason: str, again: Again | None) -> None:
        when = None if again is None else again.not_before
        self._context.claims.item_failed(self._claim, item.seq, fault=fault.value, reason=reason, not_before=when)
        state = ItemState.FAILED if again is None else ItemState.RETRY
        self._items[item.seq] = replace(item, state=state, fault=fault.value, reason=reason)

    def _again(self, cause: Trouble, attempts: int) -> Again | None:
        return decide_retry(
            cause,
            self._context.settings.engine,
            attempts=attempts,
            began=self._began,
            now=self._context.clock(),
            deadline=self._job.deadline,
        )

    # -- the bundle ---------------------------------------------------------------------------

    def _make(self) -> None:
        """Make the bundle that is stored."""
        self._context.claims.packaging(self._claim)
        size = _size(self._of_state(ItemState.DONE))
        self._room.reserve(2 * size, size)
        name = f"{self._claim.token[:8]}-bundle"
        while True:
            try:
                self._write_bundle(name)
            except OSError as error:
                self._landing.drop(name)
                if error.errno not in _FULL:
                    raise
                self._room.make_more()
            else:
                self._landing.place_bundle(name, self._bundle_name)
                return

    def _write_bundle(self, name: str) -> None:
        items = [self._items[seq] for seq in sorted(self._items)]
        members = members_of(self._cart, items, self._context.volume, self._cart.uid)
        with self._landing.write(name) as file:
            for piece in pieces(self._form, members):
                self._check()
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    # -- the end ------------------------------------------------------------------------------

    def _done(self) -> Outcome:
        files, made = list(self._items.values()), self._made()
        self._landing.tidy(files=made is not None)
        size = _size(files) if made is None else made
        self._context.carts.settle(self._job.id, size)
        logger.info("cart of job %s: ready, with %d files of %d bytes", self._job.id, len(files), _size(files))
        return self._ended(JobState.DONE, "", **({} if made is None else {"bundle": made}))

    def _put_back(self) -> Outcome:
        return Outcome(
            state=None,
            reason=self._waits,
            not_before=min(self._later, default=self._context.clock()),
            endpoints=self._dead,
            worked=frozenset(self._worked - set(self._dead)),
        )

    def _stumbled(self, error: Exception) -> Outcome:
        """Given what went wrong with the cart as a whole, return what comes of it."""
        cause = Trouble(FaultClass.HERE, str(error)) if isinstance(error, BundleBroken) else trouble(error)
        again = self._again(cause, self._job.attempts - 1)
        words = self._context.scrubbed(str(cause), ())
        if again is None:
            return self._ended(JobState.FAILED, words)
        return Outcome(state=None, reason=words, not_before=again.not_before)

    def _ended(self, state: JobState, reason: str, **more: object) -> Outcome:
        done = self._of_state(ItemState.DONE)
        faults = [item.fault for item in self._items.values() if item.fault]
        return Outcome(
            state=state,
            reason=reason,
            result={"files": len(done), "bytes": _size(done), **more},
            worked=frozenset(self._worked - set(self._dead)),
            fault=FaultClass(faults[0]) if faults else None,
        )


def _size(items: Iterable[Item]) -> int:
    return sum(item.size or 0 for item in items)


def _reason(reason: str) -> str:
    return one_line(f"Failed to pull file({reason})")

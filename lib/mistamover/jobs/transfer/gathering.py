"""The files of a cart: asked for at their archive, given room, pulled as soon as they are on disk there.

Nothing here waits for tape.  What is done and on the disk is written down in batches.
"""

from __future__ import annotations

import contextlib
import errno
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from mistamover.errors import JobRefused, TransportError
from mistamover.jobs.cart_model import BundleForm
from mistamover.jobs.model import Claim, Item, ItemState
from mistamover.jobs.store.item_steps import Finished
from mistamover.jobs.transfer.archives import Archive, Archives, location_of
from mistamover.jobs.transfer.cart_room import Room
from mistamover.jobs.transfer.context import Context, Tell
from mistamover.jobs.transfer.faults import Again, Trouble, decide_retry, one_line, trouble
from mistamover.jobs.transfer.fetching import Answered
from mistamover.jobs.transfer.hands import Hands
from mistamover.jobs.transfer.landing import Landing
from mistamover.jobs.transfer.pulling import Puller
from mistamover.jobs.transfer.staging import Seen, next_look
from mistamover.model import FaultClass

R = TypeVar("R")

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

#: What the system says of a disk without room.
FULL = (errno.ENOSPC, errno.EDQUOT)


class CartFailed(Exception):
    """The cart comes to nothing; the reason is what its clients are told."""


class Gathering:
    """One attempt to have all files here."""

    def __init__(
        self, claim: Claim, context: Context, tell: Tell, landing: Landing, archives: Archives, room: Room
    ) -> None:
        """Given a claim, all that is used, the cart's directory, what it comes from, and its room, do nothing yet."""
        self._claim, self._context, self._tell = claim, context, tell
        self._job, self._form = claim.job, BundleForm.of(claim.job.options)
        self._began = self._job.created if self._job.started is None else self._job.started
        self._landing, self._archives, self._room = landing, archives, room
        self.items = {item.seq: item for item in claim.items}
        """As they are by now, by their numbers."""
        self.later: list[float] = []
        """When something is to be tried again."""
        self.waits = ""
        """What for."""
        self.dead: dict[str, str] = {}
        """Archives that cannot be reached, and why."""
        self.worked: set[str] = set()
        """Those that can."""
        self._seen: dict[int, Seen] = {}
        self._growing: dict[int, int] = {}
        self._lock = threading.Lock()
        self._batch: list[Finished] = []
        self._since = 0.0
        self._failures = 0
        self._puller = Puller(landing, self._form.algorithm, tell, context.clock, self._grow, claim.token[:8])

    def left(self) -> list[Item]:
        """Return the items that are not done."""
        return [item for item in self.items.values() if item.state is not ItemState.DONE]

    def done(self) -> list[Item]:
        """Return the items that are."""
        return [item for item in self.items.values() if item.state is ItemState.DONE]

    def gather(self) -> None:
        """Have as many files here as can be had now."""
        due = self._reached([item for item in self.left() if self._is_due(item)])
        while due and not self._is_enough():
            asked_at = self._context.clock()
            self._stage([item for item in due if item.state is not ItemState.STAGING])
            self._look([item for item in due if self._is_staged(item)])
            self._reserve()
            self._pull([item for item in due if self._is_staged(item) and self._is_on_disk(item)])
            due = self._taped(asked_at)

    def _is_due(self, item: Item) -> bool:
        if item.not_before is None or item.not_before <= self._context.clock():
            return True
        self.later.append(item.not_before)
        self.waits = self.waits or item.reason
        return False

    def _is_staged(self, item: Item) -> bool:
        return self.items[item.seq].state is ItemState.STAGING

    def _is_on_disk(self, item: Item) -> bool:
        return item.seq in self._seen and self._seen[item.seq].on_disk

    def _is_enough(self) -> bool:
        return bool(self.dead) or self._failures >= _MOST_FAILURES

    def _reached(self, due: Sequence[Item]) -> list[Item]:
        """Given items, open their archives, so that all threads can use them; return those whose archive there is."""
        found = []
        for item in due:
            try:
                self._archives.of(item)
                found.append(item)
            except (Trouble, TransportError, JobRefused, OSError) as error:
                self._note(item, _STAGE, error)
                if self._is_enough():
                    break
        return found

    def _stage(self, wanted: Sequence[Item]) -> None:
        """Given items, ask for their files."""
        for item, _ in self._each(wanted, _STAGE, lambda item, archive: archive.stage(item)):
            self.items[item.seq] = replace(item, state=ItemState.STAGING, fault="", reason="")

    def _look(self, wanted: Sequence[Item]) -> None:
        """Given items that were asked for, see which files can be had, and how large all are."""
        sizes: dict[int, int | None] = {}
        for item, seen in self._each(wanted, _STATUS, lambda item, archive: archive.look(item)):
            self._seen[item.seq] = seen
            self.items[item.seq] = replace(self.items[item.seq], size=seen.size)
            sizes[item.seq] = seen.size
        self._context.claims.items_staged(self._claim, sizes)

    def _taped(self, asked_at: float) -> list[Item]:
        """Return the items to ask for again now; where that has to wait, note until when."""
        taped = [self.items[seq] for seq, seen in self._seen.items() if not seen.on_disk]
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
        self.later.append(when)
        self.waits = self.waits or f"the archive does not have {len(taped)} of the files on disk yet"
        return []

    def _reserve(self) -> None:
        """Keep room for all of it, as far as sizes are known."""
        whole = self._needed()
        self._room.reserve(whole, whole - size_of(self.done()))

    def _needed(self) -> int:
        with self._lock:
            size = sum(max(item.size or 0, self._growing.get(item.seq, 0)) for item in self.items.values())
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
                    full = isinstance(result, OSError) and result.errno in FULL
                    if not full:
                        self._note(item, _PULL, result)
                    if full or self._is_enough():
                        break
            self.flush()
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
                    self.worked.add(location_of(item).endpoint)
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
        self.check()
        if self._batch and time.monotonic() - self._since >= _BATCH_TIME:
            self.flush()

    def check(self) -> None:
        """Raise what `tell` does if the job is to end."""
        self._tell(_NOBODY, ItemState.STAGING, 0, None)

    def _arrived(self, item: Item, finished: Finished) -> None:
        if not self._batch:
            self._since = time.monotonic()
        self._batch.append(finished)
        with self._lock:
            self._growing.pop(item.seq, None)
            self.items[item.seq] = replace(item, state=self.items[item.seq].state, size=finished.size)
        if len(self._batch) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Have on the disk what has come, then write down that it is done."""
        batch, self._batch = self._batch, []
        if not batch:
            return
        self._landing.flush([each.landed.path for each in batch])
        self._context.claims.items_done(self._claim, batch)
        for each in batch:
            self.items[each.seq] = replace(
                self.items[each.seq],
                state=ItemState.DONE,
                landed=each.landed,
                algorithm=each.algorithm,
                digest=each.digest,
                size=each.size,
            )

    def _note(self, item: Item, step: str, error: Exception) -> None:
        """Given an item, what failed with it, and how, write that down. Raise CartFailed where that was for good."""
        if not isinstance(error, (Trouble, TransportError, JobRefused, OSError)):
            raise error
        # Its connection may have been cut because we are to end.
        self.check()
        name = "" if item.source.location is None else item.source.location.endpoint
        cause = trouble(error, name)
        plain = f"Status code is {error.status}" if isinstance(error, Answered) else str(cause)
        words = self._context.scrubbed(plain, [name])
        reason = one_line(f"Failed to {step} with error: {words}")
        again = self.again(cause, self._job.attempts - 1 if cause.is_patient else item.attempts)
        if cause.is_patient and cause.fault is FaultClass.LINK:
            self.dead[cause.endpoint] = words
        if again is not None:
            self._failures += 1
            self.later.append(again.not_before)
            self.waits = self.waits or reason
            if again.whole:
                # It costs no attempt: the cart just waits.
                return
        self._item_failed(item, cause.fault, reason, again)
        if again is None:
            raise CartFailed(told(reason))

    def no_room(self) -> None:
        """There is no room for what is left: the first of it says so."""
        left = self.left()
        if left:
            self._item_failed(left[0], FaultClass.TARGET, _NO_SPACE_FOR_FILE, None)

    def _item_failed(self, item: Item, fault: FaultClass, reason: str, again: Again | None) -> None:
        when = None if again is None else again.not_before
        self._context.claims.item_failed(self._claim, item.seq, fault=fault.value, reason=reason, not_before=when)
        state = ItemState.FAILED if again is None else ItemState.RETRY
        self.items[item.seq] = replace(item, state=state, fault=fault.value, reason=reason)

    def again(self, cause: Trouble, attempts: int) -> Again | None:
        """Given what went wrong, and how often it did before, return when that is tried again, None if it is not."""
        return decide_retry(
            cause,
            self._context.settings.engine,
            attempts=attempts,
            began=self._began,
            now=self._context.clock(),
            deadline=self._job.deadline,
        )


def size_of(items: Iterable[Item]) -> int:
    """Given items, return how many bytes they have together."""
    return sum(item.size or 0 for item in items)


def told(reason: str) -> str:
    """Given why an item failed, return what is told of its cart."""
    return one_line(f"Failed to pull file({reason})")

"""A cart: its files are gathered in the volume, and bundled there if that is wanted.

One attempt does what can be done now; a later one goes on from there, whatever has happened.
"""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import replace

from mistamover.errors import BundleBroken, JobRefused, JobStopping, NoSpace
from mistamover.jobs.cart_model import BundleForm, Cart, Kept
from mistamover.jobs.carts import removal
from mistamover.jobs.carts.composing import pieces
from mistamover.jobs.carts.members import members_of
from mistamover.jobs.model import Claim, ItemState, JobState
from mistamover.jobs.transfer.archives import Archives
from mistamover.jobs.transfer.cart_room import Room
from mistamover.jobs.transfer.context import Context, Outcome, Tell
from mistamover.jobs.transfer.faults import Trouble, decide_retry, trouble
from mistamover.jobs.transfer.gathering import FULL, CartFailed, Gathering, size_of, told
from mistamover.jobs.transfer.landing import Landing
from mistamover.model import FaultClass

logger = logging.getLogger(__name__)

#: What clients of the data cart are told, and look for.
NO_SPACE = "No Space Available"


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
        return _without_directory(error, claim, context)
    with contextlib.closing(landing), contextlib.closing(Archives(claim, context)) as archives:
        room = Room(claim.job, context, landing)
        gathering = Gathering(claim, context, tell, landing, archives, room)
        return _Bundling(cart, claim, context, landing, room, gathering).run()


class _Bundling:
    """One attempt at one cart."""

    def __init__(
        self, cart: Cart, claim: Claim, context: Context, landing: Landing, room: Room, gathering: Gathering
    ) -> None:
        self._cart, self._claim, self._context = cart, claim, context
        self._job, self._form = claim.job, BundleForm.of(claim.job.options)
        self._landing, self._room, self._gathering = landing, room, gathering

    def run(self) -> Outcome:
        """See `bundle`."""
        try:
            self._give_up_on_failed()
            if self._made() is None:
                self._look_for_lost()
                self._gathering.gather()
                if self._gathering.left():
                    return self._put_back()
                if self._form.stored:
                    self._make()
            return self._done()
        except JobStopping:
            # The next worker need not pull again what is here.
            self._gathering.flush()
            raise
        except NoSpace:
            self._gathering.no_room()
            # What is here of it is in the way of others.
            if removal.discard(self._context.volume, self._job.id):
                self._context.carts.removed(self._job.id)
            logger.warning("cart of job %s: there is no room for it", self._job.id)
            return self._ended(JobState.FAILED, NO_SPACE)
        except (OSError, BundleBroken, JobRefused) as error:
            return self._stumbled(error)
        except CartFailed as failed:
            self._gathering.flush()
            # Files may have come that nobody has written down any more.
            self._context.carts.settle(self._job.id, self._landing.size())
            return self._ended(JobState.FAILED, str(failed))

    # -- what is there ------------------------------------------------------------------------

    def _give_up_on_failed(self) -> None:
        """An earlier worker may have died behind a failure that was for good."""
        failed = next((item for item in self._gathering.left() if item.state is ItemState.FAILED), None)
        if failed is not None:
            raise CartFailed(told(failed.reason))

    def _made(self) -> int | None:
        """Return the size of the bundle, if it is stored, and made already; it has its name only when it is whole."""
        if not self._form.stored or self._gathering.left():
            return None
        return self._landing.bundle_size(self._bundle_name)

    @property
    def _bundle_name(self) -> str:
        return self._context.volume.bundle(self._job.id, self._form.format).name

    def _look_for_lost(self) -> None:
        """What is done and not here any more, is to be done again."""
        for item in self._gathering.done():
            if item.target is None or not self._landing.has(item.target.path, item.size):
                self._gathering.items[item.seq] = replace(item, state=ItemState.QUEUED)

    # -- the bundle ---------------------------------------------------------------------------

    def _make(self) -> None:
        """Make the bundle that is stored."""
        self._context.claims.packaging(self._claim)
        size = size_of(self._gathering.done())
        self._room.reserve(2 * size, size)
        name = f"{self._claim.token[:8]}-bundle"
        while True:
            try:
                self._write_bundle(name)
            except OSError as error:
                self._landing.drop(name)
                if error.errno not in FULL:
                    raise
                self._room.make_more()
            else:
                self._landing.place_bundle(name, self._bundle_name)
                return

    def _write_bundle(self, name: str) -> None:
        items = [self._gathering.items[seq] for seq in sorted(self._gathering.items)]
        members = members_of(self._cart, items, self._context.volume, self._cart.uid)
        with self._landing.write(name) as file:
            for piece in pieces(self._form, members):
                self._gathering.check()
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())

    # -- the end ------------------------------------------------------------------------------

    def _done(self) -> Outcome:
        files, made = list(self._gathering.items.values()), self._made()
        self._landing.tidy(files=made is not None)
        size = size_of(files) if made is None else made
        self._context.carts.settle(self._job.id, size)
        logger.info("cart of job %s: ready, with %d files of %d bytes", self._job.id, len(files), size_of(files))
        return self._ended(JobState.DONE, "", **({} if made is None else {"bundle": made}))

    def _put_back(self) -> Outcome:
        return Outcome(
            state=None,
            reason=self._gathering.waits,
            not_before=min(self._gathering.later, default=self._context.clock()),
            endpoints=self._gathering.dead,
            worked=frozenset(self._gathering.worked - set(self._gathering.dead)),
        )

    def _stumbled(self, error: Exception) -> Outcome:
        """Given what went wrong with the cart as a whole, return what comes of it."""
        cause = Trouble(FaultClass.HERE, str(error)) if isinstance(error, BundleBroken) else trouble(error)
        again = self._gathering.again(cause, self._job.attempts - 1)
        words = self._context.scrubbed(str(cause), ())
        if again is None:
            return self._ended(JobState.FAILED, words)
        return Outcome(state=None, reason=words, not_before=again.not_before)

    def _ended(self, state: JobState, reason: str, **more: object) -> Outcome:
        done = self._gathering.done()
        faults = [item.fault for item in self._gathering.items.values() if item.fault]
        return Outcome(
            state=state,
            reason=reason,
            result={"files": len(done), "bytes": size_of(done), **more},
            worked=frozenset(self._gathering.worked - set(self._gathering.dead)),
            fault=FaultClass(faults[0]) if faults else None,
        )


def _without_directory(error: OSError, claim: Claim, context: Context) -> Outcome:
    """Given why the directory of a cart cannot be made, return what comes of it."""
    cause, job = trouble(error), claim.job
    began, now = job.created if job.started is None else job.started, context.clock()
    again = decide_retry(
        cause, context.settings.engine, attempts=job.attempts - 1, began=began, now=now, deadline=job.deadline
    )
    words = f"Failed directory create with error: {cause}"
    if again is not None:
        return Outcome(state=None, reason=words, not_before=again.not_before)
    return Outcome(state=JobState.FAILED, reason=told(words), fault=FaultClass.HERE)

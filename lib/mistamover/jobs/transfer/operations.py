"""Doing a job: all that is left of it, item by item, as often as it takes.

A worker calls `run` with its claim.  What is done, or has failed, is written down in the store at once; how the job as
a whole goes on is the outcome, and the worker's to write down.  Whatever was cut off by a crash is done again here, to
the same result.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import replace

from mistamover.config.serving import EndpointSettings
from mistamover.errors import JobCancelled, JobRefused, TransportError
from mistamover.jobs import results, spool
from mistamover.jobs.model import Claim, Item, ItemState, JobState, Location, Op, Packaging
from mistamover.jobs.transfer import bundling, expanding, importing, packaging, removals, transfers
from mistamover.jobs.transfer.context import Context, Outcome
from mistamover.jobs.transfer.faults import Again, Trouble, decide_retry, one_line, trouble
from mistamover.jobs.transfer.transfers import MOVING, Landed
from mistamover.model import FaultClass

logger = logging.getLogger(__name__)

_ENDED = (ItemState.DONE, ItemState.FAILED, ItemState.CANCELLED)


def run(claim: Claim, context: Context) -> Outcome:
    """Given a claim, do all that can be done of its job now, and return what came of it.

    Raise what the worker's `tell` raises (JobCancelled, JobStopping, LostClaim), and StoreError.
    """
    return _Run(claim, context).run()


class _Run:
    """One attempt at one job."""

    def __init__(self, claim: Claim, context: Context) -> None:
        self._claim = claim
        self._job = claim.job
        self._context = context
        self._tell = context.tell(claim.job.id)
        self._items = {item.seq: item for item in claim.items}
        self._dead: dict[str, str] = {}
        self._worked: set[str] = set()
        self._later: list[float] = []
        self._waits = ""

    def run(self) -> Outcome:
        """See the function of that name."""
        # A removal that has begun is finished, whatever is wanted by now.
        for item in [item for item in self._items.values() if item.state is ItemState.REMOVING]:
            self._attempt(item)
        if self._job.cancelling and any(item.state not in _ENDED for item in self._items.values()):
            raise JobCancelled("somebody wants it to end")
        late = self._job.deadline is not None and self._context.clock() >= self._job.deadline
        if late and any(item.state is not ItemState.DONE for item in self._items.values()):
            return self._failed("it was not done by its deadline")
        if self._job.op is Op.BUNDLE:
            return bundling.bundle(self._claim, self._context, self._tell)
        if self._job.packaging is not Packaging.NONE:
            self._package()
        else:
            self._each()
        return self._outcome()

    # -- items --------------------------------------------------------------------------------

    def _each(self) -> None:
        waiting = deque(item.seq for item in self._items.values() if item.parent is None)
        expanded: set[int] = set()
        while waiting:
            item = self._items[waiting.popleft()]
            if item.state in _ENDED:
                continue
            if item.seq in expanded:
                self._complete(item)
                continue
            children = self._children(item)
            if not children and self._is_due(item):
                children = self._attempt(item) or []
                if not children:
                    continue
            if children:
                # Behind all of these comes what is left of the item itself.
                expanded.add(item.seq)
                waiting.extendleft([item.seq, *(child.seq for child in reversed(children))])

    def _children(self, item: Item) -> list[Item]:
        return [child for child in self._items.values() if child.parent == item.seq]

    def _is_due(self, item: Item) -> bool:
        if item.not_before is not None and item.not_before > self._context.clock():
            self._later.append(item.not_before)
            self._waits = self._waits or item.reason
            return False
        dead = next((name for name in _endpoints(item) if name in self._dead), None)
        if dead is not None:
            # Once in an attempt is enough.
            self._later.append(self._context.clock() + self._context.settings.engine.retry_pause)
            return False
        return True

    def _attempt(self, item: Item) -> list[Item] | None:
        """Do an item; return what it turned out to stand for, None if it is done or has failed."""
        try:
            return self._do(item)
        except (Trouble, TransportError, JobRefused, OSError) as error:
            self._note_failure(item, trouble(error))
            return None

    def _do(self, item: Item) -> list[Item] | None:
        dry = self._dry(item)
        if dry is not None:
            logger.info("job %s: nothing is done at %s, which is set to dry_run", self._job.id, dry.name)
            self._done(item, landed=item.target, size=item.size)
            return None
        if item.state is ItemState.REMOVING:
            landed = transfers.confirmed_before(item)
            transfers.remove_source(item, landed, self._claim, self._context)
            self._arrived(item, landed)
            return None
        if self._job.op is Op.DELETE:
            recursive = bool(self._job.options.get("recursive"))
            removals.remove(item, self._context, self._tell, recursive=recursive)
            self._done(item, landed=None, size=None)
            return None
        new = importing.expanded(item, self._claim, self._context, self._tell)
        if new is None:
            new = expanding.expanded(item, self._context, self._tell)
        if new is not None:
            children = list(self._context.claims.expand(self._claim, item.seq, new))
            self._items.update({child.seq: child for child in children})
            if not children:
                self._complete(item)
            return children
        taken = {each.landed for each in self._items.values() if each.landed is not None and each.seq != item.seq}
        landed = transfers.transfer(item, self._claim, self._context, self._tell, taken)
        if self._job.op in MOVING:
            transfers.remove_source(item, landed, self._claim, self._context)
        self._arrived(item, landed)
        return None

    def _arrived(self, item: Item, landed: Landed) -> None:
        found = landed.arrived
        self._done(item, landed=landed.location, size=found.size, algorithm=found.algorithm, digest=found.digest)
        if item.source.spool:
            spool.remove(self._context.settings.directory, item.source.spool)
        self._worked.update(_endpoints(item))

    def _complete(self, item: Item) -> None:
        """Given an item that stands for others, none of which can be gone on with now, see what that means for it."""
        children = [self._items[child.seq] for child in self._children(item)]
        failed = next((child for child in children if child.state is ItemState.FAILED), None)
        if any(child.state not in _ENDED for child in children):
            return
        try:
            if failed is not None:
                raise Trouble(FaultClass(failed.fault or "refused"), failed.reason, final=True)
            moving = self._job.op in MOVING
            where = item.target
            if item.source.location is not None:
                where = expanding.complete(item, children, self._context, self._tell, moving=moving)
        except (Trouble, TransportError, JobRefused, OSError) as error:
            self._note_failure(item, trouble(error))
            return
        self._done(item, landed=where, size=None)

    def _done(
        self, item: Item, *, landed: Location | None, size: int | None, algorithm: str = "", digest: str = ""
    ) -> None:
        self._context.claims.item_done(
            self._claim, item.seq, landed=landed, algorithm=algorithm, digest=digest, size=size
        )
        self._items[item.seq] = replace(
            item,
            state=ItemState.DONE,
            landed=landed,
            algorithm=algorithm,
            digest=digest,
            size=item.size if size is None else size,
        )
        if item.parent is None and self._job.op in (Op.ACTIVATE, Op.DELETE):
            removals.remove_shelf(item, self._context)

    def _note_failure(self, item: Item, error: Trouble) -> None:
        reason = self._context.scrubbed(str(error), _endpoints(item))
        again = self._again(item, error)
        if error.fault is FaultClass.LINK and error.endpoint:
            self._dead[error.endpoint] = reason
        if again is not None:
            self._later.append(again.not_before)
            self._waits = self._waits or reason
            if again.whole:
                # It costs no attempt: the item just waits.
                self._items[item.seq] = replace(item, reason=reason)
                return
        self._context.claims.item_failed(
            self._claim,
            item.seq,
            fault=error.fault.value,
            reason=reason,
            not_before=None if again is None else again.not_before,
        )
        state = ItemState.FAILED if again is None else ItemState.RETRY
        self._items[item.seq] = replace(item, state=state, fault=error.fault.value, reason=reason)

    def _again(self, item: Item, error: Trouble) -> Again | None:
        job = self._job
        return decide_retry(
            error,
            self._context.settings.engine,
            # What costs no attempt is counted nowhere else.
            attempts=job.attempts - 1 if error.is_patient else item.attempts,
            began=job.created if job.started is None else job.started,
            now=self._context.clock(),
            deadline=job.deadline,
        )

    # -- packages -----------------------------------------------------------------------------

    def _package(self) -> None:
        items = [item for item in self._items.values() if item.state not in _ENDED]
        if not items:
            return
        if any(not self._is_due(item) for item in items):
            return
        if any(self._dry(item) is not None for item in items):
            for item in items:
                self._done(item, landed=self._job.package, size=item.size)
            return
        try:
            where, packed = packaging.package(self._claim, items, self._context, self._tell)
        except (Trouble, TransportError, JobRefused, OSError) as error:
            cause = trouble(error)
            self._note_failure(next((item for item in items if item.seq == cause.seq), items[0]), cause)
            return
        for item, found in zip(items, packed, strict=True):
            self._done(item, landed=where, size=found.size, algorithm=found.algorithm, digest=found.digest)

    # -- the end ------------------------------------------------------------------------------

    def _outcome(self) -> Outcome:
        items = list(self._items.values())
        failed = [item for item in items if item.state is ItemState.FAILED]
        if all(item.state in _ENDED for item in items):
            if not failed:
                return self._ended(JobState.DONE, "")
            # The first is what clients look for; those that only stand for it say no more.
            more = f" (and {len(failed) - 1} more)" if len(failed) > 1 and failed[1].reason != failed[0].reason else ""
            return self._ended(JobState.FAILED, one_line(f"{failed[0].reason}{more}"))
        if self._job.packaging is not Packaging.NONE and failed:
            return self._ended(JobState.FAILED, failed[0].reason)
        return Outcome(
            state=None,
            reason=self._waits,
            not_before=min(self._later, default=self._context.clock()),
            endpoints=self._dead,
            worked=frozenset(self._worked - set(self._dead)),
        )

    def _failed(self, reason: str) -> Outcome:
        return self._ended(JobState.FAILED, reason)

    def _ended(self, state: JobState, reason: str) -> Outcome:
        items = list(self._items.values())
        changed = results.objects(self._job, items, state, self._context.objects.get, self._context.clock())
        return Outcome(
            state=state,
            reason=reason,
            result=results.result(self._job, items, changed),
            objects=changed,
            endpoints=self._dead,
            worked=frozenset(self._worked - set(self._dead)),
            fault=next((FaultClass(item.fault) for item in items if item.fault), None),
        )

    def _dry(self, item: Item) -> EndpointSettings | None:
        package = self._job.package
        for name in [*_endpoints(item), *([package.endpoint] if package is not None else [])]:
            endpoint = self._context.endpoints.get(name)
            if endpoint is not None and endpoint.dry_run:
                return endpoint
        return None


def _endpoints(item: Item) -> list[str]:
    places = (item.source.location, item.target)
    return [place.endpoint for place in places if place is not None]

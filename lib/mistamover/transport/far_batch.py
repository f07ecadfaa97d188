"""One batch on its way to a far end: over one connection, or over several where each answer takes its time.

The first connection is the batch's own and ends it.  Others help as long as they can; what one of them was at when it
was lost is done by another.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from mistamover.errors import LinkError, TargetError
from mistamover.model import Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport.far import FarRefusal
from mistamover.transport.far_source import Abandoned, NotSent, Source
from mistamover.transport.far_writing import Writing

logger = logging.getLogger(__name__)

#: Files that are flushed one by one; more are flushed together at the end of their batch.
_FEW = 8

#: Units for which one more connection is worth its while.
_EACH = 4


class BatchRun:
    """The units of one batch, and what has become of them; worked on by several threads."""

    def __init__(self, units: Sequence[Unit], *, flush: bool, tree: Callable[[Unit, Writing, Source], Verdict]) -> None:
        """Given the units, whether what is confirmed is to be flushed, and what delivers a directory unit, begin."""
        self._units = units
        self._flush = flush
        self._few = flush and len(units) <= _FEW
        self._tree = tree
        self._lock = threading.Lock()
        self._waiting = deque(units)
        self._verdicts: dict[bytes, Verdict] = {}
        self._shown: list[bytes] = []
        self._ended: Abandoned | TargetError | LinkError | None = None
        self.clean = True
        """Whether nothing of ours can be left beside the final names."""

    def helpers(self, most: int) -> int:
        """Given how many connections may work on one batch, return how many are worth having besides the first."""
        if any(unit.kind is Kind.TREE for unit in self._units):
            return 0
        return max(0, min(most, len(self._units) // _EACH) - 1)

    def run(self, writing: Writing, source: Source, helpers: Sequence[Callable[[], None]]) -> list[Verdict]:
        """Given what writes over the first connection, the source, and helpers that call `help`, deliver all.

        Raise TargetError when there is no verdict, LinkError when the first connection is lost; then see `lost`.
        """
        threads = [threading.Thread(target=self._helped, args=(each,), daemon=True) for each in helpers]
        for thread in threads:
            thread.start()
        try:
            self.help(writing, source)
        except LinkError as error:
            self._end(error)
            raise
        finally:
            for thread in threads:
                thread.join()
        # What helpers could not bring to an end.
        self.help(writing, source)
        if isinstance(self._ended, TargetError) and not self._verdicts:
            raise self._ended
        self._finish(writing)
        if isinstance(self._ended, Abandoned):
            self._fail_the_rest(FaultClass.ABANDONED, str(self._ended))
        elif self._ended is not None:
            self._fail_the_rest(FaultClass.TARGET, str(self._ended))
        return list(self._verdicts.values())

    def help(self, writing: Writing, source: Source) -> None:
        """Given what writes over a connection, and a source of its own, deliver units as long as there are any.

        Raise LinkError; the unit that was under way is left to others.
        """
        while (unit := self._next()) is not None:
            try:
                verdict = self._verdict(unit, writing, source)
            except (Abandoned, TargetError) as error:
                self._end(error)
                return
            except BaseException:
                with self._lock:
                    self.clean = False
                    self._waiting.appendleft(unit)
                raise
            with self._lock:
                self._verdicts[unit.name] = verdict
                if isinstance(verdict, Confirmed) and unit.kind is not Kind.TREE:
                    self._shown.append(unit.name)

    def lost(self, error: LinkError, *, flushes: bool) -> list[Verdict]:
        """Given why the first connection was lost, and whether what was confirmed had to be flushed, return the
        verdicts. Raise it if there is none.
        """
        if not self._verdicts:
            raise error
        if self._flush and flushes:
            self._unprove(FaultClass.LINK, f"lost before it was flushed: {error}")
        self._fail_the_rest(FaultClass.LINK, str(error))
        return list(self._verdicts.values())

    # -- inside -------------------------------------------------------------------------------

    def _verdict(self, unit: Unit, writing: Writing, source: Source) -> Verdict:
        """Deliver one unit. Raise Abandoned, LinkError, or TargetError when it is not the unit's fault."""
        try:
            source.go_on()
            return self._deliver(unit, writing, source)
        except Abandoned:
            raise
        except NotSent as error:
            return error.verdict(unit)
        except FarRefusal as error:
            return Failed(unit=unit, fault=FaultClass.REFUSED, reason=str(error))

    def _deliver(self, unit: Unit, writing: Writing, source: Source) -> Verdict:
        if unit.kind is Kind.TREE:
            return self._tree(unit, writing, source)
        if unit.kind is Kind.DIRECTORY:
            writing.above(unit.name)
            return Confirmed(unit=unit, digest="")
        writing.above(unit.name.rpartition(b"/")[0])
        if unit.kind is Kind.LINK:
            writing.link(unit)
            return Confirmed(unit=unit, digest="")
        digest = writing.file(unit, flush=self._few)
        return Confirmed(unit=unit, digest=digest, algorithm=writing.algorithm)

    def _next(self) -> Unit | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting and self._ended is None else None

    def _end(self, error: Abandoned | TargetError | LinkError) -> None:
        with self._lock:
            self._ended = self._ended or error
            if not isinstance(error, Abandoned):
                self.clean = False

    def _helped(self, helper: Callable[[], None]) -> None:
        try:
            helper()
        except (LinkError, TargetError) as error:
            # One that cannot connect, or is lost: the first one does the rest.
            logger.info("one connection less for a batch: %s", error)

    def _finish(self, writing: Writing) -> None:
        """Give directories their times, and have all on disk."""
        try:
            writing.dress()
            if self._flush:
                writing.flush(self._shown)
        except TargetError as error:
            self._unprove(FaultClass.TARGET, str(error))

    def _unprove(self, fault: FaultClass, reason: str) -> None:
        """Take back what is confirmed for want of a flush only."""
        for name in self._shown:
            self._verdicts[name] = Failed(unit=self._verdicts[name].unit, fault=fault, reason=reason)

    def _fail_the_rest(self, fault: FaultClass, reason: str) -> None:
        for unit in self._units:
            if unit.name not in self._verdicts:
                self._verdicts[unit.name] = Failed(unit=unit, fault=fault, reason=reason)

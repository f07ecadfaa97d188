"""The transport for far ends that are rsync and nothing else: a daemon, or an ssh key that is restricted to it.

There is no shell, and nothing can be renamed or flushed by itself.  So each file is flushed by the rsync that writes it
(where it knows how), the temporary names lie in a directory of ours, and what is asked is asked by dry runs.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from mistamover.config.access import NativeAccess
from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.model import Batch, Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport.base import Capabilities, Guard, Zip
from mistamover.transport.rsync_calls import Command
from mistamover.transport.rsync_far import Daemon, RsyncFar
from mistamover.transport.rsync_only_place import OwnPlace, Slot
from mistamover.transport.rsync_only_runs import OnlyRuns
from mistamover.transport.rsync_only_zips import OnlyZips
from mistamover.transport.rsync_output import Line, content_matches
from mistamover.transport.rsync_run import Ended
from mistamover.transport.rsync_terms import Terms
from mistamover.transport.rsync_verdicts import PARTIAL, judge
from mistamover.transport.small_files import SmallFiles

logger = logging.getLogger(__name__)

#: From this size on a file is worth resuming after a broken attempt.
_RESUME_FROM = 16 * 1024 * 1024

#: Bytes that a probe writes: what is empty fits on a full disk.
_PROBED = 4096


class RsyncOnly:
    """One target of one stream; see `Transport`."""

    def __init__(
        self, *, source: bytes, target: TargetSettings, command: Command, far: RsyncFar, run_dir: Path, owner: str
    ) -> None:
        """Given the stream's directory, the target, how rsync is called and gets there, a private directory, and a name
        that is ours alone, do nothing yet.
        """
        self._source = source
        self._target = target
        self._command = command
        self._far = far
        self._run_dir = run_dir
        self._terms = Terms(hash=target.hash)
        if not far.secluded:
            self._terms.give_up("--secluded-args")
        self._runs = OnlyRuns(command=command, far=far, directory=target.directory, terms=self._terms, run_dir=run_dir)
        self._place = OwnPlace(self._runs, owner)
        self._zips = OnlyZips(runs=self._runs, place=self._place, terms=self._terms)
        self._small_files = SmallFiles(self._runs, run_dir)
        self._opening = threading.Lock()
        self._opened = False
        self._said: set[str] = set()

    # -- made ready ---------------------------------------------------------------------------

    def open(self) -> Capabilities:
        """See `Transport.open`."""
        self._ready()
        flushed = "each file flushed there" if self._flushes else "the server is trusted to write to its disk"
        return Capabilities(
            description=f"{self._far.description()}, {self._terms.proof}, {flushed}",
            trees=False,
            removal=self._place.usable,
            ways=self._ways(),
        )

    @property
    def _flushes(self) -> bool:
        return self._terms.allows("--fsync")

    def _ready(self) -> None:
        with self._opening:
            if self._opened:
                self._far.open()
                return
            self._run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._far.open()
            if b"." not in self._runs.existing([], [b"."]):
                self._make_target()
            if self._runs.can_remove():
                self._take_place()
            self._opened = True
            self._say_what_lacks()

    def _make_target(self) -> None:
        top, rest = self._far.top_and_rest(self._target.directory)
        parts = rest.split("/")
        names = [os.fsencode("/".join(parts[: count + 1])) for count in range(len(parts))]
        self._runs.make_directories(names, top=top)

    def _take_place(self) -> None:
        with self._place.slot() as slot:
            assert slot is not None
            if why := self._place.prove(slot):
                raise TargetError(f"{self._far.description()}: nothing can be written there: {why}")
            slot.clean = True

    def _say_what_lacks(self) -> None:
        """Tell the operator once what this target cannot do."""
        where = f"{self._far.description()}:"
        if not self._flushes:
            self._say(f"{where} rsync there cannot be asked to flush (--fsync): the server is trusted with that")
        if not self._place.usable:
            self._say(f"{where} nothing can be removed there: what a crash leaves there stays, under dot-names")
        elif not self._terms.allows("--temp-dir"):
            self._say(f"{where} what a crash leaves beside the final names, under dot-names, stays there")
        if self._terms.algorithm:
            self._say(f"{where} rsync there does not know {self._target.hash}: files are proven by {self._terms.proof}")
        if self._target.reserve:
            self._say(f"{where} cannot tell what is free: target_reserve has no effect")

    def _say(self, words: str) -> None:
        if words not in self._said:
            self._said.add(words)
            logger.warning("%s", words)

    def _ways(self) -> tuple[tuple[str, str], ...]:
        temporary = self._place.usable and self._terms.allows("--temp-dir")
        resume = self._place.usable and self._terms.allows("--partial-dir")
        return (
            ("rename", "by rsync, from a directory of ours" if temporary else "by rsync, from dot-names"),
            ("flush", "by rsync, file by file (--fsync)" if self._flushes else ""),
            ("hash", f"{self._terms.proof}, computed by rsync at both ends"),
            ("resume", f"from {_RESUME_FROM >> 20} MiB on" if resume else ""),
            ("directories", "as zips"),
            ("removal", "by rsync" if self._place.usable else ""),
        )

    # -- delivery -----------------------------------------------------------------------------

    def suspended(self) -> bool:
        """See `Transport.suspended`."""
        self._ready()
        stop = os.fsencode(self._target.stop_file)
        ours, witness = self._place.names, self._place.witness
        there = self._runs.existing([name for name in (stop, witness) if name], [b".", *ours])
        if b"." not in there:
            self._opened = False
            self._place.forget()
            raise TargetError(f"{self._far.description()}: the directory {self._target.directory} is gone")
        if not there.issuperset(ours):
            self._place.forget()
        elif witness and witness not in there and stop:
            return self._stops_by_reading(stop)
        return stop in there

    def _stops_by_reading(self, stop: bytes) -> bool:
        """Look for the stop file where a server writes nothing over what is there, and so says nothing of it."""
        found = self._runs.readable(stop)
        if found is None:
            self._say(f"{self._far.description()}: cannot be read: a stop file there is not seen")
        return bool(found)

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `Transport.deliver`."""
        return self._deliver(batch, guard, flush=True)

    def deliver_unflushed(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `MessagingTransport.deliver_unflushed`."""
        return self._deliver(batch, guard, flush=False)

    def _deliver(self, batch: Batch, guard: Guard, *, flush: bool) -> list[Verdict]:
        self._ready()
        trees = [unit for unit in batch.units if unit.kind is Kind.TREE]
        units = [unit for unit in batch.units if unit.kind is not Kind.TREE]
        reason = "rsync alone cannot let a whole directory appear at once: it has to travel as a zip"
        refused: list[Verdict] = [Failed(unit=unit, fault=FaultClass.REFUSED, reason=reason) for unit in trees]
        if not units:
            return refused
        with self._place.slot() as slot:
            run = self._send(units, guard, slot, flush=flush)
            verdicts = judge(
                self._source,
                units,
                run,
                lost=False,
                second_look=self._second_look,
                algorithm=self._terms.algorithm,
            )
            verdicts = self._without_bent_links(self._without_passed_over(verdicts))
            sealed = not flush or self._seal(slot, verdicts)
            if slot is not None:
                slot.clean = run.status == 0 and sealed
        if not sealed:
            verdicts = [_unproven(verdict) for verdict in verdicts]
        return [*verdicts, *refused]

    def _send(self, units: Sequence[Unit], guard: Guard, slot: Slot | None, *, flush: bool) -> Ended:
        resume: list[str] = []
        if slot is not None and len(units) == 1 and units[0].identity.size >= _RESUME_FROM:
            resume = [self._place.anchored(f"{self._place.path}/p-{units[0].key()}")]

        def words() -> list[str]:
            terms = self._terms
            argv = self._command.data(self._command.resent(), *terms.exact(), *self._place.words(slot))
            argv += terms.some("--fsync") if flush else []
            if resume and terms.allows("--partial-dir"):
                argv += [*terms.some("--partial-dir", *resume), "--info=progress2", "--outbuf=N"]
            return argv

        return self._runs.run(words, [unit.name for unit in units], here=self._source, guard=guard)

    def _without_passed_over(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Look again at what rsync said nothing of: a server may write nothing over what is there (-no-overwrite)."""
        passed = [v.unit for v in verdicts if isinstance(v, Failed) and v.fault is FaultClass.BUG]
        if not passed:
            return list(verdicts)
        same = self._second_look(passed) or {}
        reason = "the server has not taken it: is it there already, with another content, and never overwritten?"
        again: dict[bytes, Verdict] = {
            unit.name: Confirmed(unit=unit, digest=same[unit.name].digest, algorithm=self._terms.algorithm)
            if unit.name in same
            else Failed(unit=unit, fault=FaultClass.REFUSED, reason=reason)
            for unit in passed
        }
        return [again.get(verdict.unit.name, verdict) for verdict in verdicts]

    def _without_bent_links(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """See whether links lead there where they lead here: a daemon without chroot takes the root off their way."""
        names = [v.unit.name for v in verdicts if isinstance(v, Confirmed) and v.unit.kind is Kind.LINK]
        if not names:
            return list(verdicts)
        there = self._runs.links(names)
        reason = "the server changes where this link leads: its module needs `use chroot` or `munge symlinks`"
        return [
            Failed(unit=verdict.unit, fault=FaultClass.REFUSED, reason=reason)
            if verdict.unit.name in names and self._is_bent(verdict.unit.name, there)
            else verdict
            for verdict in verdicts
        ]

    def _is_bent(self, name: bytes, there: Mapping[bytes, bytes] | None) -> bool:
        try:
            here = os.readlink(self._source + b"/" + name)
        except OSError:
            # Changed or gone: it is not removed for that either.
            return False
        if there is None:
            # What leads nowhere else is changed by no server.
            return here.startswith(b"/") or b".." in here.split(b"/")
        return there.get(name) != here

    def _seal(self, slot: Slot | None, verdicts: Sequence[Verdict]) -> bool:
        """Have the new names on disk as well: they are, when something that was written later is."""
        confirmed = any(isinstance(verdict, Confirmed) for verdict in verdicts)
        if slot is None or not confirmed or not self._flushes:
            return True
        return not self._place.prove(slot)

    def _second_look(self, units: Sequence[Unit]) -> dict[bytes, Line] | None:
        """Compare the content of units at both ends; return the lines that match, None if that is impossible."""
        run = self._runs.run(
            lambda: self._command.data("--dry-run", "--checksum", *self._terms.exact()),
            [unit.name for unit in units],
            here=self._source,
        )
        if run.status != 0 and run.status not in PARTIAL:
            return None
        return {name: line for name, line in run.lines.items() if content_matches(line)}

    def deliver_zip(self, made: Zip, guard: Guard) -> Verdict:
        """See `Transport.deliver_zip`."""
        self._ready()
        return self._zips.deliver(made, guard)

    # -- the rest of the contract -------------------------------------------------------------

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        """See `Transport.remove`."""
        self._ready()
        if not self._place.usable:
            raise TargetError(f"{self._far.description()}: nothing can be removed there")
        gone = self._runs.remove(names)
        return [name for name in names if name in gone]

    def put(self, files: Mapping[bytes, bytes]) -> None:
        """See `Messenger.put`."""
        self._ready()
        self._small_files.put(files)

    def fetch(self, names: Sequence[bytes], longest: int, patience: float) -> dict[bytes, bytes]:
        """See `Messenger.fetch`."""
        self._ready()
        return self._small_files.fetch(names, longest, patience)

    def probe(self) -> None:
        """See `Transport.probe`; where nothing can be removed, nothing is written."""
        self.suspended()
        with self._place.slot() as slot:
            if slot is not None:
                if why := self._place.prove(slot, bytes(_PROBED)):
                    raise TargetError(f"{self._far.description()}: nothing can be written there: {why}")
                self._place.unprove(slot)
                slot.clean = True

    def abort(self) -> None:
        """See `Transport.abort`."""
        self._runs.abort()

    def close(self, *, finished: bool) -> None:
        """See `Transport.close`."""
        if self._opened:
            with contextlib.suppress(LinkError, TargetError):
                self._place.leave(finished=finished)
        self._opened = False
        self._far.close()


def _unproven(verdict: Verdict) -> Verdict:
    if isinstance(verdict, Failed):
        return verdict
    return Failed(unit=verdict.unit, fault=FaultClass.LINK, reason="nothing proves that it is on disk there")


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> RsyncOnly:
    """See `registry.Maker`: to an rsync daemon."""
    settings = cast("NativeAccess", target.access)
    return RsyncOnly(
        source=os.fsencode(stream.directory),
        target=target,
        command=Command(
            rsync=settings.rsync,
            section="rsync_native",
            use_checksum=settings.use_checksum,
            bandwidth_limit=settings.bandwidth_limit,
        ),
        far=Daemon(settings, stream.state_dir / "run"),
        run_dir=stream.state_dir / "run",
        owner=owner,
    )

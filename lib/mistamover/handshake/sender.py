"""The sender's side: a transport that counts a delivery only when the agent at the target has given a receipt for it.

Wraps the transport that carries the data.  When a batch is at the target, whole and flushed, one control file for each
of its files is put beside them, all in one go; then one look after the other is taken for the receipts, until all are
there or it has taken too long; then all thank-you files are put.  A receipt counts if it says success and names the
same file, size and checksum; whatever else it says, the file is sent again.
"""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from mistamover.config.settings import HandshakeSettings
from mistamover.errors import LinkError, MistamoverError, PeerFileError, TargetError
from mistamover.files import digests
from mistamover.files.names import display
from mistamover.handshake import lists, messages
from mistamover.handshake.announcing import Errand, Message, many, read, single
from mistamover.handshake.messages import Checksum
from mistamover.handshake.receipts import Book, Entry
from mistamover.model import Batch, Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport.base import Capabilities, Guard, MessagingTransport, Zip

logger = logging.getLogger(__name__)

#: Seconds between the first looks for receipts; grows up to the interval that is set.
_FIRST_LOOK = 0.01

#: Seconds that one look may wait for a receipt: nothing else is heard meanwhile.
_LONGEST_LOOK = 0.1

#: Units that are announced in one list (measured with 400, 800, 1,250 and 2,500).
_PART = 800

#: So many times the interval, and so many seconds at least, may pass without a new receipt, when others of the batch
#: have come, before what is left of it is given up for this time: one file must not keep thousands.
_SILENCE, _LEAST_SILENCE = 3, 10.0

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True, kw_only=True)
class _Round:
    """What has come of a batch so far."""

    waiting: dict[bytes, Message] = field(default_factory=dict)
    """By the path of the receipt."""
    verdicts: list[Verdict] = field(default_factory=list)
    thanks: dict[bytes, bytes] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    fault: LinkError | TargetError | None = None
    """Why not all of it could be sent, announced and answered."""


class Receipted:
    """See the module, and `transport.base.Transport`."""

    def __init__(
        self,
        inner: MessagingTransport,
        *,
        source: bytes,
        peer: str,
        settings: HandshakeSettings,
        algorithm: str,
        book: Book,
    ) -> None:
        """Given the transport of the data, the stream's directory, the name of the target, how the handshake goes, the
        hash that the transport confirms with, and where receipts are kept, do nothing yet.
        """
        self._inner = inner
        self._source = source
        self._peer = peer
        self._settings = settings
        self._algorithm = algorithm
        self._book = book
        self._thanking = ThreadPoolExecutor(1, thread_name_prefix="thanks")
        """Nobody waits for thank-you files to be put."""
        self._lists = settings.algorithm != messages.PLAIN
        """Whether the other agent is known to understand lists."""

    def open(self) -> Capabilities:
        """See `Transport.open`."""
        inner = self._inner.open()
        return Capabilities(
            description=f"{inner.description}, with receipts ({self._settings.algorithm})",
            trees=inner.trees,
            removal=inner.removal,
            ways=inner.ways,
        )

    def suspended(self) -> bool:
        """See `Transport.suspended`."""
        return self._inner.suspended()

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `Transport.deliver`; confirmed is what has a receipt."""
        going = _Round()
        units = self._sendable(batch, going)
        for part in self._parts(batch.number, units):
            if not self._send(part, going, guard):
                break
        # All of it has been read: no writer has to wait for the other agent.
        guard.read_enough()
        return self._conclude(units, going, guard)

    def deliver_zip(self, made: Zip, guard: Guard) -> Verdict:
        """See `Transport.deliver_zip`; confirmed is what has a receipt."""
        verdict = self._inner.deliver_zip(made, guard)
        if isinstance(verdict, Failed):
            return verdict
        handle = os.open(made.path, _OPEN)
        try:
            digest, size = digests.of_file(handle, self._settings.algorithm)
        finally:
            os.close(handle)
        checksum = Checksum(algorithm=self._settings.algorithm, digest=digest)
        errand = Errand(confirmed=verdict, directory=b"", item=verdict.unit.name, size=size, checksum=checksum)
        going = _Round()
        try:
            self._announce([errand], going)
        except (LinkError, TargetError) as error:
            going.fault = error
        (judged,) = self._conclude([verdict.unit], going, guard)
        return judged

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        """See `Transport.remove`."""
        return self._inner.remove(names)

    def probe(self) -> None:
        """See `Transport.probe`."""
        self._inner.probe()

    def abort(self) -> None:
        """See `Transport.abort`."""
        self._inner.abort()

    def close(self, *, finished: bool) -> None:
        """See `Transport.close`."""
        # What was thanked for is not left lying there.
        self._thanking.shutdown()
        self._inner.close(finished=finished)
        self._book.close()

    # -- the steps of a round -----------------------------------------------------------------

    def _sendable(self, batch: Batch, going: _Round) -> list[Unit]:
        """Leave out what no control file could speak of."""
        good = []
        settings = self._settings
        for unit in batch.units:
            item = unit.name.rpartition(b"/")[2]
            if messages.can_be_named(item, settings.control_suffix, settings.receipt_suffix):
                good.append(unit)
            else:
                reason = "its name is too long for a control file, or holds a newline: the other agent cannot be told"
                going.verdicts.append(Failed(unit=unit, fault=FaultClass.REFUSED, reason=reason))
        return good

    def _parts(self, number: int, units: Sequence[Unit]) -> Iterator[Batch]:
        """Yield what is sent and announced together: while a part is looked at there, the next one is on its way."""
        # Names of one file stay links of one file only if they travel together.
        whole = not self._lists or any(unit.links > 1 for unit in units)
        most = len(units) if whole else _PART
        for begin in range(0, len(units), most or 1):
            some = units[begin : begin + most]
            yield Batch(number=number, units=some, size=sum(unit.identity.size for unit in some))

    def _send(self, part: Batch, going: _Round, guard: Guard) -> bool:
        """Send and announce a part; return whether more can follow. Raise only if nothing has been announced yet."""
        # An agent that understands lists flushes before it gives a receipt; for an empty directory there is none.
        receipted = self._lists and all(unit.kind is not Kind.DIRECTORY for unit in part.units)
        deliver = self._inner.deliver_unflushed if receipted else self._inner.deliver
        try:
            sent: list[Confirmed] = []
            for verdict in deliver(part, guard):
                if isinstance(verdict, Failed) or verdict.unit.kind is Kind.DIRECTORY:
                    going.verdicts.append(verdict)
                else:
                    sent.append(verdict)
            errands = [errand for each in sent if (errand := self._errand(each, guard, going)) is not None]
            self._announce(errands, going)
        except (LinkError, TargetError) as error:
            going.fault = error
            return False
        return True

    def _conclude(self, units: Sequence[Unit], going: _Round, guard: Guard) -> list[Verdict]:
        """Await the receipts for what was announced, thank for them, and return the verdicts of all units.

        Raise LinkError or TargetError if there can be none.
        """
        if going.fault is not None and not going.waiting and not going.verdicts:
            raise going.fault
        try:
            self._await_receipts(going, guard)
        except (LinkError, TargetError) as error:
            # What has its receipt keeps it; the rest is sent again.
            going.fault = error
        self._book.add(going.entries)
        if going.thanks:
            self._thanking.submit(self._thank, going.thanks)
        if going.fault is not None:
            fault = FaultClass.LINK if isinstance(going.fault, LinkError) else FaultClass.TARGET
            judged = {verdict.unit.name for verdict in going.verdicts}
            going.verdicts += [_failed(unit, fault, str(going.fault)) for unit in units if unit.name not in judged]
        return going.verdicts

    def _errand(self, confirmed: Confirmed, guard: Guard, going: _Round) -> Errand | None:
        """Measure what has been sent; None if it cannot be read again."""
        directory, _, item = confirmed.unit.name.rpartition(b"/")
        try:
            checksum, size = self._checksum(confirmed, guard)
        except OSError as error:
            reason = f"cannot be read again: {error.strerror}"
            going.verdicts.append(_failed(confirmed.unit, FaultClass.CHANGED, reason))
            return None
        return Errand(confirmed=confirmed, directory=directory, item=item, size=size, checksum=checksum)

    def _announce(self, errands: Sequence[Errand], going: _Round) -> None:
        """Put the control files of what has been sent: one for all where the other agent understands that.

        Raise LinkError or TargetError.
        """
        if not errands:
            return
        now = time.time()
        settings = self._settings
        made = [many(errands, now, settings)] if self._lists else [single(each, now, settings) for each in errands]
        self._inner.put({message.path: message.content for message in made})
        going.waiting.update((message.receipt, message) for message in made)

    def _checksum(self, confirmed: Confirmed, guard: Guard) -> tuple[Checksum, int]:
        """Return the checksum of what was confirmed, in the algorithm that the other agent is told. Raise OSError."""
        unit, algorithm = confirmed.unit, self._settings.algorithm
        if unit.kind is Kind.TREE:
            digest, size = digests.of_tree(self._source, unit.name, unit.manifest, algorithm)
            return Checksum(algorithm=algorithm, digest=digest, tree=True), size
        if (confirmed.algorithm or self._algorithm) == algorithm and algorithm != "xxh128":
            return Checksum(algorithm=algorithm, digest=confirmed.digest), unit.identity.size
        held = guard.handle(unit.name)
        handle = os.open(self._source + b"/" + unit.name, _OPEN) if held is None else held
        try:
            digest, size = digests.of_file(handle, algorithm)
        finally:
            if held is None:
                os.close(handle)
        return Checksum(algorithm=algorithm, digest=digest), size

    def _thank(self, thanks: dict[bytes, bytes]) -> None:
        try:
            self._inner.put(thanks)
        except (MistamoverError, OSError) as error:
            # Nobody waits for this thread: what goes wrong is said here or nowhere.
            # The other agent removes receipts that nobody thanked for when they are old.
            logger.warning("%s: %d thank-you files could not be put: %s", self._peer, len(thanks), error)

    def _await_receipts(self, going: _Round, guard: Guard) -> None:
        """Look for receipts until all are there, the stream wants an end, or it has taken too long."""
        poll = select.poll()
        poll.register(guard.fileno(), select.POLLIN)
        pause, last_news = _FIRST_LOOK, time.monotonic()
        limit = last_news + self._settings.longest_wait
        some = False
        while going.waiting:
            begin = time.monotonic()
            found = self._inner.fetch(list(going.waiting), lists.MOST_BYTES, _LONGEST_LOOK)
            for path, content in found.items():
                self._take(going, path, content)
            now = time.monotonic()
            if found:
                some, last_news, pause = True, now, _FIRST_LOOK
            deadline = guard.deadline()
            if deadline is not None and now >= deadline:
                self._leave(going, FaultClass.ABANDONED, "the attempt was ended because something else came first")
            elif some and now - last_news > max(_LEAST_SILENCE, _SILENCE * self._settings.interval):
                # That agent may have died in the middle: no attempt is counted against these.
                self._leave(going, FaultClass.TARGET, "the other agent gave receipts for others, but none for these")
            elif now >= limit:
                words = f"no receipt in {self._settings.longest_wait:g} s: is there an arrival monitor in {self._peer}?"
                self._leave(going, FaultClass.TARGET, words)
            elif going.waiting:
                patience = min(pause, limit - now, deadline - now if deadline is not None else pause)
                poll.poll(1000 * max(0.0, patience - (now - begin)))
                pause = min(2 * pause, max(self._settings.interval, _FIRST_LOOK))

    def _take(self, going: _Round, path: bytes, content: bytes) -> None:
        """Take a receipt in: judge what it says of each unit, and thank for it."""
        message = going.waiting.pop(path)
        try:
            answer = read(message, content)
        except PeerFileError as error:
            names = ", ".join(display(name) for name in list(message.errands)[:3])
            logger.warning("the receipt for %s is refused: %s", names, error)
            words = f"its receipt is refused: {error}"
            going.verdicts += [_failed(e.confirmed.unit, FaultClass.REFUSED, words) for e in message.errands.values()]
            return
        self._lists = self._lists or answer.lists
        going.thanks[answer.thanks] = messages.compose_thanks(path.rpartition(b"/")[2])
        receipt, now = path.rpartition(b"/")[2], time.time()
        for name, errand in message.errands.items():
            refusal = answer.refused.get(name)
            if refusal is not None:
                words = f"the other agent says: {refusal.words}"
                going.verdicts.append(_failed(errand.confirmed.unit, refusal.fault, words))
                continue
            going.verdicts.append(errand.confirmed)
            going.entries.append(self._entry(errand, receipt, now))

    def _entry(self, errand: Errand, receipt: bytes, now: float) -> Entry:
        unit = errand.confirmed.unit
        return Entry(
            name=unit.name,
            size=errand.size,
            checksum=str(errand.checksum),
            at=now,
            peer=self._peer,
            receipt=receipt,
            mtime_ns=unit.identity.mtime_ns,
        )

    def _leave(self, going: _Round, fault: FaultClass, reason: str) -> None:
        for message in going.waiting.values():
            going.verdicts += [_failed(errand.confirmed.unit, fault, reason) for errand in message.errands.values()]
        going.waiting.clear()


def _failed(unit: Unit, fault: FaultClass, reason: str) -> Failed:
    return Failed(unit=unit, fault=fault, reason=reason)

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
from collections.abc import Sequence
from dataclasses import dataclass, field

from mistamover.config.settings import HandshakeSettings
from mistamover.errors import LinkError, PeerFileError, TargetError
from mistamover.files import digests
from mistamover.files.names import display
from mistamover.handshake import messages
from mistamover.handshake.messages import Checksum, Control, Receipt, Status
from mistamover.handshake.receipts import Book, Entry
from mistamover.model import Batch, Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport.base import Capabilities, Guard, MessagingTransport

logger = logging.getLogger(__name__)

#: Seconds between the first looks for receipts; grows up to the interval that is set.
_FIRST_LOOK = 0.01

#: So many times the interval, and so many seconds at least, may pass without a new receipt, when others of the batch
#: have come, before what is left of it is given up for this time: one file must not keep thousands.
_SILENCE, _LEAST_SILENCE = 3, 10.0

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True, kw_only=True)
class _Errand:
    """One unit that waits for its receipt."""

    confirmed: Confirmed
    directory: bytes
    control: Control

    @property
    def receipt_path(self) -> bytes:
        """The receipt's name, relative to the target directory."""
        return _join(self.directory, self.control.receipt)


@dataclass(slots=True, kw_only=True)
class _Round:
    """What has come of a batch so far."""

    waiting: dict[bytes, _Errand] = field(default_factory=dict)
    """By the path of the receipt."""
    verdicts: list[Verdict] = field(default_factory=list)
    thanks: dict[bytes, bytes] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)


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

    def open(self) -> Capabilities:
        """See `Transport.open`."""
        inner = self._inner.open()
        return Capabilities(
            description=f"{inner.description}, with receipts ({self._settings.algorithm})",
            trees=inner.trees,
            removal=inner.removal,
        )

    def suspended(self) -> bool:
        """See `Transport.suspended`."""
        return self._inner.suspended()

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `Transport.deliver`; confirmed is what has a receipt."""
        going = _Round()
        sent: list[Confirmed] = []
        for verdict in self._inner.deliver(self._sendable(batch, going), guard) if batch.units else []:
            if isinstance(verdict, Failed) or verdict.unit.kind is Kind.DIRECTORY:
                going.verdicts.append(verdict)
            else:
                sent.append(verdict)
        # All of it has been read: no writer has to wait for the other agent.
        guard.read_enough()
        now = time.time()
        for confirmed in sent:
            self._announce(confirmed, guard, now, going)
        try:
            self._inner.put(self._controls(going))
            self._await_receipts(going, guard)
        except (LinkError, TargetError) as error:
            # What has its receipt keeps it; the rest is sent again.
            fault = FaultClass.LINK if isinstance(error, LinkError) else FaultClass.TARGET
            self._leave(going, fault, str(error))
        self._book.add(going.entries)
        self._thank(going.thanks)
        return going.verdicts

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
        self._inner.close(finished=finished)
        self._book.close()

    # -- the steps of a round -----------------------------------------------------------------

    def _sendable(self, batch: Batch, going: _Round) -> Batch:
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
        return (
            batch if len(good) == len(batch.units) else Batch(number=batch.number, units=tuple(good), size=batch.size)
        )

    def _announce(self, confirmed: Confirmed, guard: Guard, now: float, going: _Round) -> None:
        """Make the control file of what has been sent."""
        unit = confirmed.unit
        directory, _, item = unit.name.rpartition(b"/")
        try:
            checksum, size = self._checksum(confirmed, guard)
        except OSError as error:
            going.verdicts.append(_failed(unit, FaultClass.CHANGED, f"cannot be read again: {error.strerror}"))
            return
        receipt = messages.stamped_name(item, now, self._settings.receipt_suffix)
        control = Control(item=item, size=size, checksum=checksum, receipt=receipt)
        errand = _Errand(confirmed=confirmed, directory=directory, control=control)
        going.waiting[errand.receipt_path] = errand

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

    def _controls(self, going: _Round) -> dict[bytes, bytes]:
        suffix = self._settings.control_suffix
        return {
            _join(each.directory, messages.control_name(each.control.item, suffix)): (
                messages.compose_control(each.control)
            )
            for each in going.waiting.values()
        }

    def _thank(self, thanks: dict[bytes, bytes]) -> None:
        try:
            self._inner.put(thanks)
        except (LinkError, TargetError) as error:
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
            found = self._inner.fetch(list(going.waiting), messages.MOST_BYTES)
            for path, content in found.items():
                self._take(going, path, content)
            now = time.monotonic()
            if found:
                some, last_news, pause = True, now, _FIRST_LOOK
            deadline = guard.deadline()
            if deadline is not None and now >= deadline:
                self._leave(going, FaultClass.ABANDONED, "the attempt was ended because something else came first")
            elif some and now - last_news > max(_LEAST_SILENCE, _SILENCE * self._settings.interval):
                self._leave(
                    going, FaultClass.REFUSED, "the other agent gave a receipt for others, but not for this one"
                )
            elif now >= limit:
                words = f"no receipt in {self._settings.longest_wait:g} s: is there an arrival monitor in {self._peer}?"
                self._leave(going, FaultClass.TARGET, words)
            elif going.waiting:
                patience = min(pause, limit - now, deadline - now if deadline is not None else pause)
                poll.poll(1000 * max(0.0, patience))
                pause = min(2 * pause, max(self._settings.interval, _FIRST_LOOK))

    def _take(self, going: _Round, path: bytes, content: bytes) -> None:
        """Take a receipt in: judge it, and thank for it."""
        errand = going.waiting.pop(path)
        unit = errand.confirmed.unit
        try:
            receipt = messages.parse_receipt(content)
        except PeerFileError as error:
            logger.warning("%s: its receipt is refused: %s", display(unit.name), error)
            going.verdicts.append(_failed(unit, FaultClass.REFUSED, f"its receipt is refused: {error}"))
            return
        going.thanks[_join(errand.directory, receipt.thanks)] = messages.compose_thanks(errand.control.receipt)
        refusal = _why_not(errand.control, receipt)
        if refusal is not None:
            fault = FaultClass.TARGET if receipt.status is Status.IO_ERROR else FaultClass.REFUSED
            going.verdicts.append(_failed(unit, fault, f"the other agent says: {refusal}"))
            return
        going.verdicts.append(errand.confirmed)
        going.entries.append(
            Entry(
                name=unit.name,
                size=errand.control.size,
                checksum=str(errand.control.checksum),
                at=time.time(),
                peer=self._peer,
                receipt=errand.control.receipt,
            )
        )

    def _leave(self, going: _Round, fault: FaultClass, reason: str) -> None:
        going.verdicts += [_failed(errand.confirmed.unit, fault, reason) for errand in going.waiting.values()]
        going.waiting.clear()


def _why_not(control: Control, receipt: Receipt) -> str | None:
    """Given what was said and what was answered, return why that is no success; None if it is."""
    if receipt.item != control.item:
        return f"it speaks of {display(receipt.item)}"
    if receipt.status is not Status.OK:
        return receipt.status.words
    if receipt.size != control.size:
        return f"it has {receipt.size} bytes there, {control.size} here"
    if receipt.checksum.lower() != str(control.checksum):
        return f"its checksum there is {display(receipt.checksum[:150].encode())}, not {control.checksum}"
    return None


def _failed(unit: Unit, fault: FaultClass, reason: str) -> Failed:
    return Failed(unit=unit, fault=fault, reason=reason)


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name

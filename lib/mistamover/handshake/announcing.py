"""What the sender of a batch says, and how it takes the answers: control files made, receipts judged.  Pure.

One message announces one unit, as deployed agents know it, or many where the other agent understands lists.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mistamover.config.settings import HandshakeSettings
from mistamover.errors import PeerFileError
from mistamover.files.names import display
from mistamover.handshake import lists, messages
from mistamover.handshake.lists import ControlList
from mistamover.handshake.messages import Checksum, Control, Receipt, Status
from mistamover.model import Confirmed, FaultClass

#: What is wrong with the other end, not with a file: the data of a list were there before it, so what is missing was
#: taken away there, or lost in a crash.
_NOT_OURS = (Status.IO_ERROR, Status.NO_SUCH_FILE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One unit that waits for its receipt."""

    confirmed: Confirmed
    directory: bytes
    item: bytes
    size: int
    checksum: Checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One control file, of one unit or of many."""

    path: bytes
    content: bytes
    receipt: bytes
    """The path of the receipt; this and the control file's are relative to the target directory."""
    errands: dict[bytes, Errand]
    """By name."""
    is_list: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a unit was not taken."""

    fault: FaultClass
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a receipt says."""

    thanks: bytes
    """The path of the thank-you file that is wanted."""
    refused: dict[bytes, Refusal]
    """Units that were not taken, by name; all others were."""
    lists: bool
    """Whether the other agent is known to understand lists."""


def single(errand: Errand, now: float, settings: HandshakeSettings) -> Message:
    """Given a unit, the time and the settings, return the control file that announces it."""
    receipt = messages.stamped_name(errand.item, now, settings.receipt_suffix)
    control = Control(item=errand.item, size=errand.size, checksum=errand.checksum, receipt=receipt)
    return Message(
        path=_join(errand.directory, messages.control_name(errand.item, settings.control_suffix)),
        content=messages.compose_control(control),
        receipt=_join(errand.directory, receipt),
        errands={errand.confirmed.unit.name: errand},
        is_list=False,
    )


def many(errands: Sequence[Errand], now: float, settings: HandshakeSettings) -> Message:
    """Given units, the time and the settings, return the list that announces them all."""
    item = lists.ITEM + os.urandom(8).hex().encode()
    receipt = messages.stamped_name(item, now, settings.receipt_suffix)
    entries = tuple(
        lists.Entry(name=each.confirmed.unit.name, size=each.size, checksum=each.checksum) for each in errands
    )
    return Message(
        path=messages.control_name(item, settings.control_suffix),
        content=lists.compose_control(ControlList(receipt=receipt, entries=entries)),
        receipt=receipt,
        errands={errand.confirmed.unit.name: errand for errand in errands},
        is_list=True,
    )


def read(message: Message, content: bytes) -> Answer:
    """Given a message and the content of its receipt, return what it says. Raise PeerFileError if that is nothing."""
    if message.is_list:
        listed = lists.parse_receipt(content)
        if listed.control != lists.digest_of(message.content):
            raise PeerFileError("it is the answer to another list")
        refused = {answer.name: _refusal(answer.status, answer.size, _NOT_OURS) for answer in listed.wrong}
        return Answer(thanks=listed.thanks, refused=refused, lists=True)
    receipt = messages.parse_receipt(content)
    ((name, errand),) = message.errands.items()
    if receipt.item != errand.item:
        raise PeerFileError(f"it speaks of {display(receipt.item)}")
    refusal = _why_not(errand, receipt)
    refused = {name: refusal} if refusal is not None else {}
    return Answer(thanks=_join(errand.directory, receipt.thanks), refused=refused, lists=receipt.lists)


def _why_not(errand: Errand, receipt: Receipt) -> Refusal | None:
    """Given what was said and what was answered, return why that is no success; None if it is."""
    if receipt.status is not Status.OK:
        return _refusal(receipt.status, receipt.size, (Status.IO_ERROR,))
    if receipt.size != errand.size:
        words = f"it has {receipt.size} bytes there, {errand.size} here"
    elif receipt.checksum.lower() != str(errand.checksum):
        words = f"its checksum there is {display(receipt.checksum[:150].encode())}, not {errand.checksum}"
    else:
        return None
    return Refusal(fault=FaultClass.REFUSED, words=words)


def _refusal(status: Status, size: int, not_ours: Collection[Status]) -> Refusal:
    fault = FaultClass.TARGET if status in not_ours else FaultClass.REFUSED
    return Refusal(fault=fault, words=f"{status.words} ({size} bytes there)" if size >= 0 else status.words)


def _join(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name

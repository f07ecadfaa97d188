"""What a receipt means for what was announced."""

from __future__ import annotations

import pytest

from mistamover.config.settings import HandshakeSettings
from mistamover.errors import PeerFileError
from mistamover.handshake import lists, messages
from mistamover.handshake.announcing import Errand, many, read, single
from mistamover.handshake.lists import Answer, ReceiptList
from mistamover.handshake.messages import Checksum, Receipt, Status
from mistamover.model import Confirmed, FaultClass, Identity, Kind, Unit

SETTINGS = HandshakeSettings(
    control_suffix=".ctrl", receipt_suffix=".rcpt", algorithm="sha256", interval=1.0, longest_wait=10.0
)


def errand(name: bytes) -> Errand:
    unit = Unit(name=name, kind=Kind.FILE, identity=Identity(1, 2, 5, 3, 4))
    checksum = Checksum(algorithm="sha256", digest="ab" * 32)
    directory, _, item = name.rpartition(b"/")
    return Errand(confirmed=Confirmed(unit=unit, digest=""), directory=directory, item=item, size=5, checksum=checksum)


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (Status.BAD_SIZE, FaultClass.REFUSED),
        (Status.BAD_CHECKSUM, FaultClass.REFUSED),
        # The data were there before the list.
        (Status.NO_SUCH_FILE, FaultClass.TARGET),
        (Status.IO_ERROR, FaultClass.TARGET),
    ],
)
def test_all_but_what_is_named_has_arrived(status: Status, fault: FaultClass) -> None:
    message = many([errand(b"d/good"), errand(b"d/bad")], 1.0, SETTINGS)
    wrong = (Answer(name=b"d/bad", status=status, size=-1), Answer(name=b"unknown", status=status, size=3))
    thanks = b"." + lists.ITEM + b"0.thanks"
    receipt = ReceiptList(thanks=thanks, control=lists.digest_of(message.content), wrong=wrong)
    answer = read(message, lists.compose_receipt(receipt))
    assert answer.thanks == thanks and answer.lists
    assert answer.refused[b"d/bad"].fault is fault and b"d/good" not in answer.refused


def test_the_answer_to_another_list_is_none() -> None:
    message, other = many([errand(b"f")], 1.0, SETTINGS), many([errand(b"f")], 2.0, SETTINGS)
    receipt = ReceiptList(thanks=b"." + lists.ITEM + b"0.thanks", control=lists.digest_of(other.content), wrong=())
    with pytest.raises(PeerFileError, match="another list"):
        read(message, lists.compose_receipt(receipt))


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, None),
        ({"size": 6}, FaultClass.REFUSED),
        ({"checksum": "sha256:00"}, FaultClass.REFUSED),
        ({"status": Status.NO_SUCH_FILE}, FaultClass.REFUSED),
        ({"status": Status.IO_ERROR}, FaultClass.TARGET),
    ],
)
def test_a_single_receipt_must_say_the_same(changed: dict[str, object], fault: FaultClass | None) -> None:
    one = errand(b"d/f")
    said = {"item": b"f", "status": Status.OK, "size": 5, "checksum": str(one.checksum), "thanks": b".f.1.00.thanks"}
    receipt = Receipt(**{**said, **changed})  # type: ignore[arg-type]
    answer = read(single(one, 1.0, SETTINGS), messages.compose_receipt(receipt))
    assert answer.thanks == b"d/.f.1.00.thanks"
    assert [refusal.fault for refusal in answer.refused.values()] == ([fault] if fault else [])

"""Lists of control entries and receipts: read as they were written, and hostile ones refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.errors import PeerFileError
from mistamover.handshake import lists
from mistamover.handshake.lists import Answer, ControlList, Entry, ReceiptList
from mistamover.handshake.messages import Checksum, Status

RECEIPT, THANKS = b".mistamover-list-0a.1.00.rcpt", b".mistamover-list-0b.1.00.thanks"
SUM = Checksum(algorithm="sha256", digest="ab" * 32)

PARTS = st.binary(min_size=1, max_size=50).filter(
    lambda part: not set(part) & set(b"/\0\n") and part not in (b".", b"..") and not part.startswith(b".mistamover")
)
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(b"/".join)


@given(st.lists(NAMES, unique=True, max_size=5), st.integers(0, 2**60))
def test_what_is_written_is_read_again(names: list[bytes], size: int) -> None:
    control = ControlList(receipt=RECEIPT, entries=tuple(Entry(name=name, size=size, checksum=SUM) for name in names))
    assert lists.is_list(lists.compose_control(control))
    assert lists.parse_control(lists.compose_control(control)) == control
    receipt = ReceiptList(
        thanks=THANKS,
        control=lists.digest_of(lists.compose_control(control)),
        wrong=tuple(
            Answer(name=name, status=Status(1 + number % 4), size=size - 1) for number, name in enumerate(names)
        ),
    )
    assert size == 0 or lists.parse_receipt(lists.compose_receipt(receipt)) == receipt


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b".",
        b"..",
        b"/x",
        b"x/",
        b"a/../b",
        b"../x",
        b"a//b",
        b"a\0b",
        b".mistamover/x",
        b"a/.mistamover-x",
        b"x" * 256,
    ],
)
def test_paths_that_lead_elsewhere_are_refused(name: bytes) -> None:
    good = lists.compose_control(ControlList(receipt=RECEIPT, entries=(Entry(name=b"NAME", size=1, checksum=SUM),)))
    with pytest.raises(PeerFileError):
        lists.parse_control(good.replace(b"NAME", name))


@pytest.mark.parametrize("wanted", [b"data", b".data", b"../x", b".mistamover-list-/../x", b""])
def test_a_receipt_cannot_be_wanted_under_any_name(wanted: bytes) -> None:
    good = lists.compose_control(ControlList(receipt=RECEIPT, entries=()))
    with pytest.raises(PeerFileError):
        lists.parse_control(good.replace(RECEIPT, wanted))


def test_a_name_cannot_be_listed_twice() -> None:
    entry = Entry(name=b"x", size=1, checksum=SUM)
    with pytest.raises(PeerFileError):
        lists.parse_control(lists.compose_control(ControlList(receipt=RECEIPT, entries=(entry, entry))))


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(content: bytes) -> None:
    for parse in (lists.parse_control, lists.parse_receipt):
        for frame in (b"%s", b"_start_mistamover_ctrl_list_\n%s\n_end_mistamover_ctrl_list_\n"):
            try:
                parse(frame % content)  # type: ignore[operator]
            except PeerFileError:
                continue

"""Control, receipt and thank-you files: the bytes of deployed agents, and what hostile ones may write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.errors import PeerFileError
from mistamover.handshake import messages
from mistamover.handshake.messages import Checksum, Control, Receipt, Status

#: As an agent of 2016 wrote them.
CONTROL = (
    b"_start_stager_ctrl_data_\nf1.dat\n5000\ne1a2a45e69d917e1ec50fa96d76fffd6\n"
    b".f1.dat.1795367613.13.stager-rcpt-bss\n_end_stager_ctrl_data_\n"
)
RECEIPT = (
    b"_start_stager_receipt_data_\nf1.dat\n0\n5000\ne1a2a45e69d917e1ec50fa96d76fffd6\n"
    b".f1.dat.1795367613.59.stager-thanks-bss\n_end_stager_receipt_data_\n"
)
THANKS = b"_start_stager_thankyou_\n.f1.dat.1795367613.13.stager-rcpt-bss\n_end_stager_thankyou_\n"
MD5 = "e1a2a45e69d917e1ec50fa96d76fffd6"


def test_a_control_file_is_read_and_written_as_it_always_was() -> None:
    control = messages.parse_control(CONTROL)
    assert control == Control(
        item=b"f1.dat",
        size=5000,
        checksum=Checksum(algorithm="md5", digest=MD5),
        receipt=b".f1.dat.1795367613.13.stager-rcpt-bss",
    )
    assert control.checksum.is_plain
    assert messages.compose_control(control) == CONTROL


def test_a_receipt_is_read_and_written_as_it_always_was() -> None:
    receipt = messages.parse_receipt(RECEIPT)
    assert receipt == Receipt(
        item=b"f1.dat", status=Status.OK, size=5000, checksum=MD5, thanks=b".f1.dat.1795367613.59.stager-thanks-bss"
    )
    assert messages.compose_receipt(receipt) == RECEIPT


def test_a_receipt_may_hold_more_lines() -> None:
    more = RECEIPT.replace(b"_end_", b"something new\n_end_")
    assert messages.parse_receipt(more).status is Status.OK


def test_a_thank_you_file_is_read_and_written_as_it_always_was() -> None:
    receipt = messages.parse_thanks(THANKS)
    assert receipt == b".f1.dat.1795367613.13.stager-rcpt-bss"
    assert messages.compose_thanks(receipt) == THANKS


def test_names_of_messages() -> None:
    assert messages.control_name(b"f1.dat", ".stager-ctrl-bss") == b".f1.dat.stager-ctrl-bss"
    stamped = messages.stamped_name(b"f1.dat", 1795367613.13, ".stager-rcpt-bss")
    assert stamped == b".f1.dat.1795367613.13.stager-rcpt-bss"


@pytest.mark.parametrize(
    "item", [b"", b".", b"..", b"../f1.dat", b"/etc/passwd", b"a/b", b"f1\0.dat", b"x" * 256], ids=repr
)
def test_names_that_lead_elsewhere_are_refused(item: bytes) -> None:
    with pytest.raises(PeerFileError):
        messages.parse_control(CONTROL.replace(b"f1.dat", item))


@pytest.mark.parametrize(
    "name", [b"f1.dat", b".ssh", b".f1.dat", b".f1.dat./../x", b"..f1.dat.x", b".other.1.00.stager-rcpt-bss"], ids=repr
)
def test_a_receipt_cannot_be_wanted_under_any_name(name: bytes) -> None:
    with pytest.raises(PeerFileError):
        messages.parse_control(CONTROL.replace(b".f1.dat.1795367613.13.stager-rcpt-bss", name))
    with pytest.raises(PeerFileError):
        messages.parse_receipt(RECEIPT.replace(b".f1.dat.1795367613.59.stager-thanks-bss", name))


@pytest.mark.parametrize("size", [b"-1", b"+5", b"5.0", b"0x10", b"", b"9" * 20, b"5000 ", "٣".encode()], ids=repr)
def test_sizes_that_are_none_are_refused(size: bytes) -> None:
    with pytest.raises(PeerFileError):
        messages.parse_control(CONTROL.replace(b"5000", size))


@pytest.mark.parametrize(
    "checksum",
    [b"", b"abc", b"g" * 32, b"md5:" + b"0" * 31, b"crc32:00000000", b"sha256:" + b"0" * 32, b":" + b"0" * 32],
    ids=repr,
)
def test_checksums_that_are_none_are_refused(checksum: bytes) -> None:
    with pytest.raises(PeerFileError):
        messages.parse_control(CONTROL.replace(MD5.encode(), checksum))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        CONTROL[:-1],
        CONTROL[:40],
        CONTROL[1:],
        RECEIPT,
        CONTROL + b"more\n",
        CONTROL.replace(b"5000\n", b""),
        CONTROL.replace(b"5000\n", b"5000\n5000\n"),
        b"x" * 100_000,
    ],
)
def test_whatever_is_no_control_file_is_refused(content: bytes) -> None:
    with pytest.raises(PeerFileError):
        messages.parse_control(content)


@pytest.mark.parametrize("status", [b"5", b"-1", b"00", b"", b"ok"])
def test_other_statuses_make_a_receipt_invalid(status: bytes) -> None:
    with pytest.raises(PeerFileError):
        messages.parse_receipt(RECEIPT.replace(b"\n0\n", b"\n" + status + b"\n"))


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_be_refused(content: bytes) -> None:
    for parse in (messages.parse_control, messages.parse_receipt, messages.parse_thanks):
        try:
            parse(content)  # type: ignore[operator]
        except PeerFileError:
            continue


@given(
    st.binary(min_size=1, max_size=200).filter(
        lambda name: not set(name) & set(b"/\0\n") and name not in (b".", b"..") and not name.startswith(b".mistamover")
    ),
    st.integers(min_value=0, max_value=2**62),
    st.sampled_from(["md5", "sha256", "blake2b", "xxh128"]),
    st.booleans(),
)
def test_what_is_written_is_read_again(item: bytes, size: int, algorithm: str, tree: bool) -> None:
    checksum = Checksum(algorithm=algorithm, digest="0f" * (messages.LENGTHS[algorithm] // 2), tree=tree)
    control = Control(item=item, size=size, checksum=checksum, receipt=messages.stamped_name(item, 1.5, ".rcpt"))
    assert messages.parse_control(messages.compose_control(control)) == control


def test_names_that_no_message_can_carry() -> None:
    assert messages.can_be_named(b"x" * 200, ".stager-ctrl-bss", ".stager-rcpt-bss")
    assert not messages.can_be_named(b"x" * 240, ".stager-ctrl-bss", ".stager-rcpt-bss")
    assert not messages.can_be_named(b"a\nb", ".stager-ctrl-bss", ".stager-rcpt-bss")

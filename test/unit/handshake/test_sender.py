"""What the sender's side asks of the transport that carries the data, which a test plays here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import pytest

from mistamover.config.settings import HandshakeSettings
from mistamover.handshake.receipts import Book
from mistamover.handshake.sender import Receipted
from mistamover.model import Batch, Confirmed, Identity, Kind, Unit, Verdict
from mistamover.transport.base import Guard, MessagingTransport
from ways import Watcher


class Carrier:
    """Confirms everything, and remembers whether it was to be on disk."""

    def __init__(self) -> None:
        self.flushed: list[bool] = []

    def deliver(self, batch: Batch, _guard: Guard) -> list[Verdict]:
        self.flushed.append(True)
        return [Confirmed(unit=unit, digest="") for unit in batch.units]

    def deliver_unflushed(self, batch: Batch, _guard: Guard) -> list[Verdict]:
        self.flushed.append(False)
        return [Confirmed(unit=unit, digest="") for unit in batch.units]

    def put(self, _files: object) -> None:
        raise OSError(28, os.strerror(28))


@pytest.fixture
def carrier() -> Carrier:
    return Carrier()


@pytest.fixture
def sender(carrier: Carrier, tmp_path: Path) -> Receipted:
    return Receipted(
        cast("MessagingTransport", carrier),
        source=os.fsencode(tmp_path),
        peer="there",
        settings=HandshakeSettings(
            control_suffix=".c", receipt_suffix=".r", algorithm="sha256", interval=1.0, longest_wait=1.0
        ),
        algorithm="sha256",
        book=Book(tmp_path / "book.sqlite"),
    )


def test_an_empty_directory_has_no_receipt_so_it_is_flushed_before_it_counts(
    sender: Receipted, carrier: Carrier
) -> None:
    unit = Unit(name=b"d", kind=Kind.DIRECTORY, identity=Identity(1, 2, 3, 4, 5))
    guard = Watcher()
    (verdict,) = sender.deliver(Batch(number=1, units=[unit], size=0), guard)
    guard.close()
    assert isinstance(verdict, Confirmed) and carrier.flushed == [True]


def test_thank_you_files_that_cannot_be_put_are_told(sender: Receipted, caplog: pytest.LogCaptureFixture) -> None:
    sender._thank({b".t": b"thanks"})
    assert "1 thank-you files could not be put: [Errno 28] No space left on device" in caplog.text

"""Giving receipts: first written down in the book, then let appear, and the control file goes last.

A control file that is still there after a crash is answered again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence

from mistamover.errors import PeerFileError
from mistamover.files.identity import DirectoryHandles
from mistamover.files.names import display
from mistamover.handshake import lists, messages, tidy
from mistamover.handshake.arrival import Announced, Listed, Measured, read_small
from mistamover.handshake.lists import Answer, ReceiptList
from mistamover.handshake.messages import Receipt, Status
from mistamover.handshake.receipts import Book, Entry

logger = logging.getLogger(__name__)

#: Thanked receipts that are remembered: more than senders have under way.
_REMEMBERED = 10_000


class Giving:
    """Gives the receipts of one arrival monitor."""

    def __init__(self, book: Book, thanks_suffix: str) -> None:
        """Given the book of receipts, and the ending of thank-you files, do nothing yet."""
        self._book = book
        self._thanks_suffix = thanks_suffix
        self._thanked: dict[bytes, int] = {}
        """Receipts that somebody thanked for lately, and when (nanoseconds since the epoch)."""

    def record(
        self,
        handles: DirectoryHandles,
        delivered: Sequence[Measured],
        newest: Mapping[bytes, Entry],
        now: float,
        done: Sequence[bytes],
    ) -> None:
        """Given the incoming directory, what was delivered (now or before), the newest receipts by name until now, the
        time, and the names of intents that are over, write its receipts down.

        Receipts of the same names that were given before go: who asks again does not look for them any more.
        Raise LedgerError.
        """
        entries = [self._entry(each, newest, now) for each in delivered]
        self._book.add(entries, done)
        for each in delivered:
            entry = newest.get(each.announced.name)
            if entry is not None and entry.receipt != each.announced.control.receipt:
                _remove_receipt(handles, each.announced.directory, entry.receipt)

    def give(self, handles: DirectoryHandles, announced: Announced, status: Status, size: int, now: float) -> None:
        """Given what was announced and what became of it, give the receipt for it. Raise OSError."""
        control = announced.control
        receipt = Receipt(
            item=control.item,
            status=status,
            size=size,
            checksum=str(control.checksum) if status is Status.OK else "",
            thanks=messages.stamped_name(control.item, now, self._thanks_suffix),
            lists=True,
        )
        path = _beside(announced.directory, control.receipt)
        tidy.write(handles, path, messages.compose_receipt(receipt))
        tidy.remove_same(handles, announced.path, announced.identity)

    def give_list(
        self,
        handles: DirectoryHandles,
        listed: Listed,
        delivered: Collection[bytes],
        wrong: Mapping[bytes, Measured],
        now: float,
    ) -> None:
        """Given a list, the names in it that were delivered, and those that are not as announced, give the receipt
        for all of it. Raise OSError.
        """
        bad = [each.name for each in listed.announced if each.name not in delivered]
        answers = tuple(_answer(name, wrong.get(name)) for name in bad)
        item = lists.ITEM + os.urandom(4).hex().encode()
        thanks = messages.stamped_name(item, now, self._thanks_suffix)
        receipt = ReceiptList(thanks=thanks, control=listed.digest, wrong=answers)
        tidy.write(handles, listed.control.receipt, lists.compose_receipt(receipt))
        tidy.remove_same(handles, listed.path, listed.identity)

    def take_thanks(self, handles: DirectoryHandles, path: bytes, since_ns: int, receipt: bytes) -> None:
        """Given a thank-you file, since when it is there, and the receipt that it names, remove that, if it is there.

        Raise PeerFileError if it is no receipt, OSError.
        """
        named = _beside(path.rpartition(b"/")[0], receipt)
        try:
            read_receipt(handles, named)
        except FileNotFoundError:
            logger.debug("%s: the receipt it names is not there", display(path))
            return
        tidy.remove(handles, named)
        self._thanked[named] = since_ns
        if len(self._thanked) > _REMEMBERED:
            del self._thanked[next(iter(self._thanked))]

    def drop_thanked(self, handles: DirectoryHandles, control: Announced | Listed) -> bool:
        """Given a control file, remove it if its sender has thanked for its receipt since; tell whether that is so.

        Whoever was killed between giving the receipt and removing the control file would give another one, for nobody.
        One that came later is of a sender who asks again: somebody else has thanked.  Raise OSError.
        """
        receipt = control.control.receipt
        if isinstance(control, Announced):
            receipt = _beside(control.directory, receipt)
        if control.identity.ctime_ns > self._thanked.get(receipt, 0):
            return False
        tidy.remove_same(handles, control.path, control.identity)
        return True

    def _entry(self, measured: Measured, newest: Mapping[bytes, Entry], now: float) -> Entry:
        announced = measured.announced
        # Of data that are not there any more, what was known of them.
        known = None if measured.mtime_ns else self._book.intent(announced.name) or newest.get(announced.name)
        return Entry(
            name=announced.name,
            size=announced.control.size,
            checksum=str(announced.control.checksum),
            at=now,
            peer=announced.peer,
            receipt=announced.control.receipt,
            mtime_ns=known.mtime_ns if known is not None else measured.mtime_ns,
        )


def read_receipt(handles: DirectoryHandles, path: bytes) -> None:
    """Given a path, make sure that a receipt lies there. Raise PeerFileError if it is something else, OSError."""
    content, _ = read_small(handles, path, lists.MOST_BYTES)
    if path.startswith(b"." + lists.ITEM):
        lists.parse_receipt(content)
    else:
        messages.parse_receipt(content)


def _remove_receipt(handles: DirectoryHandles, directory: bytes, receipt: bytes) -> None:
    # Lists lie at the top, whatever directory the file is in.
    path = receipt if receipt.startswith(b"." + lists.ITEM) else _beside(directory, receipt)
    try:
        read_receipt(handles, path)
        tidy.remove(handles, path)
    except (PeerFileError, OSError):
        # Gone, as it should be, or something else has its name.
        return


def _beside(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name


def _answer(name: bytes, wrong: Measured | None) -> Answer:
    """Given an entry of a list that was not delivered, and what is wrong with it, return what its sender is told."""
    if wrong is None:
        return Answer(name=name, status=Status.IO_ERROR, size=-1)
    return Answer(name=name, status=wrong.status, size=wrong.size)

"""Many files in one message: what two agents of this version write instead of a control file and a receipt for each.

A list of control entries lies at the top of the incoming directory, and so does the list of its receipts; names in them
are relative to that directory.  A sender uses lists once it knows that its receiver does: from a line in a receipt that
older agents do not look at, or because the checksum is one that they do not know.  Pure.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from mistamover.errors import PeerFileError
from mistamover.files.names import display
from mistamover.handshake.messages import Checksum, Status, data_name, parse_checksum, parse_size, plain_name

#: What the name of such a control file begins with, after the dot.
ITEM = b"mistamover-list-"

#: Bytes beyond which no list is read, and entries that one has at the most.
MOST_BYTES = 16 * 1024 * 1024
MOST_ENTRIES = 20_000

#: Bytes of a path: PATH_MAX of the kernel.
_LONGEST_PATH = 4096

_CONTROL = (b"_start_mistamover_ctrl_list_", b"_end_mistamover_ctrl_list_")
_RECEIPT = (b"_start_mistamover_receipt_list_", b"_end_mistamover_receipt_list_")

#: The second line of a receipt, before the hash.
_WELL = b"all but these arrived of sha256:"
_WELL_LINE = re.compile(re.escape(_WELL) + rb"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file or directory of a list."""

    name: bytes
    size: int
    checksum: Checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlList:
    """What is announced, and the name of the receipt that is wanted."""

    receipt: bytes
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is wrong with one of the entries."""

    name: bytes
    status: Status
    """Never OK."""
    size: int
    """What is there, in bytes; -1 if that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptList:
    """What became of all entries, and the name of the thank-you file that is wanted."""

    thanks: bytes
    control: str
    """Which list this is the answer to: `digest_of` its content, so that both agents speak of the same entries."""
    wrong: tuple[Answer, ...]
    """The entries that were not delivered; all others were, as announced."""


def is_list(content: bytes) -> bool:
    """Given the content of a control file, tell whether it is a list."""
    return content.startswith(_CONTROL[0])


def digest_of(content: bytes) -> str:
    """Given the content of a control file, return what its receipt is to repeat."""
    return hashlib.sha256(content).hexdigest()


def compose_control(control: ControlList) -> bytes:
    """Return the content of a control file."""
    lines = [b"%d %s %s" % (each.size, str(each.checksum).encode(), each.name) for each in control.entries]
    return b"\n".join((_CONTROL[0], control.receipt, *lines, _CONTROL[1], b""))


def compose_receipt(receipt: ReceiptList) -> bytes:
    """Return the content of a receipt."""
    lines = [b"%d %d %s" % (answer.status, answer.size, answer.name) for answer in receipt.wrong]
    return b"\n".join((_RECEIPT[0], receipt.thanks, _WELL + receipt.control.encode(), *lines, _RECEIPT[1], b""))


def parse_control(content: bytes) -> ControlList:
    """Given the content of a control file, return what it announces. Raise PeerFileError."""
    receipt, *lines = _body(content, _CONTROL, 1)
    entries = []
    known: set[bytes] = set()
    for line in lines:
        size, checksum, name = _fields(line, 3)
        entries.append(Entry(name=_path(name, known), size=parse_size(size), checksum=parse_checksum(checksum)))
    if len({entry.name for entry in entries}) != len(entries):
        raise PeerFileError("the list names a file twice")
    return ControlList(receipt=_message(receipt), entries=tuple(entries))


def parse_receipt(content: bytes) -> ReceiptList:
    """Given the content of a receipt, return what it says. Raise PeerFileError."""
    thanks, well, *lines = _body(content, _RECEIPT, 2)
    if not _WELL_LINE.fullmatch(well):
        raise PeerFileError(f"the line {display(well[:80])!r} does not say which list this is the answer to")
    wrong = []
    known: set[bytes] = set()
    for line in lines:
        status, size, name = _fields(line, 3)
        if status not in (b"1", b"2", b"3", b"4"):
            raise PeerFileError(f"the status is {display(status[:20])!r}, expected a digit from 1 to 4")
        number = -1 if size == b"-1" else parse_size(size)
        wrong.append(Answer(name=_path(name, known), status=Status(int(status)), size=number))
    return ReceiptList(thanks=_message(thanks), control=well.removeprefix(_WELL).decode(), wrong=tuple(wrong))


def _body(content: bytes, frame: tuple[bytes, bytes], least: int) -> list[bytes]:
    """Return the lines between the fixed ones; there must be so many."""
    if len(content) > MOST_BYTES:
        raise PeerFileError(f"a list of more than {MOST_BYTES} bytes")
    if not content.endswith(b"\n"):
        raise PeerFileError("the list is cut off: its last line has no end")
    lines = content[:-1].split(b"\n")
    if lines[0] != frame[0] or lines[-1] != frame[1] or len(lines) < least + 2:
        raise PeerFileError(f"not a list: it must begin with {frame[0].decode()} and end with {frame[1].decode()}")
    if len(lines) > MOST_ENTRIES + least + 2:
        raise PeerFileError(f"a list of more than {MOST_ENTRIES} entries")
    return lines[1:-1]


def _fields(line: bytes, number: int) -> list[bytes]:
    fields = line.split(b" ", number - 1)
    if len(fields) != number:
        raise PeerFileError(f"the line {display(line[:80])!r} has {len(fields)} fields, expected {number}")
    return fields


def _path(name: bytes, known: set[bytes]) -> bytes:
    """Return a path that stays where it is relative to, of names that are no messages.

    `known`: directories that were found good before; thousands of files may lie in one.
    """
    if len(name) > _LONGEST_PATH:
        raise PeerFileError(f"the path {display(name[:80])!r}... is longer than any path can be")
    above, slash, last = name.rpartition(b"/")
    data_name(last, "a part of a path")
    if slash and above not in known:
        for part in above.split(b"/"):
            data_name(part, "a part of a path")
        known.add(above)
    return name


def _message(name: bytes) -> bytes:
    if not plain_name(name, "the file that is wanted").startswith(b"." + ITEM):
        raise PeerFileError(f"the file that is wanted is called {display(name[:80])!r}, expected .{ITEM.decode()}...")
    return name

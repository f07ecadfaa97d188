"""The three small files of a handshake, byte for byte as deployed agents write and read them.

    control     the sender says what it has sent, and the name of the receipt that it wants
    receipt     the receiver says what became of it, and the name of the thank-you file that it wants
    thank-you   the sender says that it has read the receipt

Lines end with a newline; the first and the last line are fixed.  All three lie in the directory of the file that they
are about and speak of plain names there.  Whatever a peer writes is hostile until it has been through `parse_*`.  Pure.

The lists that two agents of this version use instead are in `lists`.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from mistamover.errors import PeerFileError
from mistamover.files.names import MARK, display

#: Bytes beyond which no such file is read: two names and some numbers need far less.
MOST_BYTES = 8192

_CONTROL = (b"_start_stager_ctrl_data_", b"_end_stager_ctrl_data_")
_RECEIPT = (b"_start_stager_receipt_data_", b"_end_stager_receipt_data_")
_THANKS = (b"_start_stager_thankyou_", b"_end_stager_thankyou_")

#: A further line of a receipt, which older agents do not look at.
_LISTS = b"understands lists"

_LONGEST_NAME = 255
#: Digits of a time that are yet to come, and what older agents add to a name while they write.
_STAMP = 10
_WRITING = "_tmp"

_SIZE = re.compile(rb"[0-9]{1,19}")
_STATUS = re.compile(rb"[0-4]")
_TREE = "tree-"

#: Digits of a hash in hexadecimal, by algorithm; the one without a prefix is all that older agents know.
LENGTHS = {"md5": 32, "sha256": 64, "blake2b": 128, "xxh128": 32}
PLAIN = "md5"
_CHECKSUM = re.compile(rb"(?:(tree-)?(%s):)?([0-9a-fA-F]+)" % b"|".join(name.encode() for name in LENGTHS))


class Status(enum.IntEnum):
    """What a receipt says of the data."""

    OK = 0
    BAD_SIZE = 1
    BAD_CHECKSUM = 2
    IO_ERROR = 3
    NO_SUCH_FILE = 4

    @property
    def words(self) -> str:
        """The status, for people."""
        return ("arrived", "bad size", "bad checksum", "input or output error", "no such data file")[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """A hash of content, or of a directory with all it holds."""

    algorithm: str
    digest: str
    tree: bool = False

    def __str__(self) -> str:
        """Return it as it stands in a file."""
        if self.algorithm == PLAIN and not self.tree:
            return self.digest
        return f"{_TREE if self.tree else ''}{self.algorithm}:{self.digest}"

    @property
    def is_plain(self) -> bool:
        """Whether it may come from an agent that removes its source when it gets a negative receipt."""
        return self.algorithm == PLAIN and not self.tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a control file says; names are plain names in its own directory."""

    item: bytes
    size: int
    checksum: Checksum
    receipt: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a receipt says; `size` is -1 and `checksum` empty where there is nothing to measure."""

    item: bytes
    status: Status
    size: int
    checksum: str
    thanks: bytes
    lists: bool = False
    """Whether the receiver understands lists (see `lists`)."""


def compose_control(control: Control) -> bytes:
    """Return the content of a control file."""
    return _whole(_CONTROL, control.item, str(control.size).encode(), str(control.checksum).encode(), control.receipt)


def compose_receipt(receipt: Receipt) -> bytes:
    """Return the content of a receipt."""
    status, size = str(int(receipt.status)).encode(), str(receipt.size).encode()
    more = (_LISTS,) if receipt.lists else ()
    return _whole(_RECEIPT, receipt.item, status, size, receipt.checksum.encode(), receipt.thanks, *more)


def compose_thanks(receipt: bytes) -> bytes:
    """Given the name of the receipt, return the content of a thank-you file."""
    return _whole(_THANKS, receipt)


def parse_control(content: bytes) -> Control:
    """Given the content of a control file, return what it says. Raise PeerFileError."""
    item, size, checksum, receipt = _body(content, _CONTROL, "control file", 4, 4)
    return Control(
        item=data_name(item, "the data file"),
        size=parse_size(size),
        checksum=parse_checksum(checksum),
        receipt=_message_name(receipt, item, "the receipt"),
    )


def parse_receipt(content: bytes) -> Receipt:
    """Given the content of a receipt, return what it says. Raise PeerFileError."""
    item, status, size, checksum, thanks, *more = _body(content, _RECEIPT, "receipt", 5, None)
    if not _STATUS.fullmatch(status):
        raise PeerFileError(f"the status is {display(status[:20])!r}, expected a digit from 0 to 4")
    return Receipt(
        item=plain_name(item, "the data file"),
        status=Status(int(status)),
        size=-1 if size == b"-1" else parse_size(size),
        checksum=checksum.decode("ascii", "replace").strip(),
        thanks=_message_name(thanks, item, "the thank-you file"),
        lists=_LISTS in more,
    )


def parse_thanks(content: bytes) -> bytes:
    """Given the content of a thank-you file, return the name of the receipt. Raise PeerFileError."""
    (receipt,) = _body(content, _THANKS, "thank-you file", 1, 1)
    name = plain_name(receipt, "the receipt")
    if not name.startswith(b"."):
        raise PeerFileError(f"the receipt is called {display(name)!r}, expected a name that begins with a dot")
    return name


def parse_checksum(text: bytes) -> Checksum:
    """Given a checksum as it stands in a file, return it. Raise PeerFileError."""
    whole = _CHECKSUM.fullmatch(text.strip())
    if whole is not None:
        tree_mark, named, digits = (part.decode() for part in whole.groups(b""))
        if LENGTHS[named or PLAIN] == len(digits):
            return Checksum(algorithm=named or PLAIN, digest=digits.lower(), tree=bool(tree_mark))
    raise PeerFileError(_what_is_wrong(text.decode("ascii", "replace").strip()))


def _what_is_wrong(words: str) -> str:
    """Given a text that is no checksum, say why."""
    head, colon, _ = words.rpartition(":")
    algorithm = head.removeprefix(_TREE) if colon else PLAIN
    length = LENGTHS.get(algorithm)
    if length is None:
        return f"the checksum is of {display(head.encode()[:40])!r}, expected {', '.join(LENGTHS)}"
    return f"the checksum is {words[:150]!r}, expected {length} hexadecimal digits"


def can_be_named(item: bytes, *suffixes: str) -> bool:
    """Given the plain name of a file, and the endings of the files about it, tell whether they can be made.

    A line cannot hold a newline, and a name of a file has 255 bytes at the most.
    """
    longest = len(stamped_name(item, 0.0, max(suffixes, key=len))) + _STAMP + len(_WRITING)
    return b"\n" not in item and longest <= _LONGEST_NAME


def control_name(item: bytes, suffix: str) -> bytes:
    """Given a plain name and the ending of control files, return the name of its control file."""
    return b"." + item + suffix.encode()


def stamped_name(item: bytes, now: float, suffix: str) -> bytes:
    """Given a plain name, the time and an ending, return the name of a receipt or thank-you file."""
    return b"." + item + f".{now:.2f}".encode() + suffix.encode()


def _whole(frame: tuple[bytes, bytes], *lines: bytes) -> bytes:
    return b"\n".join((frame[0], *lines, frame[1], b""))


def _body(content: bytes, frame: tuple[bytes, bytes], what: str, least: int, most: int | None) -> list[bytes]:
    """Return the lines between the fixed ones; there must be so many."""
    if len(content) > MOST_BYTES:
        raise PeerFileError(f"a {what} of more than {MOST_BYTES} bytes")
    if not content.endswith(b"\n"):
        raise PeerFileError(f"the {what} is cut off: its last line has no end")
    lines = content[:-1].split(b"\n")
    if lines[0] != frame[0] or lines[-1] != frame[1]:
        raise PeerFileError(f"not a {what}: it must begin with {frame[0].decode()} and end with {frame[1].decode()}")
    body = lines[1:-1]
    if len(body) < least or (most is not None and len(body) > most):
        raise PeerFileError(f"the {what} holds {len(body)} lines, expected {least}")
    return body


def plain_name(name: bytes, what: str) -> bytes:
    """Given a name and what it is of, return it if it is a plain one that leads nowhere else. Raise PeerFileError."""
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name or len(name) > _LONGEST_NAME:
        raise PeerFileError(f"{what} is called {display(name[:80])!r}, expected a plain file name")
    return name


def data_name(name: bytes, what: str) -> bytes:
    """Given a name and what it is of, return it if data can have it. Raise PeerFileError."""
    if plain_name(name, what).startswith(MARK):
        raise PeerFileError(f"{display(name[:80])!r} is a name of ours, and never data")
    return name


def _message_name(name: bytes, item: bytes, what: str) -> bytes:
    """Return the name of a message about `item`: it can be taken for nothing else."""
    if not plain_name(name, what).startswith(b"." + item + b"."):
        raise PeerFileError(f"{what} is called {display(name[:80])!r}, expected .{display(item[:80])}.TIME.ENDING")
    return name


def parse_size(text: bytes) -> int:
    """Given a number of bytes as it stands in a file, return it. Raise PeerFileError."""
    if not _SIZE.fullmatch(text):
        raise PeerFileError(f"the size is {display(text[:40])!r}, expected a number of bytes")
    return int(text)

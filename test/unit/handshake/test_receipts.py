"""The book of receipts: what is written is found again, and nothing can be changed unnoticed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mistamover.handshake.receipts import Book, Entry, Intent, first_broken, seal_of


def entry(name: bytes, **values: object) -> Entry:
    known: dict[str, object] = {
        "size": 5, "checksum": "sha256:00", "at": 1.25, "peer": "h:/d", "receipt": b"." + name, "mtime_ns": 7
    }  # fmt: skip
    return Entry(name=name, **{**known, **values})  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    book = Book(tmp_path / "book.sqlite")
    book.intend(
        [Intent(name=b"a", size=5, checksum="x", mtime_ns=3), Intent(name=b"b", size=6, checksum="y", mtime_ns=4)]
    )
    book.add([entry(b"a"), entry(b"b\xff")], [b"a"])
    book.add([entry(b"a", size=9)])
    book.close()
    return tmp_path / "book.sqlite"


def test_what_was_written_is_found_after_a_restart(path: Path) -> None:
    book = Book(path, read_only=True)
    assert [each.name for each in book.entries()] == [b"a", b"b\xff", b"a"]
    newest = book.newest([b"c", b"a"])
    assert [(name, each.size, each.seal) for name, each in newest.items()] == [(b"a", 9, [*book.entries()][2].seal)]
    assert book.intent(b"a") is None
    assert book.intent(b"b") == Intent(name=b"b", size=6, checksum="y", mtime_ns=4)
    assert path.stat().st_mode & 0o777 == 0o600


@given(st.binary(), st.text(), st.text(), st.floats(allow_nan=False), st.integers())
def test_a_seal_is_the_hash_of_all_that_an_entry_says(
    name: bytes, checksum: str, peer: str, at: float, number: int
) -> None:
    each = entry(name, checksum=checksum, peer=peer, at=at, mtime_ns=number, size=number)
    values = [name.hex(), number, checksum, repr(at), peer, each.receipt.hex(), number]
    assert seal_of(each, "before") == hashlib.sha256(json.dumps(["before", *values]).encode()).hexdigest()


def test_a_whole_book_is_good(path: Path) -> None:
    assert first_broken(Book(path, read_only=True).entries()) == (3, None)


@pytest.mark.parametrize(
    ("change", "good"),
    [
        ("UPDATE receipt SET size = 6 WHERE id = 2", 1),
        ("UPDATE receipt SET name = x'62' WHERE id = 2", 1),
        ("UPDATE receipt SET at = 1.5 WHERE id = 1", 0),
        ("DELETE FROM receipt WHERE id = 2", 1),
        ("UPDATE receipt SET peer = 'x' WHERE id = 3", 2),
    ],
)
def test_every_change_is_found(path: Path, change: str, good: int) -> None:
    db = sqlite3.connect(path)
    db.execute(change)
    db.commit()
    db.close()
    found, broken = first_broken(Book(path, read_only=True).entries())
    assert found == good
    assert broken is not None

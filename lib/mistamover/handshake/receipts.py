"""The book of receipts: every receipt that was given or taken, each sealed with the hash of the one before.

One SQLite file at either end.  `verify` proves without anybody's help that nothing was changed, taken out or put in
since: whoever alters one entry has to alter all that follow, and the last hash that was written down elsewhere no
longer fits.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from urllib.parse import quote

from mistamover.errors import LedgerError

#: Names of the two books in a stream's state directory: of what it took as sender, of what its arrival monitor gave.
TAKEN, GIVEN = "receipts-taken.sqlite", "receipts-given.sqlite"

#: Names that are asked for in one query.
_AT_ONCE = 500

#: The hash before the first one.
_NOTHING = "0" * 64

_SCHEMA = """
CREATE TABLE IF NOT EXISTS receipt (
    id INTEGER PRIMARY KEY, name BLOB NOT NULL, size INTEGER NOT NULL, checksum TEXT NOT NULL, at REAL NOT NULL,
    peer TEXT NOT NULL, receipt BLOB NOT NULL, mtime_ns INTEGER NOT NULL, seal TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS receipt_by_name ON receipt (name, id);
CREATE TABLE IF NOT EXISTS intent (
    name BLOB PRIMARY KEY, size INTEGER NOT NULL, checksum TEXT NOT NULL, mtime_ns INTEGER NOT NULL
)
"""
_COLUMNS = "name, size, checksum, at, peer, receipt, mtime_ns"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One receipt."""

    name: bytes
    """Of the file, relative to the stream's directory."""
    size: int
    checksum: str
    """As it stands in the control file."""
    at: float
    """When it was given or taken, in seconds since the epoch."""
    peer: str
    receipt: bytes
    """Name of the receipt file."""
    mtime_ns: int = 0
    """Of the data file, where that is known."""
    seal: str = ""
    """The hash of this entry and all before; set by the book."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What an arrival monitor is about to deliver."""

    name: bytes
    size: int
    checksum: str
    mtime_ns: int


class Book:
    """A book of receipts, opened when it is first used; several threads may use it."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Given its file, do nothing yet."""
        self._path = path
        self._read_only = read_only
        self._open: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    def add(self, entries: Sequence[Entry], done: Iterable[bytes] = ()) -> None:
        """Given receipts, and names whose intent is over, write them down on disk. Raise LedgerError."""
        names = [(name,) for name in done]
        if not entries and not names:
            return
        try:
            with self._lock, self._db as db:
                db.execute("BEGIN IMMEDIATE")
                seal = self._last_seal()
                rows = []
                for entry in entries:
                    seal = seal_of(entry, seal)
                    rows.append((*_values(entry), seal))
                db.executemany(f"INSERT INTO receipt ({_COLUMNS}, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608
                db.executemany("DELETE FROM intent WHERE name = ?", names)
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error

    def intend(self, intents: Sequence[Intent]) -> None:
        """Given what is about to be delivered, write it down; on disk when it returns. Raise LedgerError."""
        if not intents:
            return
        rows = [(each.name, each.size, each.checksum, each.mtime_ns) for each in intents]
        try:
            with self._lock, self._db as db:
                db.execute("BEGIN IMMEDIATE")
                db.executemany("INSERT OR REPLACE INTO intent VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error

    def intent(self, name: bytes) -> Intent | None:
        """Given a name, return what was about to be delivered under it, if that was not finished. Raise LedgerError."""
        row = self._one("SELECT name, size, checksum, mtime_ns FROM intent WHERE name = ?", name)
        if row is None:
            return None
        named, size, checksum, mtime_ns = row
        assert isinstance(named, bytes) and isinstance(size, int) and isinstance(mtime_ns, int)
        return Intent(name=named, size=size, checksum=str(checksum), mtime_ns=mtime_ns)

    def newest(self, names: Sequence[bytes]) -> dict[bytes, Entry]:
        """Given names, return the newest receipt of each that has one. Raise LedgerError."""
        found: dict[bytes, Entry] = {}
        try:
            for begin in range(0, len(names), _AT_ONCE):
                some = names[begin : begin + _AT_ONCE]
                # Of the other columns SQLite takes those of the row that has the greatest id.
                query = f"SELECT {_COLUMNS}, seal, max(id) FROM receipt WHERE name IN ({_marks(some)}) GROUP BY name"  # noqa: S608
                found.update((row[0], _entry(row[:-1])) for row in self._db.execute(query, some))
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error
        return found

    def entries(self, *, newest_first: bool = False) -> Iterator[Entry]:
        """Yield every receipt, in the order in which they were written down. Raise LedgerError."""
        order = "DESC" if newest_first else "ASC"
        try:
            for row in self._db.execute(f"SELECT {_COLUMNS}, seal FROM receipt ORDER BY id {order}"):  # noqa: S608
                yield _entry(row)
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def _db(self) -> sqlite3.Connection:
        if self._open is None:
            try:
                self._open = self._connect()
            except sqlite3.Error as error:
                raise LedgerError(f"{self._path}: {error}") from error
        return self._open

    def _connect(self) -> sqlite3.Connection:
        if self._read_only:
            address = f"file:{quote(os.fsencode(self._path))}?mode=ro"
            return sqlite3.connect(address, uri=True, isolation_level=None, timeout=10, check_same_thread=False)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = sqlite3.connect(self._path, isolation_level=None, timeout=10, check_same_thread=False)
        os.chmod(self._path, 0o600)
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA synchronous = FULL")
        made.executescript(_SCHEMA)
        return made

    def _last_seal(self) -> str:
        row = self._db.execute("SELECT seal FROM receipt ORDER BY id DESC LIMIT 1").fetchone()
        return str(row[0]) if row else _NOTHING

    def _one(self, query: str, name: bytes) -> tuple[object, ...] | None:
        try:
            row: tuple[object, ...] | None = self._db.execute(query, (name,)).fetchone()
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error
        return row


def seal_of(entry: Entry, before: str) -> str:
    """Given an entry and the seal of the one before, return its seal."""
    # As `json.dumps` would put a list of these, in a third of the time.
    text = (
        f'[{_quoted(before)}, "{entry.name.hex()}", {entry.size}, {_quoted(entry.checksum)}, "{entry.at!r}", '
        f'{_quoted(entry.peer)}, "{entry.receipt.hex()}", {entry.mtime_ns}]'
    )
    return hashlib.sha256(text.encode()).hexdigest()


def first_broken(entries: Iterable[Entry]) -> tuple[int, Entry | None]:
    """Given all entries in order, return how many are good, and the first whose seal does not fit, or None."""
    seal, good = _NOTHING, 0
    for entry in entries:
        seal = seal_of(entry, seal)
        if seal != entry.seal:
            return good, entry
        good += 1
    return good, None


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _values(entry: Entry) -> tuple[object, ...]:
    return (entry.name, entry.size, entry.checksum, entry.at, entry.peer, entry.receipt, entry.mtime_ns)


def _entry(row: Sequence[object]) -> Entry:
    name, size, checksum, at, peer, receipt, mtime_ns, seal = row
    assert isinstance(name, bytes) and isinstance(size, int) and isinstance(at, float)
    assert isinstance(receipt, bytes) and isinstance(mtime_ns, int)
    return Entry(
        name=name,
        size=size,
        checksum=str(checksum),
        at=at,
        peer=str(peer),
        receipt=receipt,
        mtime_ns=mtime_ns,
        seal=str(seal),
    )

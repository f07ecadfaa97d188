"""The file of a ledger: how it is opened, how an older one is brought up to date, how it is written.

What is in it is the business of `ledger`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mistamover.errors import LedgerError
from mistamover.stream.records import STEPS

VERSION = max(STEPS)


class Database:
    """An open SQLite file of ours."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Given the file, open it, and make it unless `read_only`. Raise LedgerError if it cannot be used."""
        self._path = path
        try:
            if read_only:
                self._db = sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True, isolation_level=None, timeout=10)
            else:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        except sqlite3.Error as error:
            raise LedgerError(f"{path}: {error}") from error
        try:
            if not read_only:
                self._prepare()
            self._version = self._version_now()
            self._db.execute("PRAGMA cache_size = -2000")
        except BaseException as error:
            self._db.close()
            if isinstance(error, sqlite3.Error):
                raise LedgerError(f"{path}: {error}") from error
            raise

    def _prepare(self) -> None:
        os.chmod(self._path, 0o600)
        mode = self._db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise LedgerError(f"{self._path}: this filesystem cannot hold a ledger (journal mode {mode}, not wal)")
        self._db.execute("PRAGMA synchronous = FULL")
        version = self._version_now()
        if version > VERSION:
            raise LedgerError(f"{self._path}: written by a newer MiStaMover (version {version}, not {VERSION})")
        if version < VERSION:
            self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
        with self._transaction():
            # Asked again: another process may have been quicker.
            before = self._version_now()
            for number in range(before + 1, VERSION + 1):
                for statement in STEPS[number].split(";"):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")
            if before == 0:
                self._db.execute("INSERT INTO meta VALUES ('owner', ?)", (os.urandom(4).hex(),))

    def _version_now(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise LedgerError(f"{self._path}: {error}") from error


def _quoted(path: Path) -> str:
    return quote(os.fsencode(path))

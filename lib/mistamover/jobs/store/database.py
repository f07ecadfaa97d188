"""The database of the store: SQLite on a disk of this host, or PostgreSQL by its URL; how it is opened, read, written.

What is in it is the business of `schema`.  A commit is on disk before `write` returns.  In SQLite every transaction
that writes says so when it begins (BEGIN IMMEDIATE), and waits its turn: one that read first and wrote later would be
refused at once.  No message of an error holds the password of the URL.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, Pool, Table, create_engine, event, func, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mistamover.errors import StoreError
from mistamover.jobs.store.schema import HEAD

#: Seconds that a transaction waits for others before it gives up; a healthy store makes nobody wait for one.
PATIENCE: Final = 30.0
#: Seconds that others may have to wait while the log of an embedded store is emptied.
_SHORT: Final = 0.2
#: What SQLite has to say to these questions; FULL (2), or a commit could be lost with the power, and what is deleted,
#: such as a secret, is to be overwritten.
_PRAGMAS: Final = (("foreign_keys", 1), ("synchronous", 2), ("secure_delete", 1))
#: Connections of one process that read at a time; opened when they are needed.
_READERS: Final = 40
#: How a connection to a server notices that the network is gone, as libpq takes it: seconds, and milliseconds for data
#: that nobody acknowledges. What the URL says of it wins.
_LINE: Final[Mapping[str, int]] = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
_FILE: Final = "sqlite:///"
_UPGRADE: Final = "run: mistamover db upgrade"


class Database:
    """The engine of one store; may be used by many threads, not by a child after a fork."""

    def __init__(self, url: str) -> None:
        """Given a URL as SQLAlchemy takes it, prepare to connect; nothing is opened yet. Raise StoreError."""
        self.url: Final = _checked(url)
        self.embedded: Final = self.url.get_backend_name() == "sqlite"
        """Whether it is a file of ours, which needs no administrator."""
        self.name: Final = (
            self.url.database or ""
            if self.embedded
            else self.url.set(drivername="postgresql").render_as_string(hide_password=True)
        )
        """What it is called in messages."""
        if self.embedded:
            self._reader = self._sqlite("PRAGMA query_only = 1", pool_size=8, max_overflow=_READERS - 8)
            # SQLite lets one write at a time: threads wait for each other here, which costs them no polling.
            self._writer = self._sqlite("", pool_size=1, max_overflow=0)
        else:
            self._reader = self._writer = self._postgresql(pool_size=8, max_overflow=_READERS - 8)

    @property
    def path(self) -> Path:
        """The file of an embedded store."""
        return Path(self.name)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection whose statements all see one moment of the store. Raise StoreError."""
        with self._told(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection for one transaction, committed at the end, undone by an exception. Raise StoreError."""
        with self._told(), self._writer.begin() as connection:
            yield connection

    def serialise(self, connection: Connection, what: str, *, shared: bool = False) -> None:
        """Given a writing connection, let nobody else pass here with the same word until it has committed.

        With `shared` only those who do not share have to wait. In SQLite nobody else writes anyway.
        """
        if not self.embedded:
            wait = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
            connection.execute(select(wait(func.hashtextextended(f"mistamover {what}", 0))))

    def check(self) -> None:
        """Raise StoreError, with what to do, unless the tables are those that this version works with."""
        if self.embedded and not self.path.exists():
            raise StoreError(f"there is no store in {self.name} yet; {_UPGRADE}")
        with self.read() as connection:
            found = version(connection)
        if found == HEAD:
            return
        if found is None:
            raise StoreError(f"{self.name} holds no tables of MiStaMover; {_UPGRADE}")
        if found < HEAD:
            raise StoreError(f"the tables in {self.name} are of step {found}, and {HEAD} is needed; {_UPGRADE}")
        raise StoreError(
            f"the tables in {self.name} were made by a newer MiStaMover (step {found}, not {HEAD}): use that one"
        )

    def examine(self) -> None:
        """Raise StoreError if an embedded store is damaged; it is read as a whole. A server looks after itself."""
        if self.embedded:
            with self.read() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise StoreError(f"{self.name} is damaged ({found}): stop the service, and restore the latest backup")

    def upgrade(self) -> str | None:
        """Make the tables, or bring them up to date; return the step they were at. Raise StoreError.

        Whoever comes second waits, and finds it done.  Nothing is changed if it fails.
        """
        from mistamover.jobs.store.migrations import bring_up_to_date

        if self.embedded:
            _make(self.path)
            engine = self._sqlite("", poolclass=NullPool, foreign_keys=False)
        else:
            engine = self._postgresql(poolclass=NullPool)
        with self._told(), engine.begin() as connection:
            self.serialise(connection, "upgrade")
            found = version(connection)
            if found is not None and found > HEAD:
                raise StoreError(f"{self.name} was made by a newer MiStaMover (step {found}, not {HEAD}): use that one")
            bring_up_to_date(connection)
            if self.embedded and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise StoreError(f"{self.name} does not hold together: restore the latest backup")
        return found

    def prepare(self) -> None:
        """Upgrade an embedded store, which has no administrator; of any other one check that this was done."""
        try:
            self.check()
        except StoreError:
            if not self.embedded:
                raise
            self.upgrade()

    def forget_traces(self) -> bool:
        """Have nothing left beside an embedded store of what was deleted in it; tell whether that could be done now.

        What was written last stands in its log until that is written over, which may be never.  Nobody waits for it.
        """
        if not self.embedded:
            return True
        with self._told():
            connection = _open(self.path, "", foreign_keys=False)
            try:
                connection.execute(f"PRAGMA busy_timeout = {int(_SHORT * 1000)}")
                busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                connection.close()
        return not busy

    def close(self) -> None:
        """Close what is open; it is opened again when needed."""
        self._reader.dispose()
        self._writer.dispose()

    def _sqlite(self, first: str, *, foreign_keys: bool = True, **pool: Any) -> Engine:
        def connect() -> sqlite3.Connection:
            return _open(self.path, first, foreign_keys=foreign_keys)

        return _engine(self.url, "BEGIN" if "query_only" in first else "BEGIN IMMEDIATE", creator=connect, **pool)

    def _postgresql(self, **pool: Any) -> Engine:
        try:
            arguments = {key: value for key, value in _LINE.items() if key not in self.url.query}
            return _engine(self.url, None, pool_pre_ping=True, connect_args=arguments, **pool)
        except ModuleNotFoundError as error:
            raise StoreError(
                f"{self.name}: PostgreSQL needs the package {error.name}; run: pip install 'mistamover[postgresql]'"
            ) from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors of the database into ours."""
        try:
            yield
        except PoolTimeout as error:
            raise StoreError(f"{self.name}: too busy, for {PATIENCE:.0f} seconds") from error
        except (SQLAlchemyError, sqlite3.Error) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            words = " ".join(str(reason).split()) or type(reason).__name__
            raise StoreError(f"{self.name}: {words}{_advice(words)}") from error


def insert_or_skip(connection: Connection, table: Table, conflict: Sequence[str], values: dict[str, Any]) -> bool:
    """Given a table, columns that are unique together, and a row, insert it; return False if they are there already."""
    kind = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    adding = kind(table).values(values).on_conflict_do_nothing(index_elements=conflict)
    # Not every driver tells how many rows were inserted.
    return connection.execute(adding.returning(next(iter(table.primary_key)))).first() is not None


def put(connection: Connection, table: Table, values: dict[str, Any]) -> None:
    """Given a table and values for all its columns, insert them, or replace what has the same primary key."""
    kind = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in values.items() if name not in keys}
    connection.execute(kind(table).values(values).on_conflict_do_update(index_elements=keys, set_=rest))


def version(connection: Connection) -> str | None:
    """Given a connection, return the last step that was taken, None before the first."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _checked(given: str) -> URL:
    try:
        # A path is taken as it is: whether a percent sign in it is one depends on the version of SQLAlchemy.
        path = given.startswith(_FILE) and given.removeprefix(_FILE)
        url = URL.create("sqlite", database=path) if path else make_url(given)
        kind = url.get_backend_name()
    except (ArgumentError, ValueError):
        # Whatever stands there may be a password.
        raise StoreError(
            "the URL of the database cannot be read: write sqlite:////PATH, or postgresql://USER@HOST/NAME"
        ) from None
    if kind == "sqlite":
        if not path or path == ":memory:" or "?" in path:
            raise StoreError("the store is shared by processes: write its URL as sqlite:////PATH, with nothing behind")
        return url
    if kind in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    raise StoreError(f"the store can be in SQLite or PostgreSQL, not in {kind}")


def _engine(url: URL, begin: str | None, *, poolclass: type[Pool] | None = None, **words: Any) -> Engine:
    if poolclass is None:
        words["pool_timeout"] = PATIENCE
    engine = create_engine(url, poolclass=poolclass, hide_parameters=True, **words)
    if begin is not None:

        @event.listens_for(engine, "begin")
        def _(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine


def _open(path: Path, first: str, *, foreign_keys: bool) -> sqlite3.Connection:
    """Given the file, which is there, return a connection. Raise sqlite3.Error, StoreError."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw", uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False
    )
    try:
        _set_up(connection, path, foreign_keys=foreign_keys)
        if first:
            connection.execute(first)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: sqlite3.Connection, path: Path, *, foreign_keys: bool) -> None:
    # This one stays with the file, and setting it again would need the file for ourselves.
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(f"{path}: this filesystem cannot hold the store (journal mode {mode}, not wal); use another")
    for name, wanted in _PRAGMAS:
        value = wanted if foreign_keys or name != "foreign_keys" else 0
        connection.execute(f"PRAGMA {name} = {value}")
        if connection.execute(f"PRAGMA {name}").fetchone()[0] != value:
            raise StoreError(f"{path}: this SQLite ({sqlite3.sqlite_version}) cannot set {name} to {value}")


def _make(path: Path) -> None:
    """Given where an embedded store is to be, make an empty file that is ours alone, if there is none."""
    try:
        for missing in [each for each in (*reversed(path.parents), path) if not each.exists()]:
            if missing == path:
                missing.touch(mode=0o600)
            else:
                missing.mkdir(mode=0o700, exist_ok=True)
            _hand_over(missing)
        path.chmod(0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _hand_over(path: Path) -> None:
    """Given what root has made for the service, give it to whom the directory belongs: the service has to use it."""
    if os.geteuid() == 0:
        there = path.parent.stat()
        os.chown(path, there.st_uid, there.st_gid)


def _advice(words: str) -> str:
    """Given what the database said, return what to do about it, with a separator."""
    for sign, advice in (
        ("unable to open", "; is it there, and ours to write?"),
        ("no such table", f"; {_UPGRADE}"),
        ("does not exist", f"; {_UPGRADE}"),
        ("readonly", "; run as the user of the service"),
        ("locked", f"; another process has held it for {PATIENCE:.0f} seconds"),
    ):
        if sign in words:
            return advice
    return ""

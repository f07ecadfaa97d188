"""The tables of the store, and the types of their columns, for SQLite and PostgreSQL alike.

Whatever is changed here needs a step in `migrations/versions`, and `HEAD` is the last of these steps.  Nothing here
connects to a database.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
)

from mistamover.jobs.model import Location

#: The step of `migrations/versions` that makes what is described here.
HEAD: Final = "0002"


class PathText(TypeDecorator[str]):
    """A path: kept as the bytes that it has in a filesystem, whatever they are."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        """Given a path as `os.fsdecode` gives it, return its bytes."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        """Given the bytes, return the path as text."""
        return None if value is None else os.fsdecode(bytes(value))


class Words(TypeDecorator[str]):
    """Text from anywhere: what no database can hold as text (NUL, half a surrogate pair) is replaced by U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Given any text, return it without what cannot be kept."""
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


class Json(TypeDecorator[Any]):
    """A value in JSON; in ASCII, so that every text survives in it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: object, dialect: Dialect) -> str | None:
        """Given a value, return it as text."""
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        """Given the text, return the value."""
        return None if value is None else json.loads(value)


def place_key(location: Location) -> str:
    """Given a place, return what is the same for it alone, and short enough for every index."""
    return hashlib.sha256(location.endpoint.encode() + b"\0" + os.fsencode(location.path)).hexdigest()


metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: SQLite only counts up by itself in a column of exactly this type.
_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")
#: Times are seconds since the epoch, sizes are bytes.
_TIME: Final = Double
_SIZE: Final = BigInteger
_ID: Final = Words


def _of_job(**words: Any) -> Column[Any]:
    return Column("job", _ID, ForeignKey("jobs.id", ondelete="CASCADE"), **words)


#: A lane is what jobs have in common that decides whether one may begin: their owner, and all that they reach.
lanes: Final = Table(
    "lanes",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("key", String(64), nullable=False, unique=True),
    Column("owner", Words, nullable=False, index=True),
    Column("endpoints", Json, nullable=False),
    # The group of workers that does them; empty: those of no group.
    Column("workers", Words, nullable=False, server_default=""),
    sqlite_autoincrement=True,
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("id", _ID, nullable=False, unique=True),
    Column("lane", _NUMBER, ForeignKey("lanes.number"), nullable=False),
    Column("op", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("owner", Words, nullable=False),
    Column("label", Words),
    Column("idempotency_key", Words),
    Column("request_hash", Words, nullable=False),
    # It came with secrets, and cannot be tried again once they are forgotten.
    Column("secretive", Boolean, nullable=False),
    Column("origin", Words, nullable=False),
    Column("packaging", String(16), nullable=False),
    Column("package_endpoint", Words),
    Column("package_path", PathText),
    Column("overwrite", Boolean, nullable=False),
    Column("priority", BigInteger, nullable=False),
    # The priority with its sign turned, so that one index gives the order in which jobs begin.
    Column("rank", BigInteger, nullable=False),
    Column("deadline", _TIME),
    Column("options", Json, nullable=False),
    Column("callback", Json),
    # The objects that it changes, and locks meanwhile.
    Column("locks", Json, nullable=False),
    Column("reason", Words, nullable=False),
    Column("result", Json, nullable=False),
    Column("cancelling", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", _TIME),
    Column("created", _TIME, nullable=False),
    Column("started", _TIME),
    Column("ended", _TIME),
    # Kept up to date with every item: nobody has to count thousands of them.
    Column("item_count", Integer, nullable=False),
    Column("items_done", Integer, nullable=False),
    Column("bytes", _SIZE, nullable=False),
    Column("bytes_done", _SIZE, nullable=False),
    Column("worker", Words),
    Column("claim_token", String(32)),
    Column("lease_until", _TIME),
    # When workers were told of it last, by a broker; nothing: it has to be told yet.
    Column("announced", _TIME),
    UniqueConstraint("owner", "idempotency_key"),
    Index(None, "state", "lane", "rank", "number"),
    Index(None, "state", "number"),
    Index(None, "owner", "number"),
    sqlite_autoincrement=True,
)

for _columns, _where in (
    ((jobs.c.label, jobs.c.number), jobs.c.label.is_not(None)),
    ((jobs.c.ended,), jobs.c.ended.is_not(None)),
    ((jobs.c.deadline,), and_(jobs.c.deadline.is_not(None), jobs.c.ended.is_(None))),
):
    Index(None, *_columns, sqlite_where=_where, postgresql_where=_where)

items: Final = Table(
    "items",
    metadata,
    _of_job(primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("parent", Integer),
    Column("source_endpoint", Words),
    Column("source_path", PathText),
    Column("source_url", Words),
    Column("source_spool", Words),
    # What transfers are measured by: the endpoint of the source, or the scheme of its URL.
    Column("source_key", Words, nullable=False),
    Column("target_endpoint", Words),
    Column("target_path", PathText),
    Column("into", Boolean, nullable=False),
    Column("hash_type", Words, nullable=False),
    Column("hash_value", Words, nullable=False),
    Column("object_id", _ID, nullable=False),
    Column("result_id", _ID, nullable=False),
    Column("state", String(16), nullable=False),
    Column("size", _SIZE),
    Column("bytes_done", _SIZE, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", _TIME),
    Column("started", _TIME),
    Column("ended", _TIME),
    Column("algorithm", Words, nullable=False),
    Column("digest", Words, nullable=False),
    Column("landed_endpoint", Words),
    Column("landed_path", PathText),
    Column("fault", Words, nullable=False),
    Column("reason", Words, nullable=False),
    Index(None, "source_key", "target_endpoint", "ended"),
)

job_secrets: Final = Table("job_secrets", metadata, _of_job(primary_key=True), Column("content", Json, nullable=False))

events: Final = Table(
    "events",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    _of_job(nullable=False),
    Column("seq", Integer),
    Column("time", _TIME, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("data", Json, nullable=False),
    Index(None, "job", "number"),
    sqlite_autoincrement=True,
)

callbacks: Final = Table(
    "callbacks",
    metadata,
    _of_job(primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("next", _TIME, nullable=False, index=True),
    Column("reason", Words, nullable=False),
)

objects: Final = Table(
    "objects",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    Column("id", _ID, nullable=False, unique=True),
    Column("endpoint", Words, nullable=False),
    Column("path", PathText, nullable=False),
    Column("filename", PathText, nullable=False),
    Column("place", String(64), nullable=False, index=True),
    # The same while nothing else may be there, otherwise nothing.
    Column("holds", String(64), unique=True),
    Column("given_path", PathText, nullable=False),
    Column("size", _SIZE, nullable=False),
    Column("state", String(16), nullable=False),
    Column("algorithm", Words, nullable=False),
    Column("digest", Words, nullable=False),
    Column("type", Words, nullable=False),
    Column("storage_technology", Words, nullable=False),
    Column("description", Words, nullable=False),
    Column("originator", Words, nullable=False),
    Column("group", Words, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("registered", _TIME, nullable=False),
    Column("modified", _TIME),
    # The job that changes it, and the one that makes it.
    Column("lock", _ID, index=True),
    Column("maker", _ID, index=True),
    Column("home_endpoint", Words),
    Column("home_path", PathText),
    Column("owner", Words, nullable=False),
    Index(None, "filename", "endpoint"),
    Index(None, "endpoint", "number"),
    Index(None, "state", "number"),
    sqlite_autoincrement=True,
)

#: As JSON, since it is only ever read as a whole.
endpoints: Final = Table(
    "endpoints",
    metadata,
    Column("name", Words, primary_key=True),
    Column("content", Json, nullable=False),
    Column("changed", _TIME, nullable=False),
)

circuits: Final = Table(
    "circuits",
    metadata,
    Column("endpoint", Words, primary_key=True),
    Column("until", _TIME, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("reason", Words, nullable=False),
)

tokens: Final = Table(
    "tokens",
    metadata,
    Column("name", Words, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("scope", String(16), nullable=False),
    Column("created", _TIME, nullable=False),
    Column("last_used", _TIME),
    Column("expires", _TIME),
)

workers: Final = Table(
    "workers",
    metadata,
    Column("name", Words, primary_key=True),
    Column("threads", Integer, nullable=False),
    Column("seen", _TIME, nullable=False),
    Column("until", _TIME, nullable=False),
    # The groups that it is one of.
    Column("groups", Json, nullable=False, server_default="[]"),
)

#: What a job of bundling has beyond every job: its files and its bundle lie in the volume of carts.
carts: Final = Table(
    "carts",
    metadata,
    _of_job(primary_key=True),
    Column("uid", Words, nullable=False),
    Column("state", String(16), nullable=False),
    # Bytes of the volume that are kept for it.
    Column("reserved", _SIZE, nullable=False),
    Column("last_used", _TIME, nullable=False),
    Index(None, "uid"),
    Index(None, "state", "last_used"),
)

#: Downloads that are under way: a cart that has one is not evicted.
cart_downloads: Final = Table(
    "cart_downloads",
    metadata,
    Column("number", _NUMBER, primary_key=True),
    _of_job(nullable=False, index=True),
    Column("until", _TIME, nullable=False),
    sqlite_autoincrement=True,
)

"""Stores for the tests of jobs: each test is run with SQLite and with PostgreSQL, both the real thing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.jobs.store.database import Database
from mistamover.jobs.store.schema import metadata
from mistamover.jobs.store.store import Store
from stores import Clock


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite store, to be copied."""
    path = tmp_path_factory.mktemp("template") / "store.sqlite"
    database = Database(f"sqlite:///{path}")
    database.upgrade()
    database.close()
    return path


@pytest.fixture(scope="session")
def postgres_store(request: pytest.FixtureRequest) -> str:
    """The URL of a PostgreSQL store, used by one test after the other."""
    url: str = request.getfixturevalue("postgres").new_database()
    database = Database(url)
    database.upgrade()
    database.close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store with all its tables, for one test."""
    if request.param == "sqlite":
        path = tmp_path / "store.sqlite"
        shutil.copy(request.getfixturevalue("template"), path)
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("postgres_store")
    # A database for each test would take its time.
    database = Database(url)
    with database.write() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '10s'")
        connection.exec_driver_sql(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY")
    database.close()
    return url


@pytest.fixture
def clock() -> Clock:
    """The clock of the store."""
    return Clock()


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[Store]:
    """A store, which tells the time of `clock`."""
    with Store(url, clock) as opened:
        yield opened

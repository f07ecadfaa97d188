"""What the commands share that work on the store of jobs itself: which one it is, and how it is opened.

Nothing here imports SQLAlchemy before it is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mistamover.cli.common import load_settings, printable
from mistamover.errors import UsageError

if TYPE_CHECKING:
    from mistamover.jobs.store.database import Database
    from mistamover.jobs.store.store import Store


@contextmanager
def database_of(arguments: argparse.Namespace) -> Iterator[Database]:
    """Given the parsed command line, give the database of jobs. Raise UsageError, ConfigError, StoreError."""
    settings = load_settings(arguments)
    if settings.jobs is None:
        raise UsageError(
            f"{printable(settings.file)} says nothing of jobs: it has none of the sections "
            "[front], [engine] and [endpoints]"
        )
    from mistamover.jobs.store.database import Database

    database = Database(settings.jobs.engine.database_url)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def store_of(arguments: argparse.Namespace) -> Iterator[Store]:
    """As `database_of`, give the store, ready to be used; one in a file is made if there is none."""
    from mistamover.jobs.store.store import Store

    with database_of(arguments) as database:
        database.prepare()
        yield Store(database)

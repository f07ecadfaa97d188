"""The store of the job front: one database, and what is kept in it, a part for each kind."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from mistamover.jobs.store.callback_rows import Callbacks
from mistamover.jobs.store.cart_rows import Carts
from mistamover.jobs.store.catalogue import Objects
from mistamover.jobs.store.claims import Claims
from mistamover.jobs.store.database import Database
from mistamover.jobs.store.endpoint_rows import EndpointRows
from mistamover.jobs.store.events import Events
from mistamover.jobs.store.job_rows import Jobs
from mistamover.jobs.store.tokens import Tokens


class Store:
    """All of it; may be used by many threads. A child after a fork needs one of its own."""

    def __init__(self, database: str | Database, clock: Callable[[], float] = time.time) -> None:
        """Given the URL of a database, or a database, give access to what is in it. Raise StoreError."""
        self.database: Final = Database(database) if isinstance(database, str) else database
        self.jobs: Final = Jobs(self.database, clock)
        self.claims: Final = Claims(self.database, clock)
        self.objects: Final = Objects(self.database, clock)
        self.carts: Final = Carts(self.database, clock)
        self.endpoints: Final = EndpointRows(self.database, clock)
        self.tokens: Final = Tokens(self.database, clock)
        self.events: Final = Events(self.database)
        self.callbacks: Final = Callbacks(self.database, clock)

    def prepare(self) -> None:
        """As `Database.prepare`: what a process does first."""
        self.database.prepare()

    def close(self) -> None:
        """Close what is open."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

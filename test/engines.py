"""What jobs stand on in a test: an engine, and a store; and which tests are run on which of them.

Every test of jobs is run with the embedded engine and SQLite. Those with the mark `every_engine` are run on all of
`FOOTINGS`, with `every_engine("celery")` on those with that word in their names. With MISTAMOVER_ENGINES=all in the
environment every test of jobs is run on all of them; with the name of one of them everything stands on that one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import pytest

#: Name, kind of the engine, its broker, and the store.
FOOTINGS: Final = {
    "embedded-sqlite": ("embedded", "", "sqlite"),
    "embedded-postgresql": ("embedded", "", "postgresql"),
    "celery-redis-sqlite": ("celery", "redis", "sqlite"),
    "celery-rabbitmq-postgresql": ("celery", "rabbitmq", "postgresql"),
}
DEFAULT: Final = "embedded-sqlite"
WANTED: Final = os.environ.get("MISTAMOVER_ENGINES", "")

#: What the modules are called whose tests are of jobs.
JOB_TESTS: Final = ("test_job", "test_front_", "test_datamanager", "test_xmlrpc", "test_machines", "test_legacy_fuzz")


class Serves(Protocol):
    """A server of a test."""

    def new_database(self, template: str = "") -> str:
        """Return the URL of a new database, a copy of another one."""


@dataclass
class Footing:
    """One of them."""

    name: str = DEFAULT
    broker_url: str = ""
    broker_password: str = ""
    template: str = ""
    """The name of a database with empty tables, to be copied."""
    postgres: Serves | None = None

    @property
    def kind(self) -> str:
        """The engine's kind."""
        return FOOTINGS[self.name][0]

    def keys(self, **own: object) -> dict[str, object]:
        """Given keys of [engine] that a test sets, return all of them; the store is a new one, unless it is given."""
        found: dict[str, object] = {}
        if self.kind == "celery":
            found |= {"kind": "celery", "broker_url": self.broker_url, "announce_again": 2}
            found["broker_password_file"] = secret_file(self.broker_password)
        if self.postgres is not None and "database_url" not in own:
            found["database_url"] = self.postgres.new_database(self.template)
        return found | own


#: That of the test that runs.
current = Footing()


def need_file() -> None:
    """Skip a test that does something to the file of the store, where that is none."""
    if current.postgres is not None:
        pytest.skip("the store is no file")


def chosen(words: Sequence[object]) -> list[str]:
    """Given the words of the mark, return the footings whose names have all of them."""
    return [name for name in FOOTINGS if all(str(word) in name for word in words)]


def is_of_jobs(path: Path) -> bool:
    """Given the file of a test, tell whether it is of jobs, through processes or the front."""
    return path.name.startswith(JOB_TESTS) and path.parent.name == "integration"


def secret_file(word: str) -> Path:
    """Given a password, return a private file that holds it; the same one for the same."""
    path = Path(_secrets.name) / word
    path.touch(mode=0o600)
    path.write_text(f"{word}\n")
    return path


_secrets = tempfile.TemporaryDirectory(prefix="mistamover-secrets-")

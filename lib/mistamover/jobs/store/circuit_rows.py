"""The circuits in the store: endpoints that could not be used lately, and whose jobs wait."""

from __future__ import annotations

from sqlalchemy import delete, select

from mistamover.jobs.model import Circuit
from mistamover.jobs.store.database import Database, put
from mistamover.jobs.store.lanes import all_circuits
from mistamover.jobs.store.schema import circuits


class Circuits:
    """All of them; a name is that of an endpoint, or `SCHEME://HOST` of URLs that belong to none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_circuit(self, endpoint: str, until: float, reason: str) -> Circuit:
        """Given an endpoint that cannot be used, let its jobs wait until a time; return what is known of it now."""
        with self._database.write() as connection:
            self._database.serialise(connection, "circuits")
            failures = connection.execute(select(circuits.c.failures).where(circuits.c.endpoint == endpoint)).scalar()
            found = Circuit(until=until, failures=(failures or 0) + 1, reason=reason)
            put(
                connection,
                circuits,
                {"endpoint": endpoint, "until": until, "failures": found.failures, "reason": reason},
            )
        return found

    def close_circuit(self, endpoint: str) -> bool:
        """Given an endpoint that can be used, let its jobs go; return whether they had to wait."""
        if endpoint not in self.circuits():
            return False
        with self._database.write() as connection:
            return bool(connection.execute(delete(circuits).where(circuits.c.endpoint == endpoint)).rowcount)

    def forget_circuits(self, before: float) -> int:
        """Given a time, forget the hosts of the world outside that nobody tried since; return how many."""
        if not any("://" in endpoint and each.until < before for endpoint, each in self.circuits().items()):
            return 0
        old = delete(circuits).where(circuits.c.until < before, circuits.c.endpoint.contains("://"))
        with self._database.write() as connection:
            return connection.execute(old).rowcount

    def circuits(self) -> dict[str, Circuit]:
        """Return all of them. Where `until` is over, one job at a time tries."""
        with self._database.read() as connection:
            return all_circuits(connection)

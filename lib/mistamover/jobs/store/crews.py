"""The workers in the store: who lives, how many jobs each does at a time, and of which groups; who waits for whom."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, select

from mistamover.jobs.model import JobState
from mistamover.jobs.store.database import Database, put
from mistamover.jobs.store.lanes import CLAIMED
from mistamover.jobs.store.schema import jobs, lanes, workers

#: Seconds that a worker is remembered which is gone: each has a name of its own.
_REMEMBERED: Final = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Living:
    """A worker that lives."""

    name: str
    threads: int
    """Jobs that it does at a time."""
    groups: frozenset[str]
    """The groups whose jobs it does; the empty one stands for the jobs of no group."""


class Crews:
    """All of them."""

    _database: Database
    _clock: Callable[[], float]

    def seen(self, worker: str, threads: int, lease: float, groups: Collection[str] = ("",)) -> None:
        """Given a worker, how many jobs it does at a time, and of which groups, write down that it lives."""
        now = self._clock()
        row = {"name": worker, "threads": threads, "seen": now, "until": now + lease, "groups": sorted(groups)}
        with self._database.write() as connection:
            put(connection, workers, row)
            connection.execute(delete(workers).where(workers.c.until < now - _REMEMBERED))

    def workers(self) -> dict[str, int]:
        """Return the workers that live, with how many jobs each does at a time."""
        return {each.name: each.threads for each in self.living()}

    def living(self) -> list[Living]:
        """Return the workers that live."""
        with self._database.read() as connection:
            rows = connection.execute(select(workers).where(workers.c.until >= self._clock())).all()
        return [Living(name=row.name, threads=row.threads, groups=frozenset(row.groups)) for row in rows]

    def threads_by_group(self) -> dict[str, int]:
        """Return the groups that living workers do jobs of, with how many jobs these do at a time."""
        found: dict[str, int] = {}
        for each in self.living():
            for group in each.groups:
                found[group] = found.get(group, 0) + each.threads
        return found

    def full_groups(self) -> frozenset[str]:
        """Return the groups of which a worker lives, and none has a thread free."""
        counted = select(jobs.c.worker, func.count().label("many")).where(jobs.c.state.in_(CLAIMED))
        with self._database.read() as connection:
            busy = {row.worker: row.many for row in connection.execute(counted.group_by(jobs.c.worker))}
        living = self.living()
        free = {group for each in living if each.threads > busy.get(each.name, 0) for group in each.groups}
        return frozenset(group for each in living for group in each.groups if group not in free)

    def waiting_by_group(self) -> dict[str, int]:
        """Return how many jobs wait for the workers of each group, where any does."""
        wanted = select(lanes.c.workers, func.count().label("many")).join(jobs, jobs.c.lane == lanes.c.number)
        wanted = wanted.where(jobs.c.state == JobState.QUEUED).group_by(lanes.c.workers)
        with self._database.read() as connection:
            return {row.workers: row.many for row in connection.execute(wanted)}

    def unserved(self) -> dict[str, int]:
        """As `waiting_by_group`, for groups of which no worker lives."""
        served = self.threads_by_group()
        return {group: many for group, many in self.waiting_by_group().items() if not served.get(group)}

    def group_waited_for(self, job_id: str) -> str | None:
        """Given a job that waits, return the group that does it if no worker of that lives, otherwise None."""
        wanted = select(lanes.c.workers).join(jobs, jobs.c.lane == lanes.c.number)
        with self._database.read() as connection:
            row = connection.execute(wanted.where(jobs.c.id == job_id, jobs.c.state == JobState.QUEUED)).first()
        return None if row is None or self.threads_by_group().get(row.workers) else str(row.workers)

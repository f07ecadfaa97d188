"""Which jobs workers are told of by a broker: those that are to begin next, and not more than can be taken soon.

The store decides what begins and in which order, as it does where workers look by themselves; a message only says that
it is time.  What is lost on its way is announced again, and what comes twice is claimed once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from mistamover.jobs.model import JobState
from mistamover.jobs.store.database import Database
from mistamover.jobs.store.lanes import Limits, all_circuits, first_of_each, next_in, open_lanes, running, waiting
from mistamover.jobs.store.schema import jobs

#: Jobs of one lane that are read at a time.
_CHUNK: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """One job that is to be announced."""

    job: str
    workers: str
    """The group that does it."""
    priority: int


class Announcements:
    """What is announced, and what was not after all."""

    _database: Database
    _clock: Callable[[], float]

    def announce(
        self,
        rooms: Mapping[str, int],
        *,
        again: float,
        full: Collection[str] = (),
        limits: Mapping[str, int] | None = None,
        owner_max: int = 0,
    ) -> list[Announcement]:
        """Given how many jobs of each group can be taken soon, mark what is to be announced now, and return it.

        Those are the jobs that are to begin next, without the ones that were announced in the last `again` seconds.
        `full` are groups whose workers have no thread free: what they were told of is not lost, but has to wait.
        `limits` and `owner_max` are those of `Claims.next`.
        """
        wanted = Limits(endpoints=limits or {}, owner=owner_max)
        # Looked for without keeping anybody from writing: mostly all is announced already.
        with self._database.read() as connection:
            if not _to_announce(connection, rooms, wanted, self._clock(), again, full):
                return []
        with self._database.write() as connection:
            # Whoever looks at the same time would announce the same.
            self._database.serialise(connection, "announce")
            now = self._clock()
            found = _to_announce(connection, rooms, wanted, now, again, full)
            if found:
                ids = [each.job for each in found]
                queued = jobs.c.state == JobState.QUEUED
                connection.execute(update(jobs).where(jobs.c.id.in_(ids), queued).values(announced=now))
        return found

    def unannounce(self, ids: Sequence[str]) -> None:
        """Given jobs that could not be announced, or not be taken, have them announced anew if they wait."""
        if ids:
            with self._database.write() as connection:
                unannounce(connection, ids)

    def overdue(
        self,
        groups: Collection[str],
        seconds: float,
        *,
        limits: Mapping[str, int] | None = None,
        owner_max: int = 0,
    ) -> bool:
        """Given groups, tell whether a job of theirs was announced so many seconds ago, could begin, and still waits.

        `limits` and `owner_max` are those of `Claims.next`.
        """
        wanted = Limits(endpoints=limits or {}, owner=owner_max)
        now = self._clock()
        with self._database.read() as connection:
            # What waits for an endpoint is announced again when that can be used, and is nobody's fault until then.
            free = open_lanes(waiting(connection, groups), running(connection), wanted, all_circuits(connection), now)
            old = select(jobs.c.number).where(
                jobs.c.state == JobState.QUEUED,
                jobs.c.lane.in_([lane.number for lane in free]),
                jobs.c.announced < now - seconds,
            )
            return connection.execute(old.limit(1)).first() is not None


def unannounce(connection: Connection, ids: Sequence[str]) -> None:
    """Given a writing connection and the ids of jobs, have those announced anew that wait."""
    told = jobs.c.announced.is_not(None)
    queued = update(jobs).where(jobs.c.id.in_(ids), jobs.c.state == JobState.QUEUED, told)
    connection.execute(queued.values(announced=None))


def _to_announce(
    connection: Connection,
    rooms: Mapping[str, int],
    limits: Limits,
    now: float,
    again: float,
    full: Collection[str],
) -> list[Announcement]:
    """Play through how jobs would begin, as if each group had so many free threads; return what nobody was told of."""
    left = {group: room for group, room in rooms.items() if room > 0}
    lanes = {lane.number: lane for lane in waiting(connection, left)}
    if not lanes:
        return []
    busy, broken = running(connection), all_circuits(connection)
    # Lanes that are closed from the beginning need not be looked into.
    free = open_lanes(lanes.values(), busy, limits, broken, now)
    found: list[Announcement] = []
    heads = [(row.rank, row.number, row) for row in first_of_each(connection, free, now)]
    behind: dict[int, Iterator[Row[Any]]] = {}
    heapq.heapify(heads)
    while heads and any(left.values()):
        _, _, first = heapq.heappop(heads)
        lane = lanes[first.lane]
        if not left[lane.workers] or not open_lanes([lane], busy, limits, broken, now):
            # Nothing of what is counted becomes less: it stays closed.
            continue
        busy.append(lane)
        left[lane.workers] -= 1
        if first.announced is None or (first.announced < now - again and lane.workers not in full):
            found.append(Announcement(job=first.id, workers=lane.workers, priority=-first.rank))
        if lane.number not in behind:
            behind[lane.number] = _behind(connection, first, now)
        if (following := next(behind[lane.number], None)) is not None:
            heapq.heappush(heads, (following.rank, following.number, following))
    return found


def _behind(connection: Connection, first: Row[Any], now: float) -> Iterator[Row[Any]]:
    """Given the first job of a lane, yield those that begin after it."""
    found = [first]
    while found:
        last = found[-1]
        found = next_in(connection, last.lane, last.rank, last.number, now, _CHUNK)
        yield from found

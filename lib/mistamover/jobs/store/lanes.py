"""Lanes: which jobs may begin, decided for all jobs of one owner that reach the same endpoints at once.

However many jobs wait for an endpoint that is dead or busy, nobody has to look at each of them to find one that can
begin.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, and_, func, or_, select

from mistamover.jobs.model import Circuit, JobState
from mistamover.jobs.store.database import Database, insert_or_skip
from mistamover.jobs.store.schema import circuits, jobs, lanes

#: The states of a job that a worker has.
CLAIMED: Final = (JobState.RUNNING.value, JobState.PACKAGING.value)
#: Hosts of the world outside that make a lane; a job with more of them waits for none, or each would be its own lane.
_MOST_HOSTS: Final = 4
#: Lanes that one statement is asked about.
_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One of them."""

    number: int
    owner: str
    endpoints: Sequence[str]
    workers: str = ""
    """The group of workers that does its jobs; empty: those of no group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What keeps jobs from beginning, apart from their own time."""

    endpoints: Mapping[str, int] = field(default_factory=dict)
    """Jobs that may use it at a time; 0 or no entry is no limit."""
    owner: int = 0
    """Jobs of one owner that may run at a time; 0 is no limit."""


def lane_of(database: Database, connection: Connection, owner: str, endpoints: Sequence[str], workers: str = "") -> int:
    """Given a writing connection, an owner, what a job of his reaches, and the group of workers that does it, return
    the number of its lane.
    """
    hosts = [name for name in endpoints if "://" in name]
    if len(hosts) > _MOST_HOSTS:
        endpoints = [name for name in endpoints if "://" not in name]
    parts: list[object] = [owner, *endpoints, *([[workers]] if workers else [])]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    # Nobody may forget it before it is used.
    database.serialise(connection, "lanes", shared=True)
    there: Select[int] = select(lanes.c.number).where(lanes.c.key == key)
    number = connection.execute(there).scalar()
    if number is None:
        values = {"key": key, "owner": owner, "endpoints": list(endpoints), "workers": workers}
        insert_or_skip(connection, lanes, ("key",), values)
        number = connection.execute(there).scalar_one()
    return number


def all_circuits(connection: Connection) -> dict[str, Circuit]:
    """Given a connection, return the endpoints that could not be used lately."""
    rows = connection.execute(select(circuits)).all()
    return {row.endpoint: Circuit(until=row.until, failures=row.failures, reason=row.reason) for row in rows}


def waiting(connection: Connection, groups: Collection[str] | None = None) -> list[Lane]:
    """Given a connection, return the lanes in which a job waits; with `groups` those of these alone."""
    queued = select(jobs.c.number).where(jobs.c.state == JobState.QUEUED, jobs.c.lane == lanes.c.number).exists()
    found = [lane_in(row) for row in connection.execute(select(lanes).where(queued))]
    return found if groups is None else [lane for lane in found if lane.workers in groups]


def running(connection: Connection) -> list[Lane]:
    """Given a connection, return the lanes in which jobs run: each as often as there are jobs."""
    counted = (
        select(jobs.c.lane, func.count().label("many"))
        .where(jobs.c.state.in_(CLAIMED))
        .group_by(jobs.c.lane)
        .subquery()
    )
    rows = connection.execute(select(lanes, counted.c.many).join(counted, counted.c.lane == lanes.c.number)).all()
    found: list[Lane] = []
    for row in rows:
        found += [lane_in(row)] * row.many
    return found


def lane_in(row: Row[Any]) -> Lane:
    """Given a row of `lanes`, return the lane."""
    return Lane(number=row.number, owner=row.owner, endpoints=row.endpoints, workers=row.workers)


def open_lanes(
    wanted: Collection[Lane], busy: Sequence[Lane], limits: Limits, broken: Mapping[str, Circuit], now: float
) -> list[Lane]:
    """Given lanes, those of the running jobs (one each), limits and circuits, return the ones a job may begin in."""
    users = Counter(endpoint for lane in busy for endpoint in lane.endpoints)
    owners = Counter(lane.owner for lane in busy)

    def has_room(endpoint: str) -> bool:
        circuit = broken.get(endpoint)
        if circuit is not None:
            # Where it failed last, one job at a time may find out whether it still does.
            return circuit.until <= now and not users[endpoint]
        most = limits.endpoints.get(endpoint, 0)
        return most <= 0 or users[endpoint] < most

    return [
        lane
        for lane in wanted
        if (limits.owner <= 0 or owners[lane.owner] < limits.owner) and all(map(has_room, lane.endpoints))
    ]


def first_in(connection: Connection, wanted: Sequence[Lane], now: float) -> str | None:
    """Given lanes, return the id of the job that is to begin next in any of them, None if none may yet."""
    found: list[Row[*tuple[Any, ...]]] = []
    for best in _firsts(wanted, now, jobs.c.rank, jobs.c.number, jobs.c.id):
        found += connection.execute(best.order_by(jobs.c.rank, jobs.c.number).limit(1)).all()
    return min(found).id if found else None


def first_of_each(connection: Connection, wanted: Sequence[Lane], now: float) -> list[Row[Any]]:
    """Given lanes, return of each the job that is to begin next in it, where one may."""
    columns = (jobs.c.rank, jobs.c.number, jobs.c.id, jobs.c.lane, jobs.c.announced)
    return [row for firsts in _firsts(wanted, now, *columns) for row in connection.execute(firsts)]


def next_in(connection: Connection, lane: int, rank: int, number: int, now: float, limit: int) -> list[Row[Any]]:
    """Given a lane, and the place of a job in it, return the jobs that are to begin after that one, in their order."""
    behind = or_(jobs.c.rank > rank, and_(jobs.c.rank == rank, jobs.c.number > number))
    found = select(jobs.c.rank, jobs.c.number, jobs.c.id, jobs.c.lane, jobs.c.announced)
    found = found.where(jobs.c.state == JobState.QUEUED, jobs.c.lane == lane, jobs.c.rank >= rank, behind, due(now))
    return list(connection.execute(found.order_by(jobs.c.rank, jobs.c.number).limit(limit)))


def _firsts(wanted: Sequence[Lane], now: float, *columns: ColumnElement[Any]) -> Iterator[Select[Any]]:
    """Given lanes, yield statements that together select columns of the first job of each."""
    other = jobs.alias()
    first = (
        select(other.c.number)
        .where(other.c.state == JobState.QUEUED, other.c.lane == lanes.c.number, due(now, other))
        .order_by(other.c.rank, other.c.number)
        .limit(1)
        .correlate(lanes)
        .scalar_subquery()
    )
    for start in range(0, len(wanted), _AT_ONCE):
        numbers = [lane.number for lane in wanted[start : start + _AT_ONCE]]
        firsts = select(first).where(lanes.c.number.in_(numbers))
        yield select(*columns).where(jobs.c.number.in_(firsts))


def due(now: float, table: FromClause = jobs) -> ColumnElement[bool]:
    """Given the time, return the condition that a job's own time has come."""
    return or_(table.c.not_before.is_(None), table.c.not_before <= now)

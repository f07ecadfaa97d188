"""With 100,000 jobs in the store nothing that is asked often looks at each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from mistamover.jobs.model import Claim, ItemState, JobState, Op
from mistamover.jobs.store.schema import events, items, jobs
from mistamover.jobs.store.store import Store
from stores import a_job, claimed, done, submitted

MANY = 100_000
#: Where a plan may not read all there is.
LARGE = ("jobs", "items", "events")


@pytest.fixture
def full(store: Store) -> Store:
    """A store with many jobs: a tenth waits for an endpoint that is dead, the rest is done."""
    model = submitted(store, a_job(target="dead", label="l", deadline=9e9))
    store.claims.open_circuit("dead", 9e9, "no route")
    counting = (
        f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {MANY})"
        if store.database.embedded
        else f"WITH n AS (SELECT generate_series(1, {MANY}) AS n)"
    )
    changed: dict[str, dict[str, str]] = {
        "jobs": {
            "number": "number + n",
            "id": "id || n",
            "state": "CASE mod(n, 10) WHEN 0 THEN 'queued' ELSE 'done' END",
            "owner": "'owner' || (mod(n, 50))",
            "label": "'label' || (n / 5)",
            "idempotency_key": "'key' || n",
            "ended": "CASE mod(n, 10) WHEN 0 THEN NULL ELSE created + n END",
        },
        "items": {"job": "job || n", "state": "'done'", "started": "1e6", "ended": "1e6 + n", "size": "n"},
        "events": {"number": "number + n", "job": "job || n"},
    }
    with store.database.write() as connection:
        for table in (jobs, items, events):
            values = ", ".join(changed[table.name].get(column.name, f'"{column.name}"') for column in table.c)
            names = ", ".join(f'"{column.name}"' for column in table.c)
            connection.exec_driver_sql(
                f"{counting} INSERT INTO {table.name} ({names}) SELECT {values} FROM {table.name}, n"
            )
        if not store.database.embedded:
            for table in (jobs, events):
                connection.exec_driver_sql(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', 'number'), {MANY + 9})"
                )
    if not store.database.embedded:
        with store.database.write() as connection:
            connection.exec_driver_sql("ANALYZE")
    assert model.id
    return store


@contextmanager
def plans(store: Store) -> Iterator[list[tuple[str, list[str]]]]:
    """Give a list of the statements that are executed meanwhile, each with the lines of its plan."""
    found: list[tuple[str, list[str]]] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.split()[0] not in ("SELECT", "UPDATE", "DELETE"):
            return
        word = "EXPLAIN QUERY PLAN" if store.database.embedded else "EXPLAIN"
        other = connection.connection.dbapi_connection.cursor()
        other.execute(f"{word} {statement}", parameters[0] if many else parameters)
        found.append((statement, [str(row[-1]) for row in other.fetchall()]))
        other.close()

    engines = {store.database._reader, store.database._writer}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", explain)
    yield found
    for engine in engines:
        event.remove(engine, "before_cursor_execute", explain)


def scans(plan: list[str]) -> list[str]:
    """Given a plan, return its lines that read a large table from end to end."""
    bad = [f"{word} {table}" for word in ("SCAN", "Seq Scan on") for table in LARGE]
    return [line for line in plan if any(line.strip().strip("->").strip().startswith(word) for word in bad)]


def test_what_is_asked_often_is_found_by_an_index(full: Store) -> None:
    job = submitted(full, a_job("a", "b", owner="ann", key="k", label="mine", deadline=9e9))
    held: list[Claim] = []
    acts: dict[str, Callable[[], object]] = {
        "announce": lambda: full.claims.announce({"": 8}, again=30),
        "full groups": full.claims.full_groups,
        "overdue": lambda: full.claims.overdue([""], 5.0),
        "who is waited for": lambda: full.claims.group_waited_for(job.id),
        "next": lambda: held.append(claimed(full, "w", 1e9)),
        "nothing next": lambda: full.claims.next("w", 10.0, limits={"there": 1}, owner_max=1),
        "get": lambda: full.jobs.get(job.id),
        "items": lambda: full.jobs.items(job.id),
        "renew": lambda: full.claims.renew(held, 1e9, {(job.id, 0): (ItemState.TRANSFERRING, 1, 2)}),
        "done": lambda: done(full, held[0]),
        "failed": lambda: full.claims.item_failed(held[0], 1, fault="link", reason="x", not_before=1.0),
        "expand": lambda: full.claims.expand(held[0], 1, []),
        "sweep": full.claims.sweep,
        "finish": lambda: full.claims.finish(held[0], JobState.FAILED),
        "retry": lambda: full.jobs.retry(job.id),
        "cancel": lambda: full.jobs.cancel(job.id),
        "drop": lambda: full.jobs.drop(job.id),
        "submit": lambda: full.jobs.submit(a_job(owner="owner7", key="k"), max_unfinished=10**6),
        "page": lambda: full.jobs.page(limit=10, before=MANY),
        "page of an owner": lambda: full.jobs.page(owner="owner7", limit=10),
        "page of a label": lambda: full.jobs.page(label="label7"),
        "page of a state": lambda: full.jobs.page(state=JobState.FAILED),
        "page of little": lambda: full.jobs.page(owner="owner7", op=Op.COPY, state=JobState.QUEUED),
        "events": lambda: full.events.after(full.events.last() - 1),
        "events of a job": lambda: full.events.after(0, job=job.id),
        "estimate": lambda: full.jobs.estimate("here", "dead"),
        "prune": lambda: full.jobs.prune(1.0),
        "callbacks": lambda: full.callbacks.due(10),
        "release": lambda: full.claims.release("w"),
        "object": lambda: full.objects.place("here", "a"),
    }
    bad: dict[str, object] = {}
    for name, act in acts.items():
        with plans(full) as found:
            act()
        assert found, name
        bad |= {f"{name}: {statement}": lines for statement, plan in found if (lines := scans(plan))}
    assert bad == {}
    with plans(full) as found, full.database.read() as connection:
        connection.exec_driver_sql("SELECT count(*) FROM jobs WHERE reason = 'x'")
    assert scans(found[-1][1]), "a plan that reads everything is noticed"

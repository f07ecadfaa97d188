"""Tokens, endpoints, callbacks and the log of events."""

from __future__ import annotations

from pathlib import Path

import pytest

from mistamover.config.serving import EndpointSettings
from mistamover.errors import JobRefused
from mistamover.jobs.model import Callback, JobState, Scope
from mistamover.jobs.store.schema import metadata
from mistamover.jobs.store.store import Store
from stores import START, Clock, a_job, claimed, now_of, submitted


def test_a_token_lets_in_until_it_ends(store: Store, clock: Clock) -> None:
    secret = store.tokens.create("portal", Scope.SUBMIT, START + 100)
    other = store.tokens.create("guest", Scope.READ)
    assert secret.startswith("mm_") and len(secret) >= 43 and secret != other
    token = store.tokens.verify(secret)
    assert token is not None and (token.name, token.scope, token.created) == ("portal", Scope.SUBMIT, START)
    assert store.tokens.verify(secret, "portal") is not None and store.tokens.verify(secret, "guest") is None
    for wrong in ("", "mm_", secret[:-1], secret.upper(), secret[3:], "mm_\udcff", "mm_" + "ü" * 40):
        assert store.tokens.verify(wrong) is None
    assert [token.name for token in store.tokens.list()] == ["guest", "portal"]
    clock.now += 100
    assert store.tokens.verify(secret) is None and store.tokens.verify(other) is not None
    assert store.tokens.revoke("guest") and not store.tokens.revoke("guest")
    assert store.tokens.verify(other) is None


def test_when_a_token_was_used_is_written_once_a_minute(store: Store, clock: Clock) -> None:
    secret = store.tokens.create("portal", Scope.READ)

    def used() -> float | None:
        store.tokens.verify(secret)
        return store.tokens.list()[0].last_used

    assert store.tokens.list()[0].last_used is None and used() == START
    clock.now += 59
    assert used() == START
    clock.now += 1
    assert used() == START + 60


@pytest.mark.parametrize("name", ["", "-x", "a b", "a:b", "a\n", "x" * 65, "ü"])
def test_a_token_has_a_name_that_can_be_written(store: Store, name: str) -> None:
    with pytest.raises(JobRefused):
        store.tokens.create(name, Scope.READ)
    assert store.tokens.list() == []


def test_a_name_is_given_once(store: Store) -> None:
    secret = store.tokens.create("portal", Scope.READ)
    with pytest.raises(JobRefused):
        store.tokens.create("portal", Scope.ADMIN)
    with pytest.raises(JobRefused):
        store.tokens.create("none", Scope.NONE)
    token = store.tokens.verify(secret)
    assert token is not None and token.scope is Scope.READ


def test_no_secret_of_a_token_is_in_the_store(store: Store) -> None:
    secret = store.tokens.create("portal", Scope.ADMIN)
    with store.database.read() as connection:
        rows = [row for table in metadata.tables for row in connection.exec_driver_sql(f"SELECT * FROM {table}")]
    assert rows and secret not in repr(rows)


def test_endpoints_come_back_as_they_were_put(store: Store) -> None:
    whole = EndpointSettings(
        name="hpc",
        url="sftp://u@h/x",
        scheme="sftp",
        host="h",
        port=22,
        user="u",
        base="/x",
        identity_file=Path("/k"),
        options={"scheduler": "slurm"},
        from_ini=False,
    )
    plain = EndpointSettings(name="a", url="file:///a", scheme="file", base="/a", from_ini=False)
    for endpoint in (whole, plain, plain):
        store.endpoints.put(endpoint)
    assert store.endpoints.all() == [plain, whole] and store.endpoints.get("hpc") == whole
    assert store.endpoints.get("b") is None
    assert store.endpoints.delete("a") and not store.endpoints.delete("a") and store.endpoints.all() == [whole]


def test_an_end_is_told_until_that_has_worked(store: Store, clock: Clock) -> None:
    silent, told = submitted(store), submitted(store, a_job(callback=Callback(queue="q", extra={"id": "7"})))
    for job in (silent, told):
        assert store.callbacks.due(10) == []
        store.jobs.cancel(job.id)
    (due,) = store.callbacks.due(10)
    assert (due.job, due.attempts) == (now_of(store, told), 0)
    assert store.callbacks.due(10) == [], "somebody is at it"
    clock.now += 10
    assert [each.job.id for each in store.callbacks.due(10)] == [told.id], "he has died"
    store.callbacks.failed(told.id, clock.now + 60, "no route to host")
    assert store.callbacks.due(10) == [] and store.callbacks.pending() == 1
    clock.now += 60
    (due,) = store.callbacks.due(10)
    assert due.attempts == 1
    store.callbacks.made(told.id)
    assert store.callbacks.pending() == 0


def test_a_second_end_is_told_as_well(store: Store) -> None:
    job = submitted(store, a_job(callback=Callback(queue="q")))
    store.jobs.cancel(job.id)
    store.jobs.retry(job.id)
    assert store.claims.finish(claimed(store), JobState.FAILED, reason="x")
    (due,) = store.callbacks.due(10)
    assert due.job.state is JobState.FAILED


def test_events_are_read_from_a_number_on(store: Store) -> None:
    assert store.events.last() == 0 and store.events.after(0) == []
    jobs = [submitted(store) for _ in range(3)]
    store.jobs.cancel(jobs[1].id)
    events = store.events.after(0)
    assert [event.job for event in events] == [job.id for job in (*jobs, jobs[1])]
    assert [event.number for event in events] == sorted({event.number for event in events})
    assert store.events.last() == events[-1].number and store.events.after(events[-1].number) == []
    assert store.events.after(events[0].number, limit=1) == [events[1]]
    assert [event.kind for event in store.events.after(0, job=jobs[1].id)] == ["submitted", "cancelled"]
    assert store.events.after(2**80) == [] and store.events.after(0, job="unknown") == []

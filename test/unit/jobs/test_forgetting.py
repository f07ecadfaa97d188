"""What a store must not keep: secrets of jobs that have ended, and what is only good for a while."""

from __future__ import annotations

from pathlib import Path

from mistamover.jobs.model import JobState, NewItem, Op, Source
from mistamover.jobs.store.store import Store
from mistamover.jobs.work.forgetting import Forgetting
from stores import Clock, a_job, at, claimed, submitted

SECRET = b"s3cret-passw0rd"


def files_with_the_secret(directory: Path) -> list[str]:
    return [path.name for path in directory.glob("store.sqlite*") if SECRET in path.read_bytes()]


def test_a_secret_is_in_no_file_of_the_store_once_its_job_has_ended(store: Store, clock: Clock, tmp_path: Path) -> None:
    """What SQLite deletes stays in its log until that is written over."""
    forgetting = Forgetting(store, clock)
    forgetting.look()
    submitted(store, a_job(secrets={"password": SECRET.decode()}))
    claim = claimed(store)
    forgetting.look()
    assert claim.secrets["password"] == SECRET.decode()
    assert store.claims.finish(claim, JobState.DONE)
    clock.now += 5
    forgetting.look()
    assert files_with_the_secret(tmp_path) == []
    submitted(store, a_job("b", secrets={"password": SECRET.decode()}))
    claim = claimed(store)
    if store.database.embedded:
        assert files_with_the_secret(tmp_path) != []
        # Whoever reads just now keeps the log; nobody waits for him, and it is tried again.
        with store.database.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar()
            assert store.claims.finish(claim, JobState.CANCELLED)
            clock.now += 5
            forgetting.look()
            assert files_with_the_secret(tmp_path) != []
        forgetting.look()
    assert files_with_the_secret(tmp_path) == []


def test_workers_that_are_gone_are_forgotten_after_a_day(store: Store, clock: Clock) -> None:
    store.claims.seen("old", 4, 15.0)
    clock.now += 2 * 86400
    store.claims.seen("new", 4, 15.0)
    clock.now -= 2 * 86400
    assert store.claims.workers() == {"new": 4}


def test_hosts_that_nobody_tries_any_more_are_forgotten_and_endpoints_are_not(store: Store, clock: Clock) -> None:
    store.claims.open_circuit("http://gone.example", clock.now + 1, "no route")
    store.claims.open_circuit("http://tried.example", clock.now + 60, "no route")
    store.claims.open_circuit("here", clock.now + 1, "no route")
    assert store.claims.forget_circuits(clock.now + 2) == 1
    assert set(store.claims.circuits()) == {"http://tried.example", "here"}


def test_content_of_a_job_that_failed_is_kept_for_another_try_and_not_for_ever(store: Store, clock: Clock) -> None:
    names = {state: f"{number}" * 32 for number, state in enumerate((JobState.DONE, JobState.FAILED))}
    for state, name in names.items():
        item = NewItem(source=Source(spool=name), target=at("there", name))
        submitted(store, a_job(op=Op.PUT, items=[item]))
        assert name in store.jobs.spooled(clock.now)
        claim = claimed(store)
        assert name in store.jobs.spooled(clock.now + 1)
        assert store.claims.finish(claim, state)
    assert store.jobs.spooled(clock.now) == {names[JobState.FAILED]}
    assert store.jobs.spooled(clock.now + 1) == set()

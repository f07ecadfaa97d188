"""Carts that several change at the same moment: on a server of databases they meet in the middle of what they do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import insert, select, text, update

from mistamover.errors import NoSpace
from mistamover.jobs.cart_model import Kept
from mistamover.jobs.model import JobState, Op
from mistamover.jobs.store.schema import cart_downloads, carts, jobs
from mistamover.jobs.store.store import Store
from stores import Clock, a_job, submitted
from support import wait_until


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """That of a new database of PostgreSQL: in SQLite nobody meets anybody."""
    made: str = request.getfixturevalue("postgres").new_database(request.getfixturevalue("postgres_template"))
    return made


@pytest.fixture
def store(url: str, clock: Clock) -> Iterator[Store]:
    made = Store(url, clock=clock)
    yield made
    made.close()


def ready(store: Store, uid: str) -> str:
    """Return the job of a cart that is ready, and has one byte."""
    job = submitted(store, a_job(op=Op.BUNDLE, label=uid)).id
    with store.database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(state=JobState.DONE, ended=store.carts._clock()))
    store.carts.reserve(job, 1, quota=0, unused_since=0.0)
    return job


def meanwhile(store: Store, job: str, do: Callable[[], object], *, downloaded: bool) -> object:
    """Given a cart, do something while somebody begins to download it who has got half-way; return what came of it."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(do())
        except NoSpace:
            found.append(NoSpace)

    def waits() -> bool:
        with store.database.read() as connection:
            return bool(connection.execute(text("SELECT 1 FROM pg_locks WHERE NOT granted LIMIT 1")).first())

    other = threading.Thread(target=run)
    with store.database.write() as connection:
        connection.execute(update(carts).where(carts.c.job == job).values(last_used=carts.c.last_used))
        other.start()
        wait_until(waits, 20, "the other one waits for the cart")
        if downloaded:
            # Which refers to the job: nobody who waits for the cart may have that.
            connection.execute(insert(cart_downloads).values(job=job, until=store.carts._clock() + 60))
    other.join(20)
    assert not other.is_alive()
    return found[0]


def kept(store: Store, job: str) -> str:
    with store.database.read() as connection:
        return str(connection.execute(select(carts.c.state).where(carts.c.job == job)).scalar_one())


@pytest.mark.parametrize("downloaded", [False, True])
def test_a_cart_is_evicted_unless_a_download_has_just_begun(store: Store, clock: Clock, downloaded: bool) -> None:
    old, new = ready(store, "old"), ready(store, "new")
    clock.now += 10
    found = meanwhile(
        store, old, lambda: store.carts.reserve(new, 1, quota=1, unused_since=clock.now), downloaded=downloaded
    )
    assert found == (NoSpace if downloaded else [old])
    assert kept(store, old) == (Kept.LIVE if downloaded else Kept.EVICTED)


@pytest.mark.parametrize("downloaded", [False, True])
def test_a_full_disk_evicts_none_whose_download_has_just_begun(store: Store, clock: Clock, downloaded: bool) -> None:
    old, new = ready(store, "old"), ready(store, "new")
    clock.now += 10
    found = meanwhile(store, old, lambda: store.carts.evict_one(new, unused_since=clock.now), downloaded=downloaded)
    assert found == (None if downloaded else old)


def test_a_purge_leaves_what_somebody_has_just_begun_to_download(store: Store, clock: Clock) -> None:
    job = ready(store, "old")
    clock.now += 10
    assert meanwhile(store, job, lambda: store.carts.purge(unused_since=clock.now), downloaded=True) == []
    assert kept(store, job) == Kept.LIVE


def test_a_cart_is_deleted_even_if_a_download_has_just_begun(store: Store) -> None:
    job = ready(store, "old")
    assert meanwhile(store, job, lambda: store.carts.delete("old"), downloaded=True) == [job]
    assert kept(store, job) == Kept.DELETED

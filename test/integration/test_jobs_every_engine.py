"""Jobs of every kind through a worker of its own, with every engine and every store: the same comes of them."""

from __future__ import annotations

import contextlib
import itertools
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import engines
from mistamover.errors import KeyReused
from mistamover.jobs import spool
from mistamover.jobs.model import Callback, ItemState, Job, JobState, Op, Packaging
from mistamover.jobs.requests import Caller, Destination, Request
from mistamover.testing.redis_server import PrivateRedis
from receivers import Hook, hook_server
from support import wait_until
from workers import REQUEST, Gate, Shop, gate_server, place

pytestmark = pytest.mark.every_engine

THREADS = 3
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, footing: engines.Footing) -> Iterator[Shop]:
    """A shop with a worker that tests share, each with names of its own."""
    made = Shop(
        tmp_path_factory.mktemp("shop"),
        engine={"threads": THREADS, "owner_max_running": THREADS - 1},
        endpoints={"narrow": {"url": f"file://{tmp_path_factory.mktemp('narrow')}", "max_parallel": 1}},
    )
    for name in ("a", "b"):
        (made.here / name).write_bytes(name.encode() * 1000)
    made.start()
    yield made
    assert "Traceback" not in made.log()
    made.close()


@pytest.fixture
def shop(shared: Shop) -> Iterator[Shop]:
    yield shared
    worker = shared.workers[0]
    assert worker.poll() is None, shared.log()


@contextlib.contextmanager
def all_busy(shop: Shop) -> Iterator[list[Gate]]:
    """Keep all threads of the worker busy."""
    with contextlib.ExitStack() as stack:
        gates = [stack.enter_context(gate_server(Gate(1 << 16))) for _ in range(THREADS)]
        jobs = [
            shop.submit(gate.url, f"there:busy{next(NUMBERS)}", request=of(f"busy{number}"))
            for number, gate in enumerate(gates)
        ]
        for gate in gates:
            gate.wait()
        yield gates
        for gate in gates:
            gate.opened.set()
        for job in jobs:
            shop.until(job)


def of(owner: str) -> Request:
    """Return the request of an owner."""
    return replace(REQUEST, who=Caller(name=owner, scope=REQUEST.who.scope))


def put(shop: Shop, content: bytes, to: str) -> Job:
    """Put content, as the front does."""
    name, descriptor = spool.new(shop.jobs.directory)
    with open(descriptor, "wb") as file:
        file.write(content)
    job, _ = shop.desk.put(REQUEST, name, Destination(location=place(to), into=False), size=len(content))
    return job


def test_files_are_copied_and_moved(shop: Shop) -> None:
    (shop.here / "goes").write_bytes(b"goes")
    done = shop.until(shop.submit(["here:a", "here:b"], "there:copied"))
    assert (done.progress.items_done, done.attempts) == (2, 1)
    shop.until(shop.submit("here:goes", "there:moved", op=Op.MOVE))
    assert shop.names(shop.there / "copied") == ["a", "b"] and shop.names(shop.there / "moved") == ["goes"]
    assert not (shop.here / "goes").exists()
    kinds = [event.kind for event in shop.store.events.after(0, job=done.id)]
    assert (kinds[:2], kinds[-1]) == (["submitted", "started"], "done")


def test_content_is_put_and_deleted(shop: Shop) -> None:
    shop.until(put(shop, b"content", "there:put/x"))
    assert (shop.there / "put/x").read_bytes() == b"content"
    shop.until(shop.desk.delete(REQUEST, place("there:put/x"))[0])
    assert not (shop.there / "put/x").exists()


def test_a_url_is_fetched(shop: Shop) -> None:
    with gate_server(Gate(1 << 16)) as gate:
        gate.opened.set()
        shop.until(shop.submit(gate.url, "there:fetched"))
        assert (shop.there / "fetched/big.bin").read_bytes() == gate.content


def test_what_is_packed_arrives_as_one_zip(shop: Shop) -> None:
    specs = shop.specs(["here:a", "here:b"])
    to = Destination(location=place("there:packed"), into=True)
    job = shop.until(shop.desk.copy(REQUEST, specs, to, packaging=Packaging.ZIP)[0])
    (name,) = shop.names(shop.there / "packed")
    with zipfile.ZipFile(shop.there / "packed" / name) as packed:
        assert [packed.read(each) for each in ("data/a", "data/b")] == [b"a" * 1000, b"b" * 1000]
    assert job.progress.items_done == 2


def test_a_job_is_cancelled_while_it_runs_and_while_it_waits(shop: Shop) -> None:
    with gate_server(Gate()) as gate:
        job = shop.submit(gate.url, "there:cancelled")
        gate.wait()
        shop.cancel(job)
        shop.until(job, JobState.CANCELLED, timeout=15)
    with all_busy(shop):
        job = shop.submit("here:a", "there:cancelled")
        shop.cancel(job)
        assert shop.job(job).state is JobState.CANCELLED
    wait_until(lambda: shop.names(shop.there / "cancelled") == [], 15, "nothing is left of it")
    assert shop.started(job) == 0


def test_a_job_that_failed_is_tried_again(shop: Shop) -> None:
    job = shop.submit(["here:a", "here:late"], "there:again")
    assert [item.state for item in shop.store.jobs.items(shop.until(job, JobState.FAILED).id)] == [
        ItemState.DONE,
        ItemState.FAILED,
    ]
    (shop.here / "late").write_bytes(b"late")
    shop.store.jobs.retry(job.id)
    # Nobody rings: whoever looks by himself finds it.
    assert shop.until(job).progress.items_done == 2


def test_nothing_goes_on_after_its_deadline(shop: Shop) -> None:
    with gate_server(Gate(drips=True)) as gate:
        late = shop.submit("here:a", "there:late", deadline=time.time() - 1)
        running = shop.submit(gate.url, "there:late", deadline=time.time() + 1.5)
        for job in (late, running):
            assert "deadline" in shop.until(job, JobState.FAILED).reason
    wait_until(lambda: shop.names(shop.there / "late") == [], 15, "nothing is left of it")


def test_a_key_is_one_job(shop: Shop) -> None:
    first = shop.submit("here:a", "there:once", key="k1")
    assert shop.submit("here:a", "there:once", key="k1").id == first.id
    with pytest.raises(KeyReused):
        shop.submit("here:b", "there:once", key="k1")
    shop.until(first)
    assert shop.started(first) == 1


def test_the_urgent_begin_first(shop: Shop) -> None:
    with all_busy(shop) as gates:
        jobs = [
            shop.submit("here:a", f"there:urgent{priority}", priority=priority, request=of(f"of{priority}"))
            for priority in (-3, 0, 4, 2)
        ]
        gates[0].opened.set()
        for job in jobs:
            shop.until(job)
        begun = {
            event.job: event.number for event in shop.store.events.after(0, limit=100_000) if event.kind == "started"
        }
        assert sorted(jobs, key=lambda job: begun[job.id]) == [jobs[number] for number in (2, 3, 1, 0)]


def test_limits_are_kept_and_whoever_waits_for_them_goes_on(shop: Shop) -> None:
    """One job at a time uses the endpoint, two run of an owner, and others are not held up by them."""
    with gate_server(Gate(1 << 16)) as gate, gate_server(Gate(1 << 16)) as other:
        first = shop.submit(gate.url, "narrow:one", request=of("ann"))
        gate.wait()
        waiting = [shop.submit("here:a", f"narrow:{number}", request=of("ben")) for number in range(5)]
        second = shop.submit(other.url, "there:two", request=of("ann"))
        other.wait()
        third = shop.submit("here:a", "there:three", request=of("ann"))
        shop.until(shop.submit("here:a", "there:four", request=of("zoe")))
        assert {shop.job(job).state for job in (*waiting, third)} == {JobState.QUEUED}
        other.opened.set()
        shop.until(third)
        assert {shop.job(job).state for job in waiting} == {JobState.QUEUED}
        gate.opened.set()
        for job in (first, second, *waiting):
            shop.until(job)
        assert [shop.started(job) for job in (first, second, third, *waiting)] == [1] * 8


def test_whoever_asked_is_told_of_the_end(shop: Shop) -> None:
    hook = Hook()
    hook.status = 204
    with hook_server(hook) as port:
        job = shop.submit("here:a", "there:told", callback=Callback(url=f"http://127.0.0.1:{port}/x"))
        shop.until(job)
        wait_until(lambda: hook.raw, 15, "it is told")


@pytest.mark.every_engine("celery")
def test_a_message_that_nobody_understands_and_one_that_comes_twice_do_no_harm(
    shop: Shop,
) -> None:
    from mistamover.jobs.engine.publishing import Publisher
    from mistamover.jobs.store.announcements import Announcement

    engine = shop.jobs.engine
    publisher = Publisher(engine)
    job = shop.submit("here:a", "there:twice")
    ids = [job.id, job.id, "x" * 32, "0" * 32, job.id]
    publisher.publish([Announcement(job=each, workers="", priority=0) for each in ids])
    publisher.close()
    shop.until(job)
    shop.until(shop.submit("here:a", "there:after"))
    assert shop.started(job) == 1 and shop.names(shop.there / "twice") == ["a"]


@pytest.mark.every_engine("rabbitmq")
def test_who_has_no_thread_free_does_not_listen(shop: Shop) -> None:
    """What is announced meanwhile is for workers that have one, and not held by one that has not."""
    with all_busy(shop):
        wait_until(lambda: listeners(shop) == 0, 15, "nobody listens")
        job = shop.submit("here:a", "there:free")
    shop.until(job)
    wait_until(lambda: listeners(shop) == 1, 15, "it listens again")


def listeners(shop: Shop) -> int:
    """Return how many workers listen for jobs of no group."""
    from mistamover.jobs.engine import celery_app

    with celery_app.make(shop.jobs.engine, ()).connection_for_write() as connection:
        return int(celery_app.queue("")(connection.default_channel).queue_declare(passive=True).consumer_count)


def test_a_message_that_is_lost_is_made_good(shop: Shop) -> None:
    with shop.standing_still(shop.workers[0]):
        job = shop.submit("here:a", "there:lost")
        found = shop.store.claims.announce({"": 10}, again=100)
        assert [each.job for each in found] == [job.id]
    shop.until(job)


@pytest.mark.every_engine("celery")
def test_no_secret_is_told(shop: Shop, footing: engines.Footing) -> None:
    written = shop.log() + (shop.site.directory / "worker.out").read_text()
    assert footing.broker_password not in written
    with open(f"/proc/{shop.workers[0].pid}/cmdline", "rb") as file:
        assert footing.broker_password.encode() not in file.read()


@pytest.mark.every_engine("redis")
def test_a_broker_that_is_away_delays_nothing_for_long(shop: Shop, redis_of_all: PrivateRedis) -> None:
    """Jobs are taken while it is away, and done when it is there again. RabbitMQ is killed in test/chaos."""
    redis_of_all.stop()
    try:
        job = shop.submit("here:a", "there:away")
        wait_until(lambda: "cannot be announced" in shop.log(), 15, "it is said")
        assert shop.job(job).state is JobState.QUEUED
    finally:
        redis_of_all.start()
    shop.until(job)
    shop.until_log("listens at the broker")


def test_jobs_go_to_the_workers_of_their_group(shop: Shop, tmp_path: Path) -> None:
    """Of an endpoint of a group only its workers do jobs, with every engine; and it is told who is missed."""
    base = tmp_path / "lab"
    base.mkdir()
    ends = {
        "here": {"url": f"file://{shop.here}"},
        "there": {"url": f"file://{shop.there}"},
        "lab": {"url": f"file://{base}", "workers": "lab"},
    }
    words = {"database_url": shop.jobs.engine.database_url, "groups": "lab", "groups_only": True}
    other = Shop(tmp_path / "other", endpoints=ends, engine=words)
    try:
        theirs = other.submit("here:a", "lab:x")
        plain = other.submit("here:a", "there:plain")
        shop.until(plain)
        assert other.job(theirs).state is JobState.QUEUED
        assert other.store.claims.unserved() == {"lab": 1}
        checked = other.site.run("check", "-c", str(other.site.global_ini))
        assert checked.returncode == 1
        assert "jobs: FAILED: 1 wait for a worker of the group lab, and none runs" in checked.stdout
        other.start()
        assert other.until(theirs).attempts == 1
        assert "begins (copy, attempt 1)" in other.log() and plain.id not in other.log()
        assert other.store.claims.unserved() == {}
    finally:
        other.close()

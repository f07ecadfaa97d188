"""Real workers on a real store: killed, stopped, stalled and asked to cancel; and every job ends as it should."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mistamover.jobs.model import ItemState, JobState, Op
from mistamover.testing.sshd import PrivateSshd
from support import free_port, wait_until
from workers import Gate, Shop, gate_server


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    with gate_server(Gate()) as made:
        yield made


def test_jobs_are_done(shop: Shop) -> None:
    shop.start()
    for name in ("a", "b"):
        (shop.here / name).write_bytes(name.encode())
    copied = shop.submit(["here:a", "here:b"], "there:new")
    done = shop.until(copied)
    assert (done.progress.items_done, done.progress.bytes_done, done.attempts) == (2, 2, 1)
    moved = shop.submit("here:a", "there:moved", op=Op.MOVE)
    shop.until(moved)
    assert shop.names() == ["moved/a", "new/a", "new/b"]
    assert shop.names(shop.here) == ["b"]
    kinds = [event.kind for event in shop.store.events.after(0, job=copied.id)]
    assert kinds[:2] == ["submitted", "started"]
    assert kinds[-1] == "done"


def test_what_waits_while_nobody_works_is_done_at_the_start(shop: Shop) -> None:
    (shop.here / "a").write_bytes(b"a")
    jobs = [shop.submit("here:a", f"there:{number}") for number in range(10)]
    shop.start()
    for job in jobs:
        shop.until(job)
    assert len(shop.names()) == 10


@pytest.mark.every_engine
def test_a_job_whose_worker_is_killed_half_way_is_done_by_the_next_one(shop: Shop, gate: Gate) -> None:
    worker = shop.start()
    job = shop.submit(gate.url)
    gate.wait()
    wait_until(lambda: shop.job(job).progress.bytes_done > 0, 15, "it is on its way")
    worker.kill()
    worker.wait(10)
    left = shop.names()
    assert len(left) == 1
    assert left[0].startswith("."), "nothing is seen under its final name"
    began = time.monotonic()
    shop.start()
    done = shop.until(job)
    # It did not wait for the lease to run out: the worker knows whose jobs its predecessor had.
    assert time.monotonic() - began < 30
    assert done.attempts == 2
    assert shop.names() == ["big.bin"]
    assert (shop.there / "big.bin").read_bytes() == gate.content
    assert shop.log().count("begins again") == 1


@pytest.mark.parametrize("drips", [True, False], ids=["slow", "silent"])
def test_a_job_is_cancelled_in_the_middle_of_a_file(shop: Shop, drips: bool) -> None:
    shop.start()
    with gate_server(Gate(drips=drips)) as gate:
        job = shop.submit(gate.url)
        gate.wait()
        wait_until(lambda: shop.job(job).progress.bytes_done > 0, 20, "it is on its way")
        shop.cancel(job)
        # The silent server would have had a minute.
        shop.until(job, JobState.CANCELLED, timeout=15)
        wait_until(lambda: shop.names() == [], 15, "nothing is left of it")
    assert [item.state for item in shop.store.jobs.items(job.id)] == [ItemState.CANCELLED]
    assert shop.store.claims.circuits() == {}, "what we cut ourselves says nothing of an endpoint"
    (shop.here / "a").write_bytes(b"a")
    shop.until(shop.submit("here:a"))


def test_a_job_is_cancelled_while_a_far_end_hangs(tmp_path: Path, private_sshd: PrivateSshd) -> None:
    base = tmp_path / "far"
    base.mkdir()
    far = {"url": f"sftp://{private_sshd.host}{base}", "ssh_config": private_sshd.ssh_config}
    shop = Shop(tmp_path / "site", endpoints={"far": far})
    try:
        (shop.here / "a").write_bytes(b"a")
        shop.start()
        shop.until(shop.submit("here:a", "far:first"))
        private_sshd.pause()
        job = shop.submit("here:a", "far:second")
        shop.until(job, JobState.RUNNING)
        shop.cancel(job)
        shop.until(job, JobState.CANCELLED, timeout=15)
        private_sshd.resume()
        shop.until(shop.submit("here:a", "far:third"))
    finally:
        private_sshd.resume()
        shop.close()


@pytest.mark.parametrize("drips", [True, False], ids=["slow", "silent"])
def test_a_worker_that_is_asked_to_end_puts_back_what_it_has(shop: Shop, drips: bool) -> None:
    shop.site.write_global(**{"global": {"stop_timeout": 1}})
    worker = shop.start()
    with gate_server(Gate(drips=drips)) as gate:
        job = shop.submit(gate.url)
        gate.wait()
        wait_until(lambda: shop.job(job).progress.bytes_done > 0, 20, "it is on its way")
        worker.terminate()
        assert worker.wait(20) == 0
        assert shop.job(job).state is JobState.QUEUED
        assert shop.names() == []
        assert shop.store.claims.workers() == {}
        shop.start()
        assert shop.until(job).attempts == 2
        assert shop.names() == ["big.bin"]


@pytest.mark.every_engine
def test_a_worker_that_is_asked_to_end_lets_jobs_end(shop: Shop, gate: Gate) -> None:
    worker = shop.start()
    job = shop.submit(gate.url)
    gate.wait()
    worker.terminate()
    shop.until_log("stops, with 1 jobs under way")
    gate.opened.set()
    assert worker.wait(20) == 0
    assert shop.job(job).state is JobState.DONE


def test_only_one_worker_serves_a_directory(shop: Shop) -> None:
    shop.start()
    shop.until_log("does 2 jobs at a time")
    assert shop.start().wait(20) == 1
    shop.until_log("another worker serves")


def test_a_dead_endpoint_holds_up_no_other_one_and_is_given_up(tmp_path: Path) -> None:
    dead = {"dead": {"url": f"sftp://127.0.0.1:{free_port()}/x"}}
    shop = Shop(tmp_path, endpoints=dead, engine={"give_up_after": 4, "threads": 1})
    try:
        (shop.here / "a").write_bytes(b"a")
        # All of them come before those that can be done.
        lost = [shop.submit("here:a", f"dead:{number}") for number in range(20)]
        good = [shop.submit("here:a", f"there:{number}") for number in range(5)]
        shop.start()
        for job in good:
            shop.until(job)
        assert sum(shop.job(job).state is JobState.QUEUED for job in lost) > 10
        circuits = shop.store.claims.circuits()
        assert list(circuits) == ["dead"]
        for job in lost:
            failed = shop.until(job, JobState.FAILED)
            assert "refused" in failed.reason.lower(), failed.reason
        # Most of them without having been tried.
        assert sum(shop.started(job) for job in lost) < 20
    finally:
        shop.close()


def test_an_endpoint_that_comes_back_is_used_again(tmp_path: Path, private_sshd: PrivateSshd) -> None:
    base = tmp_path / "far"
    base.mkdir()
    far = {"url": f"sftp://{private_sshd.host}{base}", "ssh_config": private_sshd.ssh_config}
    private_sshd.stop()
    shop = Shop(tmp_path / "site", endpoints={"far": far})
    try:
        (shop.here / "a").write_bytes(b"a")
        job = shop.submit("here:a", "far:")
        shop.start()
        wait_until(lambda: shop.store.claims.circuits(), 30, "it cannot be reached")
        private_sshd.start()
        shop.until(job)
        wait_until(lambda: not shop.store.claims.circuits(), 10, "it can be reached again")
        assert (base / "a").read_bytes() == b"a"
    finally:
        shop.close()


def test_two_workers_share_a_store(tmp_path: Path) -> None:
    one = Shop(tmp_path / "one")
    two = Shop(tmp_path / "two", engine={"database_url": one.jobs.engine.database_url}, endpoints=ends(one))
    try:
        (one.here / "a").write_bytes(b"a")
        jobs = [one.submit("here:a", f"there:{number}") for number in range(40)]
        one.start()
        two.start()
        for job in jobs:
            one.until(job)
        assert len(one.names()) == 40
        assert [one.started(job) for job in jobs] == [1] * 40
        assert len(one.store.claims.workers()) == 2
    finally:
        one.close()
        two.close()


def ends(shop: Shop) -> dict[str, object]:
    """Return the endpoints of a shop for another one."""
    return {"here": {"url": f"file://{shop.here}"}, "there": {"url": f"file://{shop.there}"}}


def test_a_worker_that_stood_still_for_too_long_makes_nothing_public(tmp_path: Path, gate: Gate) -> None:
    one = Shop(tmp_path / "one")
    two = Shop(tmp_path / "two", engine={"database_url": one.jobs.engine.database_url}, endpoints=ends(one))
    try:
        stalled = one.start()
        job = one.submit(gate.url)
        gate.wait()
        with one.standing_still(stalled):
            two.start()
            done = one.until(job)
            assert done.attempts == 2
            final = one.there / "big.bin"
            before = final.stat()
            gate.opened.set()
        one.until_log("is not ours any more")
        wait_until(lambda: one.names() == ["big.bin"], 20, "it has taken away what it had begun")
        assert (final.stat().st_ino, final.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert final.read_bytes() == gate.content
        # It goes on with other jobs.
        (one.here / "a").write_bytes(b"a")
        one.until(one.submit("here:a"))
    finally:
        one.close()
        two.close()


def test_nothing_goes_on_after_its_deadline(shop: Shop) -> None:
    # One waits, one is under way, and its server gives too little to notice anything.
    with gate_server(Gate(drips=True)) as gate, gate_server(Gate()) as never:
        waiting = shop.submit(never.url, deadline=time.time() - 1)
        shop.start()
        running = shop.submit(gate.url, deadline=time.time() + 4)
        for job in (waiting, running):
            failed = shop.until(job, JobState.FAILED)
            assert "deadline" in failed.reason
        wait_until(lambda: shop.names() == [], 15, "nothing is left of it")
        assert (gate.requests, never.requests) == (1, 0)


def test_a_store_that_cannot_be_used_ends_the_worker_in_words(tmp_path: Path) -> None:
    shop = Shop(tmp_path, engine={"database_url": f"sqlite:///{tmp_path}/jobs.db"})
    shop.store.close()
    (tmp_path / "jobs.db").write_bytes(b"this is no database at all" * 100)
    worker = shop.start()
    assert worker.wait(20) == 1
    assert "the worker ends" in shop.log()
    assert "Traceback" not in shop.log()
    shop.close()

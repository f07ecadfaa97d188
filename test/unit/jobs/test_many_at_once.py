"""Many processes and threads on one store: a job is claimed once, a key is one job, a place is one object's."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mistamover.jobs.model import JobState
from mistamover.jobs.store.store import Store
from store_users import DEADLINE, results, users
from stores import a_job, now_of, submitted


def test_each_job_is_claimed_once(url: str) -> None:
    with Store(url) as store:
        # A server is another process, and so takes its time on a busy machine.
        many = 300 if store.database.embedded else 100
        ids = [submitted(store, a_job(source=f"s{number % 3}", owner=f"o{number % 2}")).id for number in range(many)]
        with users("claim", url, processes=2, threads=4) as started:
            got = results(started)
        assert sorted(got) == sorted(ids)
        assert store.jobs.counts()[JobState.DONE] == many
        assert all(job.attempts == 1 for job in store.jobs.page(limit=many)[0])


def test_the_job_of_a_killed_worker_is_free_after_its_lease(url: str) -> None:
    with Store(url) as store:
        job = submitted(store)
        with users("hold", url, processes=1, threads=1) as (worker,):
            assert worker.stdout is not None and worker.stdout.readline() == f"{job.id}\n"
            assert store.claims.next("w9", 60.0) is None
            worker.kill()
            worker.wait(DEADLINE)
            pause, deadline = threading.Event(), time.monotonic() + DEADLINE
            while not (freed := store.claims.sweep()):
                assert time.monotonic() < deadline
                pause.wait(0.05)
        assert freed == [job.id] and now_of(store, job).attempts == 1
        claim = store.claims.next("w9", 60.0)
        assert claim is not None and claim.job.id == job.id and claim.job.attempts == 2


def test_a_key_that_all_use_at_once_is_one_job(url: str) -> None:
    with users("submit", url, processes=2, threads=8) as started:
        got = [line.split() for line in results(started)]
    assert len(got) == 16 and len({id for id, _ in got}) == 1
    assert sorted(created for _, created in got) == ["False"] * 15 + ["True"]
    with Store(url) as store:
        assert len(store.jobs.page()[0]) == len(store.events.after(0)) == 1


def test_a_place_that_all_want_is_one_jobs(url: str) -> None:
    with users("reserve", url, processes=2, threads=4) as started:
        assert sorted(results(started)) == ["taken"] * 7 + ["won"]
    with Store(url) as store:
        assert len(store.jobs.page()[0]) == len(store.objects.find(reserved=True)[0]) == 1


def test_a_new_store_is_made_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new/store.sqlite"
    with users("upgrade", url, processes=4, threads=2) as started:
        assert results(started) == ["0"] * 8


def test_a_limit_holds_however_many_claim(url: str) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def work(ids: list[str]) -> None:
        nonlocal running, most
        deadline = time.monotonic() + DEADLINE
        while ids:
            # Each wants another job: nothing but the limit keeps them apart.
            claim = store.claims.claim(ids[-1], "w", 60.0, limits={"there": 2})
            if claim is None:
                assert time.monotonic() < deadline
                continue
            ids.pop()
            with lock:
                running += 1
                most = max(most, running)
            store.claims.renew([claim], 60.0)
            with lock:
                running -= 1
            assert store.claims.finish(claim, JobState.DONE)

    with Store(url) as store, ThreadPoolExecutor(8) as pool:
        shares = [[submitted(store).id for _ in range(5)] for _ in range(8)]
        for future in [pool.submit(work, ids) for ids in shares]:
            future.result(DEADLINE)
        assert store.jobs.counts()[JobState.DONE] == 40
    assert 1 <= most <= 2


def test_whoever_reads_the_log_misses_nothing(url: str) -> None:
    seen: list[int] = []
    written, pause = threading.Event(), threading.Event()

    def read() -> None:
        while True:
            last_look = written.is_set()
            found = store.events.after(seen[-1] if seen else 0, limit=7)
            seen.extend(event.number for event in found)
            if not found:
                # Those who write are to get on as well.
                pause.wait(0.001)
            if last_look and seen and seen[-1] == store.events.last():
                return

    def write(number: int) -> None:
        for _ in range(15):
            store.jobs.cancel(submitted(store, a_job(source=f"s{number}")).id)

    with Store(url) as store, ThreadPoolExecutor(9) as pool:
        reader = pool.submit(read)
        for future in [pool.submit(write, number) for number in range(8)]:
            future.result(DEADLINE)
        written.set()
        reader.result(DEADLINE)
        assert len(seen) == len(set(seen)) == 8 * 15 * 2

"""Many clients ask for many jobs while the front and the worker are killed: every job ends once, and well.

The seed is printed; MISTAMOVER_SEED repeats a run, MISTAMOVER_JOBS changes the number of jobs (default 100; 1,000 is
the full ordeal), MISTAMOVER_KILLS the number of kills of each process (default 3; 5).
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mistamover.jobs.model import Event
from mistamover.jobs.store.store import Store
from served_jobs import JobSite
from support import wait_until

JOBS = int(os.environ.get("MISTAMOVER_JOBS", "100"))
KILLS = int(os.environ.get("MISTAMOVER_KILLS", "3"))
CLIENTS = 20
ITEMS = 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + JOBS)]


class Ordeal:
    """A job front, its clients, and who kills it."""

    def __init__(self, site: JobSite, chance: random.Random) -> None:
        self.site = site
        self.chance = chance
        self.ids: dict[int, set[str]] = {}
        self.over = threading.Event()
        self.partial: list[str] = []
        self.hashes = {}
        for number in range(JOBS):
            (site.places["here"] / f"in{number}").mkdir()
            for item in range(ITEMS):
                name = f"{number}-{item}"
                content = chance.randbytes(chance.choice((100, 40_000, 700_000)))
                self.hashes[name] = hashlib.sha256(content).hexdigest()
                (site.places["here"] / f"in{number}" / name).write_bytes(content)

    def submit(self, number: int) -> None:
        """Ask for one job until it is answered, and then once more with the same key."""
        sources = [{"endpoint": "here", "path": f"in{number}/{number}-{item}"} for item in range(ITEMS)]
        body = {
            "op": "move" if number % 3 == 0 else "copy",
            "sources": sources,
            "destination": {"endpoint": "there", "path": f"out{number}/"},
        }
        pause = threading.Event()
        answers = 0
        for _ in range(600):
            try:
                status, job = self.site.ask("POST", "/api/v1/jobs", body, {"Idempotency-Key": f"key-{number}"})
            except (OSError, http.client.HTTPException):
                # Killed meanwhile: whether the job was taken, nobody knows.
                pause.wait(0.1)
                continue
            assert status in (200, 201, 202), job
            self.ids.setdefault(number, set()).add(job["id"])
            answers += 1
            if answers == 2:
                return
        raise AssertionError(f"job {number} was not taken")

    def kill(self) -> None:
        """Kill front and worker in turn, a few times, each time after a part of the jobs has ended."""
        store = Store(f"sqlite:///{self.site.directory}/state/jobs/store.sqlite")
        for kill in range(2 * KILLS):
            enough = JOBS * (kill + 1) // (2 * KILLS + 2)
            wait_until(lambda enough=enough: ended(store) >= enough, 60 + JOBS / 5, f"{enough} jobs have ended")
            victim = "worker" if kill % 2 else "front"
            pid = wait_until(lambda victim=victim: self.site.pid_of(victim), 40, f"there is a {victim}")
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda victim=victim, pid=pid: self.site.pid_of(victim) not in (None, pid), 40, "a new one runs")

    def watch(self) -> None:
        """See to it that what is seen at the target is whole, until the ordeal is over."""
        seen: set[str] = set()
        while not self.over.wait(0.02):
            for path in self.site.places["there"].glob("out*/*"):
                if path.name.startswith(".") or path.name in seen:
                    continue
                seen.add(path.name)
                if hashlib.sha256(path.read_bytes()).hexdigest() != self.hashes[path.name]:
                    self.partial.append(path.name)


def ended(store: Store) -> int:
    """Return how many jobs have ended."""
    counts = store.jobs.counts()
    return sum(count for state, count in counts.items() if str(state) in ("done", "failed", "cancelled"))


def test_every_job_ends_once_and_well(tmp_path: Path) -> None:
    """Every job ends, none twice; nothing partial is ever seen, nothing of ours is left; a key is one job."""
    seed = int(os.environ.get("MISTAMOVER_SEED") or secrets.randbelow(1 << 31))
    print(f"MISTAMOVER_SEED={seed}")
    site = JobSite(tmp_path, engine={"lease": 5})
    ordeal = Ordeal(site, random.Random(seed))
    with site.running():
        watcher = threading.Thread(target=ordeal.watch)
        watcher.start()
        try:
            with ThreadPoolExecutor(CLIENTS + 1) as clients:
                killing = clients.submit(ordeal.kill)
                for asking in [clients.submit(ordeal.submit, number) for number in range(JOBS)]:
                    asking.result()
                killing.result()
            store = Store(f"sqlite:///{tmp_path}/state/jobs/store.sqlite")
            wait_until(lambda: ended(store) == JOBS, 60 + JOBS / 5, "all jobs have ended")
        finally:
            ordeal.over.set()
            watcher.join()
    assert [number for number, ids in ordeal.ids.items() if len(ids) != 1] == []
    jobs = {number: store.jobs.get(next(iter(ids))) for number, ids in ordeal.ids.items()}
    assert {number: job.reason for number, job in jobs.items() if job is None or job.state != "done"} == {}
    ends = Counter(event.job for event in _events(store) if event.kind in ("done", "failed", "cancelled"))
    assert set(ends.values()) == {1} and len(ends) == JOBS
    assert ordeal.partial == []
    there = {path.name: path for path in site.places["there"].rglob("*") if path.is_file()}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()} == ordeal.hashes
    left = {path.name for path in site.places["here"].rglob("*") if path.is_file()}
    assert left == {name for name in ordeal.hashes if int(name.partition("-")[0]) % 3}
    assert [path for place in site.places.values() for path in place.rglob(".*")] == []


def _events(store: Store) -> Iterator[Event]:
    """Yield the whole log."""
    number = 0
    while found := store.events.after(number, limit=5000):
        yield from found
        number = found[-1].number

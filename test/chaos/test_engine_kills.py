"""Four workers, a broker, a database: each of them is killed or cut off while jobs run, and every job ends once, well.

The seed is printed; MISTAMOVER_SEED repeats a run, MISTAMOVER_JOBS changes the number of jobs (default 60; 2,000 is
the full ordeal), MISTAMOVER_BROKER=redis takes Redis in place of RabbitMQ.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import engines
from mistamover.jobs.model import Event, JobState
from mistamover.jobs.store.store import Store
from mistamover.testing.postgresql import PrivatePostgres
from mistamover.testing.rabbitmq import PrivateRabbit
from mistamover.testing.redis_server import PrivateRedis
from relays import Relay
from served_jobs import asked
from support import Site, free_port, wait_until

JOBS = int(os.environ.get("MISTAMOVER_JOBS", "60"))
BROKER = os.environ.get("MISTAMOVER_BROKER", "rabbitmq")
WORKERS = 4
CLIENTS = 8
ITEMS = 2
FINAL = ("done", "failed", "cancelled")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240 + JOBS)]


class Program:
    """A front or a worker with a state directory of its own, started again whenever it is killed."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.site.directory / f"{self.name}.out").open("ab") as sink:
            self.process = subprocess.Popen(
                self.site.command(self.name, "-c", str(self.site.global_ini)),
                env=self.site.environment(),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(15)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


class Ordeal:
    """All of it, and who breaks it."""

    def __init__(
        self, directory: Path, broker: PrivateRabbit | PrivateRedis, postgres: PrivatePostgres, chance: random.Random
    ) -> None:
        self.broker, self.postgres, self.chance = broker, postgres, chance
        self.to_broker, self.to_database = Relay(broker.host, broker.port), Relay(postgres.host, postgres.port)
        self.places = {name: directory / name for name in ("here", "there")}
        for place in self.places.values():
            place.mkdir()
        self.url = postgres.new_database()
        self.store = Store(self.url)
        self.store.database.upgrade()
        self.port = free_port()
        self.directory = directory
        self.programs: list[Program] = []
        self.ids: dict[int, set[str]] = defaultdict(set)
        self.hashes: dict[str, str] = {}
        for number in range(JOBS):
            (self.places["here"] / f"in{number}").mkdir()
            for item in range(ITEMS):
                content = chance.randbytes(chance.choice((100, 20_000, 300_000)))
                self.hashes[f"{number}-{item}"] = hashlib.sha256(content).hexdigest()
                (self.places["here"] / f"in{number}" / f"{number}-{item}").write_bytes(content)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run the workers and the front, over ways that can be cut."""
        with self.to_broker, self.to_database:
            for name in ("front", *(f"worker{number}" for number in range(WORKERS))):
                self.programs.append(Program(self._site(name), name.rstrip("0123456789")))
                self.programs[-1].start()
            wait_until(self.answers, 40, "the front answers")
            wait_until(lambda: all(map(self.lives, self.programs[1:])), 60, "the workers live")
            try:
                yield
            finally:
                for program in self.programs:
                    with contextlib.suppress(OSError):
                        program.kill()

    def _site(self, name: str) -> Site:
        far = self.url.replace(f":{self.postgres.port}/", f":{self.to_database.port}/")
        where = f"127.0.0.1:{self.to_broker.port}/"
        broker = f"amqp://{self.broker.user}@{where}" if isinstance(self.broker, PrivateRabbit) else f"redis://{where}0"
        return Site(
            self.directory / name,
            front={"port": self.port, "anonymous": "submit", "dialects": "rest"},
            engine={
                "kind": "celery",
                "broker_url": broker,
                "broker_password_file": engines.secret_file(self.broker.password),
                "database_url": far,
                "announce_again": 3,
                "threads": 3,
                "lease": 5,
                "retry_pause": 0.2,
            },
            endpoints={place: {"url": f"file://{path}", "max_parallel": 8} for place, path in self.places.items()},
            **{"global": {"stop_timeout": 5}},
        )

    def answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/api/v1/health")[0] == 200
        return False

    def ask(self, method: str, path: str, body: object = None, key: str = "") -> tuple[int, object]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=40)
        try:
            return asked(connection, method, path, body, {"Idempotency-Key": key} if key else {})
        finally:
            connection.close()

    def submit(self, number: int) -> None:
        """Ask for one job until it is taken."""
        body = {
            "op": "move" if number % 3 == 0 else "copy",
            "sources": [{"endpoint": "here", "path": f"in{number}/{number}-{item}"} for item in range(ITEMS)],
            "destination": {"endpoint": "there", "path": f"out{number}/"},
            "priority": self.chance.choice((-5, 0, 0, 5)),
        }
        pause = threading.Event()
        for _ in range(600):
            with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
                status, job = self.ask("POST", "/api/v1/jobs", body, f"key-{number}")
                if status in (200, 201, 202):
                    assert isinstance(job, dict)
                    self.ids[number].add(job["id"])
                    return
                assert status == 503, job
            pause.wait(0.1)
        raise AssertionError(f"job {number} was not taken")

    def ended(self) -> int:
        counts = self.store.jobs.counts()
        return sum(count for state, count in counts.items() if state.value in FINAL)

    def break_all(self) -> None:
        """One blow after the other, each when a part of the jobs has ended."""
        blows: list[Callable[[], None]] = [self.kill, self.cut, self.restart_database, self.kill, self.restart_broker]
        blows += [self.stall, self.kill]
        for number, blow in enumerate(blows):
            enough = JOBS * (number + 1) // (len(blows) + 2)
            wait_until(lambda enough=enough: self.ended() >= enough, 90 + JOBS / 4, f"{enough} jobs have ended")
            print(f"{time.monotonic():.1f} {self.ended()} ended: {blow.__name__}", flush=True)
            blow()

    def kill(self) -> None:
        """Kill two workers at a time, and start them again."""
        victims = self.chance.sample(self.programs[1:], 2)
        for victim in victims:
            victim.kill()
        for victim in victims:
            victim.start()
        # One that is started while the database is away ends with words, as it is to.
        wait_until(lambda: all(self.lives(victim) for victim in victims), 60, "they are there again")

    def lives(self, program: Program) -> bool:
        """Tell whether a worker has said that it lives."""
        assert program.process is not None
        return any(name.endswith(f"-{program.process.pid}") for name in self.store.claims.workers())

    def cut(self) -> None:
        """Cut the workers off from everything for a second or two."""
        for relay in (self.to_broker, self.to_database):
            relay.cut()
        threading.Event().wait(self.chance.uniform(0.5, 2))
        for relay in (self.to_database, self.to_broker):
            relay.mend()

    def stall(self) -> None:
        """Swallow all packets, for longer than a claim holds."""
        for relay in (self.to_broker, self.to_database):
            relay.stall()
        threading.Event().wait(6)
        for relay in (self.to_broker, self.to_database):
            relay.go_on()

    def restart_broker(self) -> None:
        self.broker.stop()
        self.broker.start()

    def restart_database(self) -> None:
        self.postgres.stop()
        self.postgres.start()

    def log(self) -> str:
        """Return the last lines of all logs."""
        found = self.directory.glob("*/log/*.log")
        return "\n".join("\n".join(path.read_text(errors="replace").splitlines()[-25:]) for path in found)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PrivateRabbit | PrivateRedis]:
    """A broker that nobody else uses: it is killed."""
    with PrivateRedis() if BROKER == "redis" else PrivateRabbit() as made:
        yield made


def test_every_job_ends_once_and_well(tmp_path: Path, broker: PrivateRabbit | PrivateRedis) -> None:
    """Every job ends, none twice; a key is one job; nothing of ours is left; nobody ended who was not killed."""
    seed = int(os.environ.get("MISTAMOVER_SEED") or secrets.randbelow(1 << 31))
    print(f"MISTAMOVER_SEED={seed}")
    began = time.monotonic()
    with PrivatePostgres() as postgres:
        ordeal = Ordeal(tmp_path, broker, postgres, random.Random(seed))
        with ordeal.running():
            try:
                with ThreadPoolExecutor(CLIENTS + 1) as clients:
                    breaking = clients.submit(ordeal.break_all)
                    for asking in [clients.submit(ordeal.submit, number) for number in range(JOBS)]:
                        asking.result()
                    breaking.result()
                wait_until(lambda: ordeal.ended() == JOBS, 120 + JOBS / 4, "all jobs have ended")
            except AssertionError as error:
                raise AssertionError(f"{error}; {ordeal.store.jobs.counts()}\n{ordeal.log()}") from error
            print(f"{JOBS} jobs in {time.monotonic() - began:.0f} s with {BROKER}", file=sys.stderr)
            check_jobs(ordeal)
            assert [program.name for program in ordeal.programs if not program.alive] == [], ordeal.log()
            clean_up(ordeal)
        check_files(ordeal)
        ordeal.store.close()


def check_jobs(ordeal: Ordeal) -> None:
    """Every job is done, once, and its events tell the same."""
    assert [number for number, ids in ordeal.ids.items() if len(ids) != 1] == [] and len(ordeal.ids) == JOBS
    events: dict[str, list[Event]] = defaultdict(list)
    for event in log_of(ordeal.store):
        events[event.job].append(event)
    for ids in ordeal.ids.values():
        job = ordeal.store.jobs.get(next(iter(ids)))
        assert job is not None and (job.state, job.reason) == (JobState.DONE, "")
        kinds = Counter(event.kind for event in events[job.id])
        assert sum(kinds[kind] for kind in FINAL) == 1 and events[job.id][-1].kind == "done"
        assert kinds["submitted"] == 1 and kinds["started"] == job.attempts == kinds["requeued"] + 1
    assert len(events) == JOBS


def clean_up(ordeal: Ordeal) -> None:
    """What the dead have left goes when their successors start."""
    for program in ordeal.programs[1:]:
        assert program.stop() == 0, ordeal.log()
        program.start()
    wait_until(lambda: not hidden(ordeal), 40, "nothing is left under a temporary name")
    for program in ordeal.programs:
        assert program.stop() == 0, ordeal.log()


def check_files(ordeal: Ordeal) -> None:
    """Every target is there with the right bytes, and the sources of what was copied."""
    there = {path.name: path for path in ordeal.places["there"].rglob("*") if path.is_file()}
    assert {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items()} == ordeal.hashes
    left = {path.name for path in ordeal.places["here"].rglob("*") if path.is_file()}
    assert left == {name for name in ordeal.hashes if int(name.partition("-")[0]) % 3}
    assert hidden(ordeal) == []


def hidden(ordeal: Ordeal) -> list[Path]:
    """Return what is there under a temporary name."""
    return [path for place in ordeal.places.values() for path in place.rglob(".*")]


def log_of(store: Store) -> Iterator[Event]:
    """Yield all events."""
    number = 0
    while found := store.events.after(number, limit=5000):
        yield from found
        number = found[-1].number

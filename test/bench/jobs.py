"""W10: the job front: how fast jobs are taken, how soon their status is told, how fast one large file is copied."""

from __future__ import annotations

import http.client
import os
import statistics
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import update

from bench import command
from bench.frame import Arena, Bench, Stage, Way, open_stage
from bench.results import NotDelivered, Results, Row
from bench.trees import Tree
from mistamover.jobs.model import Location, NewItem, NewJob, Op, Source
from mistamover.jobs.store import schema
from mistamover.jobs.store.admission import admit
from mistamover.jobs.store.database import Database
from mistamover.jobs.store.store import Store
from served_jobs import JobSite, asked

CLIENTS = 20
_TAKEN, _TOLD = "jobs taken", "status told"
_RSYNC, _SCP, _JOB = "rsync -a", "scp", "ours, one job"


def w10(bench: Bench) -> Results:
    """Jobs."""
    found = _of_jobs(bench)
    for name, there in (("W10 to ssh", True), ("W10 from ssh", False)):
        found = found.plus(_large(bench, name, there=there))
    return found


def _of_jobs(bench: Bench) -> Results:
    jobs, stored = bench.size(2000, 200), bench.size(100_000, 2_000)
    ways: list[Way[dict[str, float]]] = [
        Way(
            name=_TAKEN,
            settings=f"{CLIENTS} clients on kept connections ask for {jobs} jobs of 3 items by POST /api/v1/jobs; each"
            " answer comes after the commit to the disk; a worker runs beside it",
            run=lambda arena: {"jobs taken": _taken(arena, jobs)},
        ),
        Way(
            name=_TOLD,
            settings=f"GET /api/v1/jobs/ID one after the other, over one kept connection, of {stored} in the store",
            run=lambda arena: _told(arena, stored),
            most=1,
        ),
    ]
    with open_stage(bench, "W10", size=2**28, files=stored) as stage:
        taken = stage.take_turns(ways, bench.times(3))
        rows = []
        for each in taken:
            for quantity in each.values[0]:
                values = tuple(value[quantity] for value in each.values)
                unit = "jobs/s" if quantity == "jobs taken" else "ms"
                rows.append(Row(workload="W10", way=each.name, quantity=quantity, unit=unit, values=values))
        return stage.results(rows)


def _taken(arena: Arena, count: int) -> float:
    """Return how many jobs a second are taken."""
    site = JobSite(arena.directory / "site")
    for item in range(3):
        (site.places["here"] / f"file{item}").write_bytes(b"x" * 1000)
    sources = [{"endpoint": "here", "path": f"file{item}"} for item in range(3)]
    numbers = iter(range(count))
    lock = threading.Lock()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            body = {"sources": sources, "destination": {"endpoint": "there", "path": f"out/{number}/"}}
            status, answer = asked(connection, "POST", "/api/v1/jobs", body, {"Idempotency-Key": str(number)})
            if status not in (200, 201, 202):
                raise NotDelivered(f"{status}: {answer}")

    with site.running(), ThreadPoolExecutor(CLIENTS) as pool:
        begin = time.monotonic()
        for running in [pool.submit(client) for _ in range(CLIENTS)]:
            running.result()
        return count / (time.monotonic() - begin)


def _told(arena: Arena, stored: int) -> dict[str, float]:
    """Return the times of a status, in ms, at p50 and p99."""
    site = JobSite(arena.directory / "site")
    with site.running():
        pass
    store = Store(f"sqlite:///{site.directory}/state/jobs/store.sqlite")
    ids = _fill(store, stored)
    chosen = ids[:: max(1, len(ids) // 2000)]
    times = []
    with site.running():
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
        for job in chosen:
            begin = time.perf_counter()
            status, _ = asked(connection, "GET", f"/api/v1/jobs/{job}")
            times.append(1000 * (time.perf_counter() - begin))
            if status != 200:
                raise NotDelivered(f"status {status} of job {job}")
    cuts = statistics.quantiles(times, n=100)
    return {"status told, p50": cuts[49], "status told, p99": cuts[98]}


def _fill(store: Store, count: int) -> list[str]:
    """Put ended jobs into the store; return their ids."""
    database = Database(store.database.url.render_as_string())
    ids = []
    with database.write() as connection:
        for number in range(count):
            source = Source(location=Location(endpoint="here", path="file"))
            item = NewItem(source=source, target=Location(endpoint="there", path=f"out/{number}"))
            new = NewJob(op=Op.COPY, items=[item], owner=f"owner{number % 50}", label=str(number % 1000))
            ids.append(admit(database, connection, new, (), (), 0, time.time())[0])
        connection.execute(update(schema.items).values(state="done", ended=time.time()))
        connection.execute(update(schema.jobs).values(state="done", ended=time.time()))
    database.close()
    return ids


def _large(bench: Bench, name: str, *, there: bool) -> Results:
    tree = Tree(directories=1, per_directory=1, size=bench.size(2**30, 2**26))
    direction = "to" if there else "from"
    ways: list[Way[float]] = [
        Way(
            name=_RSYNC,
            settings=f"rsync -a {direction} sshd, then sync -f of the target",
            run=lambda arena: _plain(arena, tree, ["rsync", "-a", "-e", f"ssh -F {arena.sshd.ssh_config}"], there),
        ),
        Way(
            name=_SCP,
            settings=f"scp {direction} sshd, then sync -f of the target",
            run=lambda arena: _plain(arena, tree, ["scp", "-q", "-p", "-F", str(arena.sshd.ssh_config)], there),
        ),
        Way(
            name=_JOB,
            settings="POST /api/v1/jobs?wait=, until its answer says done: copied, proven by hash, flushed",
            run=lambda arena: _job(arena, tree, there),
        ),
    ]
    with open_stage(bench, name, size=3 * tree.bytes, files=3) as stage:
        return stage.results(_rows(stage, name, ways, bench.times(5)))


def _rows(stage: Stage, name: str, ways: Sequence[Way[float]], rounds: int) -> list[Row]:
    return [
        Row(workload=name, way=each.name, quantity="time", unit="s", values=tuple(each.values), baseline=_RSYNC)
        for each in stage.take_turns(ways, rounds)
    ]


def _plain(arena: Arena, tree: Tree, argv: Sequence[str], there: bool) -> float:
    source, target = _prepared(arena, tree)
    remote = f"127.0.0.1:{target}" if there else f"127.0.0.1:{source}"
    begin = time.monotonic()
    command.run([*argv, *(["--", str(source), remote] if there else ["--", remote, str(target)])])
    command.run(["sync", "-f", str(target)])
    return time.monotonic() - begin


def _job(arena: Arena, tree: Tree, there: bool) -> float:
    site = JobSite(arena.directory, arena.sshd, place=arena.directory)
    source, target = _prepared(
        arena, tree, site.places["here" if there else "far"], site.places["far" if there else "here"]
    )
    with site.running():
        # As a service that runs: the connection stands, the interpreter is warm.
        (source.parent / "warm").write_bytes(b"warm")
        _copied(site, "warm", there)
        begin = time.monotonic()
        _copied(site, source.name, there)
        seconds = time.monotonic() - begin
    if target.stat().st_size != tree.size:
        raise NotDelivered("the copy is not whole")
    return seconds


def _copied(site: JobSite, name: str, there: bool) -> None:
    source, target = ("here", "far") if there else ("far", "here")
    body = {"sources": [{"endpoint": source, "path": name}], "destination": {"endpoint": target, "path": name}}
    status, job = site.ask("POST", "/api/v1/jobs?wait=25", body)
    for _ in range(20):
        if status >= 400 or job["state"] in ("done", "failed"):
            break
        status, job = site.ask("GET", f"/api/v1/jobs/{job['id']}?wait=25")
    if status >= 400 or job["state"] != "done":
        raise NotDelivered(f"{status}: {job}")


def _prepared(arena: Arena, tree: Tree, source: Path | None = None, target: Path | None = None) -> tuple[Path, Path]:
    """Make the one file of the tree; return its path, and the one that it is to have."""
    source = source or arena.directory / "source"
    target = target or arena.directory / "target"
    for path in (source, target):
        path.mkdir(parents=True, exist_ok=True)
    with (source / "large").open("wb") as file:
        for _ in range(tree.size >> 20):
            file.write(os.urandom(2**20))
        file.flush()
        os.fsync(file.fileno())
    return source / "large", target / "large"

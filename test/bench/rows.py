#!/usr/bin/env python3
"""What jobs cost the store: bytes of rows and indexes, bytes of the log, transactions that write, flushes; and memory.

    test/bench/rows.py [--items 20000] [--per-job 1,100] [--store sqlite,postgresql] [--memory]

Jobs are handed in, claimed, done (files of ten bytes are copied on this disk) and ended, one after the other, by the
code of the service in one process: the rates are those of one thread.  It prints a table for each store and size.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "lib"), str(TOP / "test")]  # the checkout's own, wherever this is called from

import psutil  # noqa: E402
from sqlalchemy import Connection, event, text  # noqa: E402

from job_sites import REQUEST, JobSite, destination, spec  # noqa: E402
from mistamover.jobs.endpoints import Endpoints  # noqa: E402
from mistamover.jobs.model import JobState  # noqa: E402
from mistamover.jobs.store.schema import metadata  # noqa: E402
from mistamover.jobs.store.store import Store  # noqa: E402
from mistamover.jobs.submission import Desk  # noqa: E402
from mistamover.testing.postgresql import PrivatePostgres, available  # noqa: E402
from served_jobs import JobSite as ServedSite  # noqa: E402

#: Names in one directory of the source, like those of real runs.
_NAME = "experiment-17/run-{job:07}/output_{item:05}.nc"
_CONTENT = b"ten bytes."


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What some jobs took."""

    store: str
    jobs: int
    items: int
    tables: dict[str, int]
    """Bytes with indexes, of each table that has grown."""
    tidied: int
    """Bytes of all, after the store was packed (VACUUM)."""
    log: int
    """Bytes written to the log (WAL)."""
    submitting: int
    """Transactions that wrote while they were handed in."""
    doing: int
    """The same, from the claim to the end."""
    seconds: tuple[float, float]
    """The same two."""


class Embedded:
    """SQLite."""

    name = "sqlite"

    def __init__(self, site: JobSite) -> None:
        """Given a site with a store, count what is written to it."""
        self.site = site
        self._commits = 0
        event.listen(site.store.database._writer, "commit", self._count)

    def _count(self, connection: Connection) -> None:
        self._commits += 1

    def transactions(self) -> int:
        """Return how many transactions have written so far."""
        return self._commits

    def log(self) -> int:
        """Return how many bytes the log has; without checkpoints it only grows."""
        path = self.site.store.database.path
        wal = path.with_name(path.name + "-wal")
        return wal.stat().st_size if wal.exists() else 0

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Keep the log from being emptied: a reader that stands still."""
        with self.site.store.database.read() as connection:
            connection.execute(text("SELECT count(*) FROM jobs")).all()
            yield

    def tables(self) -> dict[str, int]:
        """Return the bytes of each table with its indexes."""
        query = "SELECT s.tbl_name, sum(d.pgsize) FROM dbstat d JOIN sqlite_schema s ON s.name = d.name GROUP BY 1"
        with self.site.store.database.read() as connection:
            return {name: size for name, size in connection.execute(text(query)) if name in metadata.tables}

    def tidy(self) -> None:
        """Pack it."""
        import sqlite3

        with contextlib.closing(sqlite3.connect(self.site.store.database.path)) as connection:
            connection.execute("VACUUM")


class Server:
    """PostgreSQL."""

    name = "postgresql"

    def __init__(self, site: JobSite) -> None:
        """Given a site with a store, be ready."""
        self.site = site

    def _ask(self, query: str) -> Any:
        with self.site.store.database.read() as connection:
            return connection.execute(text(query)).all()

    def transactions(self) -> int:
        """Return how many transactions have written so far; to ask is one."""
        ((number,),) = self._ask("SELECT pg_current_xact_id()::text::bigint")
        return int(number)

    def log(self) -> int:
        """Return how many bytes the log has had."""
        ((size,),) = self._ask("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        return int(size)

    @contextlib.contextmanager
    def logging(self) -> Iterator[None]:
        """Nothing has to be done."""
        yield

    def tables(self) -> dict[str, int]:
        """Return the bytes of each table with its indexes."""
        found = self._ask("SELECT relname, pg_total_relation_size(relid) FROM pg_stat_user_tables")
        return {name: size for name, size in found if name in metadata.tables}

    def tidy(self) -> None:
        """Pack it."""
        engine = self.site.store.database._writer
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM FULL"))


def measured(kept: Embedded | Server, items: int, per_job: int) -> Cost:
    """Given a store, a number of items, and how many of them a job has, do the jobs; return what they took."""
    site, count = kept.site, max(1, items // per_job)
    _write_sources(site, count, per_job)
    before = kept.tables()
    with kept.logging():
        log, first, begin = kept.log(), kept.transactions(), time.monotonic()
        made = [_submitted(site, number, per_job) for number in range(count)]
        middle, half = kept.transactions(), time.monotonic()
        for job in made:
            outcome = site.attempt(job)
            if outcome.state is not JobState.DONE:
                raise RuntimeError(f"job {job.id}: {outcome}")
        seconds = (half - begin, time.monotonic() - half)
        last, logged = kept.transactions(), kept.log() - log
    tables = {name: size - before.get(name, 0) for name, size in kept.tables().items()}
    kept.tidy()
    return Cost(
        store=kept.name,
        jobs=count,
        items=count * per_job,
        tables={name: size for name, size in sorted(tables.items()) if size > 0},
        tidied=sum(kept.tables().values()) - sum(before.values()),
        log=logged,
        submitting=middle - first,
        doing=last - middle,
        seconds=seconds,
    )


def _write_sources(site: JobSite, jobs: int, per_job: int) -> None:
    for job in range(jobs):
        for item in range(per_job):
            path = site.here / _NAME.format(job=job, item=item)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_CONTENT)


def _submitted(site: JobSite, job: int, per_job: int) -> Any:
    sources = [spec(f"here:{_NAME.format(job=job, item=item)}") for item in range(per_job)]
    to = destination(f"tape:archive/{job:07}/" if per_job > 1 else f"tape:archive/{job:07}/output_00000.nc")
    return site.desk.copy(dataclasses.replace(REQUEST, label=f"run {job}"), sources, to)[0]


def on_a_server(site: JobSite, url: str) -> None:
    """Given a site and the URL of an empty database, use that."""
    site.store.close()
    engine = dataclasses.replace(site.settings.engine, database_url=url)
    site.settings = dataclasses.replace(site.settings, engine=engine)
    site.store = Store(url)
    site.store.database.upgrade()
    site.endpoints = Endpoints(site.settings, site.store.endpoints)
    site.desk = Desk(site.settings, site.store, site.endpoints)
    site.context = site.new_context()


def told(cost: Cost) -> Iterator[str]:
    """Given what jobs took, yield the lines that say so."""
    total = sum(cost.tables.values())
    yield f"{cost.store}: {cost.jobs} jobs, {cost.items} items ({cost.items // cost.jobs} each)"
    for name, size in cost.tables.items():
        yield f"  {name:<12}{size / cost.items:10.0f} B an item {size / cost.jobs:12.0f} B a job"
    yield f"  {'all':<12}{total / cost.items:10.0f} B an item {total / cost.jobs:12.0f} B a job"
    yield f"  {'packed':<12}{cost.tidied / cost.items:10.0f} B an item {cost.tidied / cost.jobs:12.0f} B a job"
    yield f"  {'log':<12}{cost.log / cost.items:10.0f} B an item {cost.log / cost.jobs:12.0f} B a job"
    taken, done = (cost.jobs / max(each, 1e-9) for each in cost.seconds)
    commits = f"{cost.submitting / cost.jobs:.2f} handed in, {cost.doing / cost.jobs:.2f} done"
    yield f"  writing transactions a job: {commits}"
    items = done * cost.items / cost.jobs
    yield f"  one thread: {taken:.0f} jobs/s handed in, {done:.0f} jobs/s done, {items:.0f} items/s"


def memory() -> Iterator[str]:
    """Yield the lines that say how much memory the processes of a service have that has done a few jobs."""
    with tempfile.TemporaryDirectory() as directory:
        site = ServedSite(Path(directory))
        (site.places["here"] / "f").write_bytes(_CONTENT)
        with site.running() as agent:
            body = {"sources": [{"endpoint": "here", "path": "f"}], "destination": {"endpoint": "there", "path": "g/"}}
            for _ in range(50):
                status, job = site.ask("POST", "/api/v1/jobs?wait=20", body)
                if status != 200 or job["state"] != "done":
                    raise RuntimeError(f"{status}: {job}")
            for process in (psutil.Process(agent.pid), *psutil.Process(agent.pid).children(recursive=True)):
                found = process.memory_full_info()
                name = (process.cmdline() or ["?"])[0].rsplit("/", 1)[-1]
                name = name if name.startswith("mistamover") else "mistamover (the master)"
                yield f"  {name:<26}{found.pss / 2**20:6.0f} MiB PSS {found.uss / 2**20:6.0f} MiB of its own"


def main(words: Sequence[str] | None = None) -> int:
    """Given the words of the command line, measure; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--per-job", default="1,100")
    parser.add_argument("--store", default="sqlite,postgresql")
    parser.add_argument("--memory", action="store_true", help="also the memory of the processes")
    arguments = parser.parse_args(words)
    for store in arguments.store.split(","):
        for per_job in map(int, arguments.per_job.split(",")):
            with contextlib.ExitStack() as stack:
                site = JobSite(Path(stack.enter_context(tempfile.TemporaryDirectory())))
                stack.callback(site.close)
                kept: Embedded | Server = Embedded(site)
                if store == "postgresql":
                    reason = available()
                    if reason:
                        print(f"postgresql: {reason}", file=sys.stderr)
                        return 1
                    server = stack.enter_context(PrivatePostgres())
                    stack.callback(site.store.close)
                    on_a_server(site, server.new_database())
                    kept = Server(site)
                print("\n".join(told(measured(kept, arguments.items, per_job))), flush=True)
    if arguments.memory:
        print("memory")
        print("\n".join(memory()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""W12: more workers: how many jobs a second one, two and four of them do whose sources are slow to answer."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import engines
from bench.frame import Arena, Bench, Way, open_stage
from bench.results import NotDelivered, Results, Row
from mistamover.jobs.model import JobState
from mistamover.jobs.store.database import Database
from mistamover.testing.postgresql import PrivatePostgres
from mistamover.testing.rabbitmq import PrivateRabbit
from support import wait_until
from workers import Shop

#: Seconds after which the source answers, and jobs that a worker does at a time.
ANSWER, THREADS = 1.0, 2
WORKERS = (1, 2, 4)
_QUANTITY = "jobs done"


def w12(bench: Bench) -> Results:
    """Workers."""
    jobs = bench.size(160, 48)
    with PrivatePostgres() as postgres, PrivateRabbit() as rabbit:
        ways = [
            Way(
                name=f"{kind}, {workers} workers",
                settings=f"{jobs} jobs of one file that an HTTP server gives after {1000 * ANSWER:.0f} ms; {workers} "
                f"processes with {THREADS} threads; PostgreSQL{', RabbitMQ' if kind == 'celery' else ''}",
                run=partial(_rate, kind, workers, jobs, postgres, rabbit),
            )
            for kind in ("embedded", "celery")
            for workers in WORKERS
        ]
        with open_stage(bench, "W12", size=2**27, files=10_000) as stage:
            taken = stage.take_turns(ways, bench.times(3))
            rows = [
                Row(workload="W12", way=each.name, quantity=_QUANTITY, unit="jobs/s", values=tuple(each.values))
                for each in taken
            ]
            found = stage.results(rows)
    _print(rows)
    return found


def _print(rows: list[Row]) -> None:
    """Print how much more is done by more of them."""
    print(f"\n  {'':<24}{'jobs/s':>8}{'to one worker':>16}")
    one = 0.0
    for row in rows:
        rate = sorted(row.values)[len(row.values) // 2]
        one = rate if " 1 " in row.way else one
        print(f"  {row.way:<24}{rate:>8.1f}{rate / one:>16.2f}")


def _rate(kind: str, workers: int, count: int, postgres: PrivatePostgres, rabbit: PrivateRabbit, arena: Arena) -> float:
    """Return how many jobs a second are done, from the moment in which they may begin to the end of the last."""
    broker = {
        "kind": "celery",
        "broker_url": rabbit.url,
        "broker_password_file": engines.secret_file(rabbit.password),
    }
    engine = {"threads": THREADS, "database_url": postgres.new_database(), **(broker if kind == "celery" else {})}
    database = Database(str(engine["database_url"]))
    database.upgrade()
    database.close()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(_slow_server())
        there = {"url": f"file://{arena.directory}/there", "max_parallel": 256}
        (arena.directory / "there").mkdir()
        shops: list[Shop] = []
        for number in range(workers):
            shops.append(Shop(arena.directory / f"site{number}", engine=engine, endpoints={"there": there}))
            stack.callback(shops[-1].close)
        first = shops[0]
        host = url.rpartition("/")[0]
        # Nothing begins before all are there.
        first.store.claims.open_circuit(host, time.time() + 1000, "not yet")
        for number in range(count):
            first.submit(f"{url}{number}", f"there:{number}")
        for shop in shops:
            shop.start()
        wait_until(lambda: len(first.store.claims.workers()) == workers, 60, "all workers are there")
        begin = time.monotonic()
        first.store.claims.close_circuit(host)
        wait_until(lambda: _unfinished(first) == 0, 600, "all jobs are done")
        took = time.monotonic() - begin
        if first.store.jobs.counts()[JobState.DONE] != count:
            raise NotDelivered(f"not all jobs are done: {first.store.jobs.counts()}")
    return count / took


def _unfinished(shop: Shop) -> int:
    return sum(many for state, many in shop.store.jobs.counts().items() if not state.final)


@contextlib.contextmanager
def _slow_server() -> Iterator[str]:
    """Run a server that takes its time; give the URL that all of its files begin with."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()

        def do_GET(self) -> None:
            threading.Event().wait(ANSWER)
            self.do_HEAD()
            with contextlib.suppress(OSError):
                self.wfile.write(b"x" * 1000)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/f"
        finally:
            server.shutdown()
            thread.join(10)

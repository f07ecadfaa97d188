"""Sites with a job front for tests: real workers on a real store, and a server that holds a file half-way."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sqlalchemy import select

import engines
from mistamover.config.load import load
from mistamover.config.settings import Settings
from mistamover.jobs import bell
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.model import Job, JobState, Location, Op, Scope
from mistamover.jobs.store import schema
from mistamover.jobs.store.store import Store
from mistamover.jobs.submission import Caller, Desk, Destination, Request, SourceSpec
from mistamover.testing.sshd import PrivateSshd
from support import Site, merged, wait_until

REQUEST = Request(who=Caller(name="tester", scope=Scope.ADMIN))


class Shop:
    """A site with the endpoints `here` and `there`, both of this host, a desk to submit at, and its workers."""

    def __init__(self, directory: Path, sshd: PrivateSshd | None = None, **sections: Mapping[str, object]) -> None:
        """Given a directory, and sections of the global file, make it all."""
        self.here, self.there = directory / "data" / "here", directory / "data" / "there"
        own: dict[str, dict[str, object]] = {
            "front": {"allow_private_addresses": True, "dialects": "rest"},
            "engine": engines.current.keys(
                **{"threads": 2, "lease": 3, "retry_pause": 0.1, **sections.get("engine", {})}
            ),
            "endpoints": {"here": {"url": f"file://{self.here}"}, "there": {"url": f"file://{self.there}"}},
        }
        self.site = Site(directory, sshd, **merged(own, sections))
        for path in (self.here, self.there):
            path.mkdir(exist_ok=True)
        self.settings: Settings = load(self.site.global_ini, {})
        assert self.settings.jobs is not None
        self.jobs = self.settings.jobs
        self.jobs.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.store = Store(self.jobs.engine.database_url)
        self.store.prepare()
        ring = partial(bell.ring, self.jobs.directory)
        self.desk = Desk(self.jobs, self.store, Endpoints(self.jobs, self.store.endpoints), ring)
        self.workers: list[subprocess.Popen[bytes]] = []

    # -- workers ------------------------------------------------------------------------------

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker, and return at once."""
        with (self.site.directory / "worker.out").open("ab") as sink:
            self.workers.append(
                subprocess.Popen(
                    self.site.command("worker", "-c", str(self.site.global_ini)),
                    env=self.site.environment(),
                    cwd=self.site.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )
        return self.workers[-1]

    @contextlib.contextmanager
    def standing_still(self, worker: subprocess.Popen[bytes]) -> Iterator[None]:
        """Given a worker, let it stand still, but not in the middle of a write, for which all others would wait."""
        with self.store.database.write() as connection:
            connection.execute(select(schema.jobs.c.id).with_for_update())
            os.kill(worker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(worker.pid, signal.SIGCONT)

    def log(self) -> str:
        """Return what all workers have logged."""
        path = self.site.logs / "worker.log"
        return path.read_text() if path.exists() else ""

    def until_log(self, words: str, timeout: float = 20) -> None:
        """Wait until a worker has logged some words."""
        wait_until(lambda: words in self.log(), timeout, f"worker.log says: {words}")

    def close(self) -> None:
        """Kill what runs."""
        for worker in self.workers:
            worker.kill()
            worker.wait(15)
        self.store.close()

    # -- jobs ---------------------------------------------------------------------------------

    def submit(
        self,
        sources: Sequence[str] | str,
        to: str = "there:",
        *,
        op: Op = Op.COPY,
        request: Request = REQUEST,
        **fields: Any,
    ) -> Job:
        """Given sources, URLs or `ENDPOINT:PATH`, and where they go, submit a job, with more fields of the request."""
        specs = self.specs([sources] if isinstance(sources, str) else sources)
        job, _ = self.desk.copy(
            dataclasses.replace(request, **fields), specs, Destination(location=place(to), into=True), op=op
        )
        return job

    def specs(self, sources: Sequence[str]) -> list[SourceSpec]:
        """Given sources, URLs or `ENDPOINT:PATH`, return them as the desk takes them."""
        return [SourceSpec(url=each) if "://" in each else SourceSpec(location=place(each)) for each in sources]

    def cancel(self, job: Job) -> None:
        """Have a job cancelled, as the front does."""
        self.store.jobs.cancel(job.id)
        bell.ring(self.jobs.directory)

    def job(self, job: Job) -> Job:
        """Return a job as it is now."""
        found = self.store.jobs.get(job.id)
        assert found is not None
        return found

    def until(self, job: Job, *states: JobState, timeout: float = 30) -> Job:
        """Wait until a job is in one of the states (default: it is done), and return it."""
        wanted = states or (JobState.DONE,)
        try:
            wait_until(lambda: self.job(job).state in wanted, timeout, f"the job is {wanted}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {self.job(job)}; log:\n{self.log()[-3000:]}") from None
        return self.job(job)

    def names(self, directory: Path | None = None) -> list[str]:
        """Return the names of all files below a directory (default: that of `there`), temporary ones as well."""
        top = directory or self.there
        return sorted(str(path.relative_to(top)) for path in top.rglob("*") if not path.is_dir())

    def started(self, job: Job) -> int:
        """Return how often a worker has begun with a job."""
        return sum(event.kind == "started" for event in self.store.events.after(0, job=job.id))


def place(text: str) -> Location:
    """Given `ENDPOINT:PATH`, return the location."""
    endpoint, _, path = text.partition(":")
    return Location(endpoint=endpoint, path=path)


class Gate:
    """A file on an HTTP server; the first request gets half of it, and the rest when the gate is opened.

    Until then nothing comes, or, if it drips, a byte now and then.
    """

    def __init__(self, size: int = 4 << 20, *, drips: bool = False) -> None:
        self.content = os.urandom(size)
        self.drips = drips
        self.entered = threading.Event()
        """The first request has got its half."""
        self.opened = threading.Event()
        self.requests = 0
        self.url = ""

    def wait(self) -> None:
        """Wait until the first request has got its half."""
        assert self.entered.wait(30), "nobody asks for the file"


@contextlib.contextmanager
def gate_server(gate: Gate) -> Iterator[Gate]:
    """Run the server of a gate on a port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._head()

        def do_GET(self) -> None:
            gate.requests += 1
            first = gate.requests == 1
            half = len(gate.content) // 2
            self._head()
            with contextlib.suppress(OSError):
                self.wfile.write(gate.content[:half])
                if first:
                    gate.entered.set()
                while first and not gate.opened.wait(0.02 if gate.drips else 60) and gate.drips:
                    self.wfile.write(gate.content[half : half + 1])
                    half += 1
                self.wfile.write(gate.content[half:])

        def _head(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(gate.content)))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        gate.url = f"http://127.0.0.1:{server.server_address[1]}/big.bin"
        try:
            yield gate
        finally:
            gate.opened.set()
            server.shutdown()
            thread.join(10)

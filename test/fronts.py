"""A front that runs in a thread of the test, with its own store, and what the tests say to it over HTTP."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import engines
from mistamover.config.serving import CartSettings, EndpointSettings, EngineSettings, FrontSettings, JobSettings
from mistamover.front.app import create
from mistamover.front.process import Server, address, context_of, listen
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.model import Scope
from mistamover.jobs.store.store import Store
from mistamover.jobs.submission import Desk
from mistamover.jobs.transfer.places import Places
from support import wait_until

API = "/api/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The content, which is JSON."""
        return json.loads(self.content)

    @property
    def code(self) -> str:
        """The word of an error."""
        return str(self.json["error"]["code"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A front that listens."""

    settings: JobSettings
    store: Store
    desk: Desk
    host: str
    port: int
    token: str = ""
    """Shown with every request, if it is not empty."""

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30,
    ) -> Answer:
        """Given a method, a path and JSON or bytes as a body, return the answer."""
        sent = {"Host": "localhost", **(headers or {})}
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            content = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, content, sent)
            response = connection.getresponse()
            return Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                content=response.read(),
            )

    def api(self, method: str, path: str, body: object = None, **more: Any) -> Answer:
        """As `ask`, below the root of the REST API."""
        return self.ask(method, API + path, body, **more)

    def as_(self, scope: Scope, name: str = "") -> Front:
        """Given a scope, return the front as a client with a new token of that scope sees it."""
        return replace(self, token=self.store.tokens.create(name or f"the-{scope}", scope))

    def copy(self, source: str = "in/a", target: str = "out/a", **more: Any) -> Answer:
        """Submit a job that copies a file inside the endpoint `here`."""
        job = {"sources": [{"endpoint": "here", "path": source}], "destination": {"endpoint": "here", "path": target}}
        return self.api("POST", "/jobs", job | more)


def settings(directory: Path, data: Path, **front: Any) -> JobSettings:
    """Given a private directory, that of the endpoint `here`, and settings of the front, return all settings."""
    endpoints = (
        EndpointSettings(name="here", url=f"file://{data}", scheme="file", base=str(data)),
        EndpointSettings(name="shelf", url=f"file://{data}/shelf", scheme="file", base=f"{data}/shelf", role="archive"),
        EndpointSettings(name="fixed", url=f"file://{data}", scheme="file", base=str(data), read_only=True),
    )
    listening = FrontSettings(**{"port": 0, "anonymous": "submit", "dialects": ("rest",), **front})
    database = engines.current.keys().get("database_url", f"sqlite:///{directory}/store.sqlite")
    engine = EngineSettings(database_url=str(database))
    return JobSettings(
        enabled=True,
        directory=directory,
        front=listening,
        engine=engine,
        carts=CartSettings(volume=directory / "carts"),
        endpoints=endpoints,
    )


@contextlib.contextmanager
def running(jobs: JobSettings) -> Iterator[Front]:
    """Given the settings, have a front listen for the length of the block."""
    jobs.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Store(jobs.engine.database_url) as store:
        store.prepare()
        endpoints = Endpoints(jobs, store.endpoints)
        desk = Desk(jobs, store, endpoints)
        places = Places(endpoints, jobs.directory / "front", jobs.directory / "links", groups=jobs.engine.groups)
        sockets = listen(jobs.front)
        host, port = sockets[0].getsockname()[:2]
        server = Server(create(jobs, store, desk, places), tls=context_of(jobs.front))
        thread = threading.Thread(target=server.run, kwargs={"sockets": sockets}, name=address(sockets[0], tls=False))
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), 20, "the front listens")
            assert server.started
            yield Front(settings=jobs, store=store, desk=desk, host=host, port=port)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
            places.close()


def basic(name: str, secret: str) -> dict[str, str]:
    """Given a name and a secret, return the header of HTTP basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def end(front: Front, job_id: str) -> None:
    """Given a front and a job's id, do the job as a worker would, without moving anything."""
    from mistamover.jobs.model import JobState

    claim = front.store.claims.claim(job_id, "hand", 60)
    assert claim is not None
    for item in claim.items:
        front.store.claims.item_done(claim, item.seq, landed=item.target, algorithm="sha256", digest="", size=1)
    assert front.store.claims.finish(claim, JobState.DONE)

"""A site of jobs for tests: a store, endpoints, the desk, and a worker that does jobs when it is told to."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import engines
from mistamover.config import endpoint_urls
from mistamover.config.serving import CartSettings, EndpointSettings, EngineSettings, FrontSettings, JobSettings
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.model import Claim, Item, ItemState, Job, JobState, Location, Scope
from mistamover.jobs.store.store import Store
from mistamover.jobs.submission import Caller, Desk, Destination, Request, SourceSpec
from mistamover.jobs.transfer import operations
from mistamover.jobs.transfer.context import Context, Outcome
from mistamover.jobs.transfer.leftovers import Traces
from mistamover.jobs.transfer.places import Places
from mistamover.testing.sshd import PrivateSshd

REQUEST = Request(who=Caller(name="tester", scope=Scope.ADMIN))


def endpoint(name: str, url: str, **fields: Any) -> EndpointSettings:
    """Given a name, a URL and other settings, return the endpoint."""
    parts = endpoint_urls.parsed(url)
    values = {"scheme": parts.scheme, "host": parts.host, "port": parts.port, "user": parts.user, "base": parts.base}
    return EndpointSettings(name=name, url=url, **{**values, **fields})


def ssh_endpoint(name: str, sshd: PrivateSshd, base: Path, **fields: Any) -> EndpointSettings:
    """Given a name, a running server and a directory, return the endpoint there."""
    base.mkdir(parents=True, exist_ok=True)
    return endpoint(name, f"sftp://{sshd.host}{base}", **{"ssh_config": sshd.ssh_config, **fields})


class JobSite:
    """One service, without its processes."""

    def __init__(self, directory: Path, *endpoints: EndpointSettings, front: Mapping[str, Any] | None = None) -> None:
        """Given a directory and endpoints beyond `here` and `tape`, which are in it, make it all."""
        self.here, self.tape = directory / "here", directory / "tape"
        for path in (self.here, self.tape, directory / "state"):
            path.mkdir(parents=True, exist_ok=True)
        own = (endpoint("here", f"file://{self.here}"), endpoint("tape", f"file://{self.tape}", role="archive"))
        self.settings = JobSettings(
            enabled=True,
            directory=directory / "state" / "jobs",
            front=FrontSettings(**(front or {})),
            engine=EngineSettings(
                database_url=str(
                    engines.current.keys().get("database_url", f"sqlite:///{directory}/state/store.sqlite")
                ),
                retry_pause=0.0,
            ),
            carts=CartSettings(volume=(directory / "state" / "jobs") / "carts"),
            endpoints=(*own, *endpoints),
        )
        self.settings.directory.mkdir(exist_ok=True)
        (directory / "state" / "store.sqlite").write_bytes(_empty_store())
        self.store = Store(self.settings.engine.database_url)
        self.store.prepare()
        self.endpoints = Endpoints(self.settings, self.store.endpoints)
        self.desk = Desk(self.settings, self.store, self.endpoints)
        self.on_tell: Callable[[int, ItemState, int, int | None], None] = lambda *_: None
        self.context = self.new_context()

    def new_context(self) -> Context:
        """Return what a worker that has just started works with."""
        directory = self.settings.directory
        return Context(
            settings=self.settings,
            endpoints=self.endpoints,
            places=Places(self.endpoints, directory / "run", directory / "links"),
            claims=self.store.claims,
            objects=self.store.objects,
            carts=self.store.carts,
            traces=Traces(directory / "traces"),
            tell=lambda _: lambda *told: self.on_tell(*told),
        )

    def change(self, **fields: Any) -> None:
        """Given settings of the front that are another way from now on, use them."""
        front = dataclasses.replace(self.settings.front, **fields)
        self.settings = dataclasses.replace(self.settings, front=front)
        self.desk = Desk(self.settings, self.store, self.endpoints)
        self.context = dataclasses.replace(self.context, settings=self.settings)

    def close(self) -> None:
        """End it."""
        self.context.places.close()
        self.store.close()

    def copy(self, source: str | SourceSpec, to: str, **words: Any) -> Job:
        """Given a source (`ENDPOINT:PATH`, a URL or whatever it is) and a destination, submit a copy."""
        return self.desk.copy(REQUEST, [spec(source)], destination(to), **words)[0]

    def claim(self, job: Job) -> Claim:
        """Given a job, claim it."""
        claim = self.store.claims.claim(job.id, "w", 60.0)
        assert claim is not None
        return claim

    def attempt(self, job: Job) -> Outcome:
        """Given a job, do what can be done of it now, and write down what came of it."""
        claim = self.claim(job)
        outcome = operations.run(claim, self.context)
        claims = self.store.claims
        if outcome.state is None:
            claims.put_back(claim, not_before=outcome.not_before, reason=outcome.reason)
        else:
            words = {"reason": outcome.reason, "result": outcome.result, "objects": outcome.objects}
            assert claims.finish(claim, outcome.state, **words)
        return outcome

    def done(self, job: Job, *, attempts: int = 10) -> Job:
        """Given a job, try until it has ended, so often at most; return it as it is then."""
        for _ in range(attempts):
            if self.attempt(job).state is not None:
                break
        found = self.store.jobs.get(job.id)
        assert found is not None
        return found

    def succeed(self, job: Job) -> Job:
        """Given a job, do it; it must not fail."""
        found = self.done(job)
        assert found.state is JobState.DONE, (found, self.items(job))
        return found

    def fail(self, job: Job) -> str:
        """Given a job, do it; it must fail. Return why it did."""
        found = self.done(job)
        assert found.state is JobState.FAILED, (found, self.items(job))
        assert "\n" not in found.reason
        return found.reason

    def items(self, job: Job) -> list[Item]:
        """Given a job, return its items."""
        return self.store.jobs.items(job.id)


@functools.cache
def _empty_store() -> bytes:
    """Return the file of a store without anything in it: to make it takes longer than most of what is tested."""
    with tempfile.TemporaryDirectory() as directory:
        with Store(f"sqlite:///{directory}/store.sqlite") as store:
            store.prepare()
        return Path(directory, "store.sqlite").read_bytes()


def spec(source: str | SourceSpec) -> SourceSpec:
    """Given `ENDPOINT:PATH` or a URL, return the source."""
    if isinstance(source, SourceSpec):
        return source
    if "://" in source:
        return SourceSpec(url=source)
    name, _, path = source.partition(":")
    return SourceSpec(location=Location(endpoint=name, path=path))


def destination(to: str) -> Destination:
    """Given `ENDPOINT:PATH` or a URL, return the destination."""
    found = spec(to)
    return Destination(url=found.url, location=found.location)


def sha256(content: bytes) -> str:
    """Given some bytes, return their hash."""
    return hashlib.sha256(content).hexdigest()


def leftovers(*directories: Path) -> list[Path]:
    """Given directories, return what is ours in them, however deep."""
    return [path for directory in directories for path in directory.rglob(".mistamover*")]

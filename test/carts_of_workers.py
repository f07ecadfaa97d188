"""A site with carts for tests of the worker's side: an archive interface, and a clock that can be turned."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from job_sites import REQUEST, JobSite, endpoint
from mistamover.config.serving import EndpointSettings
from mistamover.jobs.cart_model import Cart, CartFile, NewCart
from mistamover.jobs.carts.desk import CartDesk
from mistamover.jobs.carts.volume import Volume
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.model import Job
from mistamover.jobs.store.store import Store
from mistamover.jobs.submission import Desk
from mistamover.jobs.transfer.context import Context, Outcome
from mistamover.testing.archive_interface import Archive


class CartSite(JobSite):
    """One service with carts, without its processes."""

    def __init__(self, directory: Path, *endpoints: EndpointSettings, archive: Archive | None = None) -> None:
        """Given a directory, endpoints, and an archive interface, which is then the endpoint `tapes`, make it all."""
        self.ahead = 0.0
        more = [endpoint("tapes", archive.url, read_only=True)] if archive is not None else []
        super().__init__(directory, *more, *endpoints)
        self.set(archive="tapes" if archive is not None else "here")

    def now(self) -> float:
        """Return the time, as the site has it."""
        return time.time() + self.ahead

    def set(self, **carts: Any) -> None:
        """Given settings of carts that are another way from now on, use them."""
        self.configure(carts=dataclasses.replace(self.settings.carts, **carts))

    def engine(self, **fields: Any) -> None:
        """Given settings of the engine that are another way from now on, use them."""
        self.configure(engine=dataclasses.replace(self.settings.engine, **fields))

    def configure(self, **sections: Any) -> None:
        """Given sections of the settings, use them from now on."""
        self.settings = dataclasses.replace(self.settings, **sections)
        self.store.close()
        self.store = Store(self.settings.engine.database_url, clock=self.now)
        self.endpoints = Endpoints(self.settings, self.store.endpoints)
        self.desk = Desk(self.settings, self.store, self.endpoints)
        self.carts = CartDesk(self.desk)
        old, self.context = self.context, self.new_context()
        old.places.close()

    def new_context(self) -> Context:
        return dataclasses.replace(super().new_context(), clock=self.now)

    @property
    def volume(self) -> Volume:
        return Volume(self.settings.carts.volume)

    def cart(self, uid: str, files: Mapping[str, Any], **words: Any) -> Job:
        """Given a uid, and ids with paths (or with path, hash type and hash), ask for a cart."""
        wanted = [
            CartFile(id=id, path=how)
            if isinstance(how, str)
            else CartFile(id=id, path=how[0], hash_type=how[1], hash_value=how[2])
            for id, how in files.items()
        ]
        return self.carts.create(REQUEST, NewCart(uid=uid, files=wanted, **words))[0].job

    def of(self, job: Job) -> Cart:
        """Return a cart as it is now."""
        found = self.store.carts.get(job.id)
        assert found is not None
        return found

    def attempt(self, job: Job) -> Outcome:
        """As that of every job; the clock goes on until the job may be done."""
        found = self.store.jobs.get(job.id)
        assert found is not None
        if found.not_before is not None and found.not_before > self.now():
            self.ahead += found.not_before - self.now() + 0.001
        return super().attempt(job)

    def files(self, job: Job) -> dict[str, bytes]:
        """Return the files that a cart has in the volume, by their paths."""
        top = self.volume.files(job.id)
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}

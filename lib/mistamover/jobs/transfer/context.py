"""What a job is done with, and what comes of it: values that travel between the worker and the operations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mistamover.config.serving import JobSettings
from mistamover.jobs.carts.volume import Volume
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.model import DataObject, ItemState, JobState
from mistamover.jobs.store.cart_rows import Carts
from mistamover.jobs.store.catalogue import Objects
from mistamover.jobs.store.claims import Claims
from mistamover.jobs.transfer.faults import one_line
from mistamover.jobs.transfer.leftovers import Traces
from mistamover.jobs.transfer.places import Places
from mistamover.model import FaultClass


class Tell(Protocol):
    """Takes note of how far an item is; the way by which a job hears that it is to end."""

    def __call__(self, seq: int, state: ItemState, done: int, size: int | None, /) -> None:
        """Given an item, its state, bytes that are done and its size, take note.

        Called between any two pieces, so it costs next to nothing.  Raise JobCancelled, JobStopping or LostClaim.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """All that the operations of one worker use."""

    settings: JobSettings
    endpoints: Endpoints
    places: Places
    claims: Claims
    objects: Objects
    carts: Carts
    traces: Traces
    tell: Callable[[str], Tell]
    """Given the id of a job, returns what takes note of it."""
    clock: Callable[[], float] = time.time

    @property
    def volume(self) -> Volume:
        """Where carts are."""
        return Volume(self.settings.carts.volume)

    def scratch(self, job: str) -> Path:
        """Given the id of a job, return a directory of its own here, which may not be there yet."""
        return self.settings.directory / "scratch" / job

    def scrubbed(self, reason: str, endpoints: Iterable[str]) -> str:
        """Given a reason and the endpoints that it may be about, return it in one line, without directories of a host.

        What these are called there is their administrator's affair.
        """
        for name in endpoints:
            endpoint = self.endpoints.get(name)
            if endpoint is not None and len(endpoint.base) > 1:
                reason = reason.replace(endpoint.base, f"{name}:")
        reason = reason.replace(str(self.settings.carts.volume), "carts:")
        return one_line(reason.replace(str(self.settings.directory), "mistamover:"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a job for now; the worker writes it down."""

    state: JobState | None
    """DONE or FAILED; None: it is put back."""
    reason: str = ""
    result: Mapping[str, object] = field(default_factory=dict)
    objects: Sequence[DataObject] = ()
    """As the catalogue is to have them."""
    not_before: float | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """Who could not be reached, by the name that circuits have, and why."""
    worked: frozenset[str] = frozenset()
    """Who could."""
    fault: FaultClass | None = None

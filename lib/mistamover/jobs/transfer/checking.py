"""Trying an endpoint: whether we get in, and what can be had there. Changes nothing at the endpoint."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from mistamover.config import endpoint_urls
from mistamover.config.serving import EndpointSettings
from mistamover.errors import TransportError
from mistamover.jobs.transfer.faults import Trouble
from mistamover.jobs.transfer.item_sources import interface
from mistamover.jobs.transfer.places import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointReport:
    """What was found out."""

    name: str
    ok: bool
    message: str
    """Why it cannot be used, or that it can."""
    description: str = ""
    """What is at the other end."""
    ways: tuple[tuple[str, str], ...] = ()
    """What can be had there, and how; an empty second word: not at all."""
    free: int | None = None
    """Bytes; None where that is not told."""
    seconds: float
    """How long that took."""


def check(places: Places, name: str) -> EndpointReport:
    """Given the endpoints and a name, connect there and look around; return what was found. Raise JobRefused."""
    begun = time.monotonic()
    endpoint = places.endpoints.need(name)
    try:
        if endpoint.scheme in endpoint_urls.PACIFICA:
            return _greeted(endpoint, begun)
        with places.of(name).lend() as visit:
            visit.look("")
            return EndpointReport(
                name=name,
                ok=True,
                message="it can be used",
                description=visit.means.description,
                ways=visit.means.ways(),
                free=visit.far.free(),
                seconds=time.monotonic() - begun,
            )
    except (TransportError, Trouble) as error:
        return EndpointReport(name=name, ok=False, message=str(error), seconds=time.monotonic() - begun)


def _greeted(endpoint: EndpointSettings, begun: float) -> EndpointReport:
    with contextlib.closing(interface(endpoint)) as archive:
        archive.greet()
    return EndpointReport(
        name=endpoint.name,
        ok=True,
        message="it can be used",
        description="a Pacifica Archive Interface",
        ways=(("read", "as whole files, which may have to come from tape"),),
        seconds=time.monotonic() - begun,
    )

"""What every route of the front works with; one value for the process."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from starlette.requests import Request

from mistamover.config.serving import JobSettings
from mistamover.front.downloads import Downloads
from mistamover.front.known import Known
from mistamover.front.waiting import Feed
from mistamover.jobs.carts.desk import CartDesk
from mistamover.jobs.store.store import Store
from mistamover.jobs.submission import Desk
from mistamover.jobs.transfer.places import Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The parts of the front."""

    settings: JobSettings
    store: Store
    desk: Desk
    carts: CartDesk
    downloads: Downloads
    feed: Feed
    known: Known
    places: Places
    far: ThreadPoolExecutor
    """Threads for what reads files and talks to endpoints: they live as long as the process, as ssh's children need."""
    ring: Callable[[], None]
    """Tells the worker that there is something to do, or to give up."""


def front_of(request: Request) -> Front:
    """Given a request, return the front that it came to."""
    front = request.app.state.front
    assert isinstance(front, Front)
    return front

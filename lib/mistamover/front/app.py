"""The front's one application: every dialect's routes in one order, and what stands before all of them.

A dialect is a module with `routes(front) -> list[BaseRoute]`; it is imported only if it is switched on.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from mistamover.config.serving import JobSettings
from mistamover.errors import MistamoverError
from mistamover.front import errors
from mistamover.front.auth import Identify
from mistamover.front.context import Front
from mistamover.front.downloads import Downloads
from mistamover.front.known import Known
from mistamover.front.legacy.cart_heads import CartHeads
from mistamover.front.limits import BodyLimit, RateLimit
from mistamover.front.origins import Origins
from mistamover.front.waiting import Feed
from mistamover.jobs.carts.desk import CartDesk
from mistamover.jobs.store.store import Store
from mistamover.jobs.submission import Desk
from mistamover.jobs.transfer.places import Places

#: The dialects, in the order in which their routes are tried: `[front] dialects` has the first word, the second is a
#: module of this package with `routes(front)`.  Modules may also have `CONTENT`, a list of (method, beginning of a
#: path, end of a path): the requests whose body is a file, limited by max_content instead of max_request.
DIALECTS = (
    ("rest", "rest.rest"),
    ("xmlrpc", "legacy.xmlrpc"),
    ("dm", "legacy.datamanager"),
    ("msm", "legacy.machines"),
    # The last one: carts may be at the root, where they take what no other route does.
    ("cart", "legacy.carts"),
)

#: Threads that read and talk to endpoints: downloads and checks that go on at a time.
_FAR_THREADS = 16

#: Seconds between two looks for connections that nobody uses, and for threads to end at the end.
_TIDY = 30.0
_FAR_GRACE = 5.0


def create(
    settings: JobSettings, store: Store, desk: Desk, places: Places, ring: Callable[[], None] = lambda: None
) -> Starlette:
    """Given the settings, the parts of the job room, and what tells the worker of a job, return the application."""
    feed = Feed(store)
    far = ThreadPoolExecutor(_FAR_THREADS, thread_name_prefix="far")
    known = Known(settings, desk.endpoints)
    front = Front(
        settings=settings,
        store=store,
        desk=desk,
        carts=CartDesk(desk),
        downloads=Downloads(store.carts),
        feed=feed,
        known=known,
        places=places,
        far=far,
        ring=ring,
    )
    routes: list[BaseRoute] = []
    content: list[tuple[str, str, str]] = []
    for dialect, name in DIALECTS:
        if dialect in settings.front.dialects:
            module = importlib.import_module(f"mistamover.front.{name}")
            routes += module.routes(front)
            content += getattr(module, "CONTENT", ())

    def is_content(method: str, path: str) -> bool:
        return any(method == verb and path.startswith(top) and path.endswith(end) for verb, top, end in content)

    heads = [Middleware(CartHeads, at_root=settings.front.carts_at_root)] if "cart" in settings.front.dialects else []
    app = Starlette(
        routes=routes,
        middleware=[
            *heads,
            Middleware(errors.Guard),
            Middleware(Origins, settings=settings.front),
            Middleware(Identify, settings=settings.front, store=store),
            Middleware(RateLimit, settings=settings.front),
            Middleware(BodyLimit, settings=settings.front, is_content=is_content),
        ],
        exception_handlers={
            HTTPException: errors.on_refusal,
            MistamoverError: errors.on_ours,
        },
        lifespan=_lifespan,
    )
    app.state.front = front
    return app


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    front: Front = app.state.front
    tidying = asyncio.create_task(_tidy(front))
    renewing = asyncio.create_task(front.downloads.renewing(front.far))
    try:
        yield
    finally:
        tidying.cancel()
        renewing.cancel()
        front.feed.close()
        await _end_far(front)


async def _end_far(front: Front) -> None:
    """Let what reads and talks give its connection back; cut what does not."""
    ending = asyncio.get_running_loop().run_in_executor(None, front.far.shutdown)
    done, _ = await asyncio.wait((ending,), timeout=_FAR_GRACE)
    if not done:
        front.places.abort()
        await asyncio.wait((ending,), timeout=_FAR_GRACE)


async def _tidy(front: Front) -> None:
    """End connections that nobody uses, now and then."""
    while True:
        await asyncio.sleep(_TIDY)
        await asyncio.get_running_loop().run_in_executor(front.far, front.places.tidy)

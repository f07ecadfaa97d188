"""The events of a job as server-sent events: what browsers call an EventSource."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence

from starlette.responses import StreamingResponse

from mistamover.front.rest.shown import Shown
from mistamover.jobs.model import Event

#: The client asks again after so many milliseconds when the stream was cut off.
_AGAIN = 2_000


def response(batches: AsyncIterator[Sequence[Event]], shown: Shown) -> StreamingResponse:
    """Given the events in batches, and what makes a client's answers, return the stream of them."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_lines(batches, shown), headers=headers, media_type="text/event-stream")


async def _lines(batches: AsyncIterator[Sequence[Event]], shown: Shown) -> AsyncIterator[str]:
    yield f"retry: {_AGAIN}\n\n"
    async for batch in batches:
        if not batch:
            # A comment: it shows whether the client is still there.
            yield ":\n\n"
        for event in batch:
            told = json.dumps(shown.event(event))
            yield f"id: {event.number}\nevent: {event.kind}\ndata: {told}\n\n"
    # An EventSource would come back for ever otherwise.
    yield "event: end\ndata: {}\n\n"

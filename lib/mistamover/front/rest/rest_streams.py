"""The REST API's view of the streams: what their processes last said of themselves. They are configured in INI files.

Reads small files of the streams' own; opens no ledger, and asks no process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from mistamover.front.context import Front, front_of
from mistamover.front.errors import Refused
from mistamover.front.rest import views
from mistamover.front.rest.rest_common import ERRORS, Reader
from mistamover.front.rest.shown import moment
from mistamover.model import StreamState
from mistamover.report import snapshot
from mistamover.report.snapshot import Snapshot

router = APIRouter(tags=["streams"], responses=ERRORS)

#: What a stream stays in when its process has ended.
_LASTING = (StreamState.COMPLETE, StreamState.STOPPED)


@router.get("/streams", response_model=views.StreamList)
def page(request: Request, who: Reader) -> Response:
    """List the streams that ever ran here, with what they did since their start. They are configured in INI files."""
    return JSONResponse({"streams": list(_streams(front_of(request)))})


@router.get("/streams/{name}", response_model=views.StreamView)
def show(request: Request, who: Reader, name: str) -> Response:
    """Show a stream."""
    found = next((each for each in _streams(front_of(request)) if each["name"] == name), None)
    if found is None:
        raise Refused(404, "unknown-stream", "there is no stream of that name, or it never ran")
    return JSONResponse(found)


def _streams(front: Front) -> Iterator[dict[str, object]]:
    # Both are below the state directory of the service; each stream has a directory of its name.
    directory = front.settings.directory.parent / "streams"
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        last = snapshot.read(path)
        if last is not None:
            yield _shown(last, path)


def _shown(last: Snapshot, path: Path) -> dict[str, object]:
    served = snapshot.is_locked(path / snapshot.LOCK_FILE)
    state = last.state if served or last.state in _LASTING else StreamState.DOWN
    return {
        "name": last.name,
        "state": state.value,
        "since": moment(last.since or None),
        "updated": moment(last.updated or None),
        "seen": last.seen,
        "delivered": last.delivered,
        "quarantined": last.quarantined,
        "waiting": last.waiting,
        "bytes_delivered": last.bytes_delivered,
        "bytes_per_second": last.rate if served else 0.0,
    }

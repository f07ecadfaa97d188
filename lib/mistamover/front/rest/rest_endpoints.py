"""The REST API's endpoints: shown to readers; added, changed, removed and tried by administrators."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response

from mistamover.errors import JobRefused
from mistamover.front.context import Front, front_of
from mistamover.front.rest import shown, views
from mistamover.front.rest.bodies import EndpointBody, EndpointChange
from mistamover.front.rest.rest_common import ERRORS, Admin, Reader, set_fields, shown_to
from mistamover.jobs.model import Scope
from mistamover.jobs.transfer import checking

router = APIRouter(tags=["endpoints"], responses=ERRORS)

Name = Annotated[str, Path(max_length=255)]


@router.get("/endpoints", response_model=views.EndpointList)
def listed(request: Request, who: Reader) -> Response:
    """List all endpoints."""
    front = front_of(request)
    admin = who.scope.includes(Scope.ADMIN)
    found = [shown.endpoint(each, admin=admin) for each in front.desk.endpoints.all()]
    return JSONResponse({"endpoints": found, "shadowed": sorted(front.desk.endpoints.shadowed())})


@router.get("/endpoints/{name}", response_model=views.EndpointView)
def show(request: Request, who: Reader, name: Name) -> Response:
    """Show an endpoint."""
    return _shown(front_of(request), name, admin=who.scope.includes(Scope.ADMIN))


@router.put("/endpoints/{name}", response_model=views.EndpointView)
def put(request: Request, who: Admin, name: Name, body: EndpointBody) -> Response:
    """Add an endpoint, or write another one of that name anew. Its secrets stay when they are not given."""
    front = front_of(request)
    front.desk.endpoints.put(name, **body.model_dump())
    front.known.forget()
    return _shown(front, name, admin=True)


@router.patch("/endpoints/{name}", response_model=views.EndpointView)
def patch(request: Request, who: Admin, name: Name, body: EndpointChange) -> Response:
    """Change an endpoint that was added over the API; an empty password or identity is forgotten."""
    front = front_of(request)
    front.desk.endpoints.patch(name, **set_fields(body))
    front.known.forget()
    return _shown(front, name, admin=True)


@router.delete("/endpoints/{name}", status_code=204, response_class=Response)
def delete(request: Request, who: Admin, name: Name) -> Response:
    """Remove an endpoint that was added over the API, and its secrets."""
    front = front_of(request)
    front.desk.endpoints.delete(name)
    front.known.forget()
    return Response(status_code=204)


@router.post("/endpoints/{name}/check", response_model=views.CheckView)
async def check(request: Request, who: Admin, name: Name) -> Response:
    """Log in at an endpoint, and tell what can be had there."""
    front = front_of(request)

    def tried() -> Response:
        found = checking.check(front.places, name)
        made = shown_to(front, who)
        return JSONResponse(
            {
                "name": found.name,
                "ok": found.ok,
                "message": made.text(found.message),
                "description": made.text(found.description),
                "ways": {way: made.text(words) for way, words in found.ways},
                "free": found.free,
                "seconds": round(found.seconds, 3),
            }
        )

    return await asyncio.get_running_loop().run_in_executor(front.far, tried)


def _shown(front: Front, name: str, *, admin: bool) -> Response:
    found = front.desk.endpoints.get(name)
    if found is None:
        # Its words tell what was meant.
        front.desk.endpoints.need(name)
        raise JobRefused("unknown-endpoint", "there is no such endpoint")
    return JSONResponse(shown.endpoint(found, admin=admin))

"""The REST API, `/api/v1`: FastAPI inside the front's application, for its checks and its OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount

from mistamover import __version__
from mistamover.errors import MistamoverError
from mistamover.front import errors
from mistamover.front.context import Front
from mistamover.front.errors import Refused
from mistamover.front.rest import (
    docs_page,
    rest_carts,
    rest_endpoints,
    rest_files,
    rest_jobs,
    rest_objects,
    rest_other,
    rest_streams,
)
from mistamover.front.rest.bodies import unknown_words

CONTENT = (("PUT", "/api/v1/", "/content"),)

_TEXT = """\
Ask for jobs that copy, move, fetch and remove files between the endpoints that this service knows, and look after the
catalogue of what is where. Times are ISO 8601 in UTC, sizes are bytes. Every error has the same shape.
"""

_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token of `mistamover token create`."},
    "basic": {"type": "http", "scheme": "basic", "description": "The token's name, and the token as the password."},
}


def routes(front: Front) -> list[BaseRoute]:
    """Given the front, return the routes of the REST API."""
    return [Mount("/api/v1", app=create(front))]


def create(front: Front) -> FastAPI:
    """Given the front, return the application that is mounted at `/api/v1`."""
    api = _Api(
        title="MiStaMover",
        version=__version__,
        description=_TEXT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_only_known)],
        separate_input_output_schemas=False,
    )
    api.state.front = front
    for module in (rest_jobs, rest_carts, rest_objects, rest_files, rest_endpoints, rest_streams, rest_other):
        api.include_router(module.router)
    api.router.routes += docs_page.routes(api.openapi)
    api.add_exception_handler(HTTPException, errors.on_refusal)
    api.add_exception_handler(MistamoverError, errors.on_ours)
    api.add_exception_handler(RequestValidationError, _on_bad_request)
    api.add_exception_handler(Exception, errors.on_unexpected)
    return api


class _Api(FastAPI):
    """FastAPI, whose OpenAPI document says how to log in, and what each operation does."""

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        if self.openapi_schema is None:
            schema = super().openapi()
            schema.setdefault("components", {})["securitySchemes"] = _SECURITY
            # Nothing is also a way to log in: on loopback, as far as the configuration allows.
            schema["security"] = [{name: []} for name in _SECURITY] + [{}]
            for operations in schema["paths"].values():
                for operation in operations.values():
                    # The first sentence tells a reader of the list more than the name of a function.
                    operation["summary"] = operation.get("description", "").partition(". ")[0].rstrip(".")
        return self.openapi_schema or {}


async def _only_known(request: Request) -> None:
    """Refuse a query with a parameter that the route does not have: it would be a misspelt one."""
    given = request.query_params.keys()
    if not given:
        return
    route = request.scope.get("route")
    known = [field.alias for field in route.dependant.query_params] if isinstance(route, APIRoute) else []
    for name in given:
        if name not in known:
            raise Refused(422, "bad-request", unknown_words("parameter", name, known))


async def _on_bad_request(request: Request, error: Exception) -> Response:
    """Answer to a request that is not what its route takes, in the words for people, of its first mistakes."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    unread = any(each.get("type") == "json_invalid" for each in found)
    if any(each.get("loc") == ("body",) for each in found) and "json" not in request.headers.get("content-type", ""):
        return errors.response(Refused(415, "no-json", "the body is JSON, sent with Content-Type: application/json"))
    words = "; ".join(_mistake(each) for each in found[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return errors.response(Refused(400 if unread else 422, "bad-request", words + more))


def _mistake(error: dict[str, Any]) -> str:
    where = _where(error.get("loc", ())) or ("the body" if error.get("type") != "value_error" else "")
    what = str(error.get("msg", "is wrong")).removeprefix("Value error, ")
    if error.get("type") == "json_invalid":
        return f"the body is no JSON: {error.get('ctx', {}).get('error', what)}"
    return f"{where}: {what}" if where else what


def _where(parts: Sequence[object]) -> str:
    inner = [str(part) for part in parts[1:]] if parts and parts[0] in ("body", "query", "path", "header") else []
    return ".".join(inner)[:200]

"""The page that explains the REST API: Swagger UI from an installed package, so that it works without the internet.

The page runs nothing but its own two scripts, and talks to nobody but us; its policy has browsers see to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import swagger_ui_bundle
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from mistamover.front.rest.older_openapi import older

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        # Swagger UI sets styles of elements, which is no script.
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>MiStaMover: REST API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = """\
window.onload = () => SwaggerUIBundle({
  url: "docs/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
});
"""
_FILES: Final = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}


def routes(document: Callable[[], Mapping[str, Any]]) -> list[BaseRoute]:
    """Given what returns the OpenAPI document, return the routes of the page, below that of the API."""

    async def described(request: Request) -> Response:
        return JSONResponse(older(document()), headers=_HEADERS)

    return [
        Route("/docs", _page, include_in_schema=False),
        Route("/docs/start.js", _start, include_in_schema=False),
        Route("/docs/openapi.json", described, include_in_schema=False),
        Route("/docs/{name}", _file, include_in_schema=False),
    ]


async def _page(request: Request) -> Response:
    return Response(_PAGE, media_type="text/html", headers=_HEADERS)


async def _start(request: Request) -> Response:
    return Response(_START, media_type="text/javascript", headers=_HEADERS)


async def _file(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _FILES:
        return PlainTextResponse("there is no such file\n", 404)
    directory = Path(str(swagger_ui_bundle.swagger_ui_path))
    return FileResponse(
        directory / name, media_type=_FILES[name], headers={**_HEADERS, "Cache-Control": "max-age=3600"}
    )

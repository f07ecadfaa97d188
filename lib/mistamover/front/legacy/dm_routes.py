"""Routes of the older HTTP dialects: each path with and without a slash at its end, refusals in the dialect's words."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from mistamover.front.context import Front
from mistamover.front.legacy.dm_replies import Handler, answering


def both(front: Front, path: str, handler: Handler, *methods: str) -> list[BaseRoute]:
    """Given a path, what handles it and its verbs, return its two routes."""
    answered = answering(front, handler)
    return [Route(one, answered, methods=list(methods)) for one in (path, f"{path}/")]

"""The endpoints in the store: those that were added over the API. What they keep secret is in files of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, select

from mistamover.config.serving import EndpointSettings
from mistamover.jobs.store.database import Database, put
from mistamover.jobs.store.schema import endpoints

_PATHS: Final = ("identity_file", "ssh_config", "password_file")
_FIELDS: Final = {field.name for field in dataclasses.fields(EndpointSettings)} - {"name", "from_ini"}


class EndpointRows:
    """All of them."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def all(self) -> list[EndpointSettings]:
        """Return all endpoints, by name."""
        with self._database.read() as connection:
            rows = connection.execute(select(endpoints).order_by(endpoints.c.name)).all()
        return [_settings(row.name, row.content) for row in rows]

    def get(self, name: str) -> EndpointSettings | None:
        """Given a name, return its endpoint."""
        with self._database.read() as connection:
            row = connection.execute(select(endpoints).where(endpoints.c.name == name)).first()
        return None if row is None else _settings(row.name, row.content)

    def put(self, endpoint: EndpointSettings) -> None:
        """Given an endpoint, add it, or replace the one of its name."""
        with self._database.write() as connection:
            row = {"name": endpoint.name, "content": _content(endpoint), "changed": self._clock()}
            put(connection, endpoints, row)

    def delete(self, name: str) -> bool:
        """Given a name, forget its endpoint; return False if there is none."""
        with self._database.write() as connection:
            return bool(connection.execute(delete(endpoints).where(endpoints.c.name == name)).rowcount)


def _content(endpoint: EndpointSettings) -> dict[str, Any]:
    content = {name: getattr(endpoint, name) for name in _FIELDS}
    for name in _PATHS:
        content[name] = None if content[name] is None else str(content[name])
    return content | {"options": dict(endpoint.options)}


def _settings(name: str, content: dict[str, Any]) -> EndpointSettings:
    # An older version knew fewer fields, a newer one knows more.
    known = {key: value for key, value in content.items() if key in _FIELDS}
    for key in _PATHS:
        known[key] = Path(known[key]) if known.get(key) else None
    return EndpointSettings(name=name, from_ini=False, **known)

"""The document that the page shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fronts
from mistamover.front.app import create
from mistamover.front.rest.older_openapi import older
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.store.store import Store
from mistamover.jobs.submission import Desk
from mistamover.jobs.transfer.places import Places

NULL = {"type": "null"}


@pytest.mark.parametrize(
    ("new", "old"),
    [
        ({"anyOf": [{"type": "string"}, NULL], "title": "T"}, {"type": "string", "title": "T", "nullable": True}),
        ({"anyOf": [{"$ref": "#/x"}, NULL]}, {"allOf": [{"$ref": "#/x"}], "nullable": True}),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        ({"properties": {"a": {"const": 1}}}, {"properties": {"a": {"enum": [1]}}}),
        ({"exclusiveMinimum": 0}, {"minimum": 0, "exclusiveMinimum": True}),
        ({"examples": ["x", "y"]}, {"example": "x"}),
    ],
)
def test_what_is_new_is_said_in_the_old_way(new: dict[str, Any], old: dict[str, Any]) -> None:
    assert older({"openapi": "3.1.0", "x": new}) == {"openapi": "3.0.3", "x": old}


def test_nothing_new_is_left_in_our_document(tmp_path: Path) -> None:
    settings = fronts.settings(tmp_path, tmp_path)
    store = Store(settings.engine.database_url)
    endpoints = Endpoints(settings, store.endpoints)
    places = Places(endpoints, tmp_path / "front", tmp_path / "links")
    app = create(settings, store, Desk(settings, store, endpoints), places)
    (api,) = app.routes
    document = api.app.openapi()  # type: ignore[attr-defined]
    assert document["openapi"].startswith("3.1")

    def walk(value: Any, inside: str) -> None:
        if isinstance(value, list):
            for each in value:
                walk(each, inside)
        elif isinstance(value, dict):
            if inside != "properties":
                assert value.get("type") != "null"
                assert not {"const", "propertyNames", "$defs", "prefixItems"} & set(value)
                assert not isinstance(value.get("type"), list)
            for key, each in value.items():
                walk(each, key)

    walk(older(document), "")
    app.state.front.far.shutdown()
    store.close()

"""From an OpenAPI 3.1 document to one of 3.0, which is what the page's Swagger UI can show. Pure.

Only what our own document uses is translated; clients are given the original.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = "3.0.3"


def older(document: Mapping[str, Any]) -> dict[str, Any]:
    """Given a document of OpenAPI 3.1, return the same one as 3.0.3."""
    return {**_translated(document), "openapi": VERSION}


def _translated(value: Any) -> Any:
    if isinstance(value, list):
        return [_translated(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    found = {key: _translated(each) for key, each in value.items()}
    kinds = found.get("anyOf")
    if isinstance(kinds, list) and {"type": "null"} in kinds:
        found = _nullable(found, [kind for kind in kinds if kind != {"type": "null"}])
    if "const" in found:
        found["enum"] = [found.pop("const")]
    for bound, name in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if isinstance(found.get(bound), int | float) and not isinstance(found[bound], bool):
            found[name], found[bound] = found[bound], True
    if isinstance(found.get("examples"), list):
        found["example"] = found.pop("examples")[0]
    # Names of keys cannot be described there.
    found.pop("propertyNames", None)
    return found


def _nullable(found: dict[str, Any], kinds: list[Any]) -> dict[str, Any]:
    rest = {key: each for key, each in found.items() if key != "anyOf"}
    if len(kinds) == 1 and "$ref" not in kinds[0]:
        return {**rest, **kinds[0], "nullable": True}
    # A reference stands alone, so it is put into a list of one.
    return {**rest, "allOf" if len(kinds) == 1 else "anyOf": kinds, "nullable": True}

"""What a client of the data cart says of a new cart: JSON, whatever its content type; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mistamover.front.legacy.cart_words import NO_JSON, Told
from mistamover.jobs.cart_model import CartFile, NewCart

#: What a file may say, and may leave out; the names of our values.
_MAY_SAY = {"hashtype": "hash_type", "hashsum": "hash_value"}

#: What a cart may say besides, what that has to be, and the names of our values.
_OPTIONS: Mapping[str, tuple[type, str, str]] = {
    "bundle": (bool, "true or false", "stored"),
    "format": (str, "a text", "format"),
    "layout": (str, "a text", "layout"),
    "manifest": (bool, "true or false", "manifest"),
    "archive": (str, "a text", "archive"),
}


def new_cart(uid: str, body: bytes) -> NewCart:
    """Given a uid and the body of a request, return the cart that is asked for. Raise Told (400).

    What nobody knows is no error: older clients send more. A hash is not looked at: they learn later that it is wrong.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Told(400, NO_JSON) from error
    if not isinstance(found, dict):
        raise _bad("the document is an object with fileids")
    files = found.get("fileids")
    if not isinstance(files, list):
        raise _bad("fileids is missing" if files is None else "fileids is a list")
    said: dict[str, Any] = {}
    for name, (kind, words, ours) in _OPTIONS.items():
        value = found.get(name)
        if value is not None:
            if not isinstance(value, kind):
                raise _bad(f"{name} is {words}")
            said[ours] = value
    return NewCart(uid=uid, any_hash=True, files=[_file(number, each) for number, each in enumerate(files)], **said)


def _file(number: int, found: object) -> CartFile:
    where = f"fileids[{number}]"
    if not isinstance(found, dict):
        raise _bad(f"{where} is an object with id and path")
    identity, path = found.get("id"), found.get("path")
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise _bad(f"{where}.id is {'missing' if identity is None else 'a text or a whole number'}")
    if not isinstance(path, str):
        raise _bad(f"{where}.path is {'missing' if path is None else 'a text'}")
    said = {}
    for name, ours in _MAY_SAY.items():
        value = found.get(name)
        if value is not None and not isinstance(value, str):
            raise _bad(f"{where}.{name} is a text")
        said[ours] = value or ""
    return CartFile(id=_text(identity, where), path=path, **said)


def _text(identity: str | int, where: str) -> str:
    try:
        return str(identity)
    except ValueError as error:
        # Python does not write out numbers of more than some thousand digits.
        raise _bad(f"{where}.id is too long") from error


def _bad(words: str) -> Told:
    return Told(400, f"Invalid cart: {words}")

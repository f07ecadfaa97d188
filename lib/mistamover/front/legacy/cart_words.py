"""The words of the data cart's dialect: texts, as its clients compare them, and what stands in its headers; pure."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from mistamover import __version__
from mistamover.front.words import line
from mistamover.jobs.cart_model import Cart, CartState

RUNNING: Final = "Pacifica Cartd Interface Up and Running"
BEGUN: Final = "Cart Processing has begun"
NOT_READY: Final = "The cart is not ready for download."
GONE: Final = "The cart does not exist or has already been deleted"
DELETED: Final = "Cart Deleted Successfully"
NOT_REMOVED: Final = "None"
NOT_FOUND: Final = "Not Found"
NO_UID: Final = "Missing parameters: uid"
NO_JSON: Final = "Invalid JSON document"
NO_LENGTH: Final = "Length Required"
NOT_ALLOWED: Final = "Specified method is invalid for this resource"

STATUS: Final = "X-Pacifica-Status"
MESSAGE: Final = "X-Pacifica-Message"

#: Bytes of a value in a header.
_LONGEST: Final = 1_024

#: Statuses of what is refused, by the error's code; any other one is 400.
_STATUS: Final[Mapping[str, int]] = {
    "forbidden": 403,
    "unknown-endpoint": 400,
    "endpoint-disabled": 503,
    "no-archive": 503,
    "too-many-files": 413,
    "too-many-jobs": 429,
}


class Told(Exception):
    """A request that is answered with this status and this text; never leaves the front."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


def status_of(code: str) -> int:
    """Given the code of what the desk refuses, return the status of the answer."""
    return _STATUS.get(code, 400)


def error_body(status: int, message: str) -> dict[str, str]:
    """Given a status and a text, return the one shape that errors have; no traceback is ever in it."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    return {"status": f"{status} {phrase}", "message": line(message), "traceback": "", "version": __version__}


def no_cart(uid: str) -> str:
    """Given a uid, return what a client is told that asks for the status of a cart which is not there."""
    return f"No cart with uid {uid} found"


def state_word(cart: Cart, dialect: str) -> str:
    """Given a cart, and which dialect is spoken, return the word for how it stands."""
    if dialect == "cartd" and cart.state not in (CartState.READY, CartState.ERROR):
        return CartState.STAGING.value
    return cart.state.value


def header_value(text: str) -> str:
    """Given any text, return it as it can stand in a header: one line, not long, of characters that Latin-1 has."""
    return line(text, _LONGEST).encode("latin-1", "replace")[:_LONGEST].decode("latin-1")

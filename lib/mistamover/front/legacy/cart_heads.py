"""The two headers that each answer to HEAD of a cart has, also where it is refused before any dialect sees it.

Without a token, too often, or while the store is away: a client of the data cart reads these headers of any answer.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mistamover.front.legacy.cart_words import MESSAGE, STATUS
from mistamover.jobs.cart_model import CartState
from mistamover.jobs.carts.wishes import RESERVED


class CartHeads:
    """Stands before everything else."""

    def __init__(self, app: ASGIApp, *, at_root: bool) -> None:
        """Given the application, and whether carts are at the root."""
        self._app = app
        self._at_root = at_root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400:
                message = {**message, "headers": _with_both(message["status"], list(message.get("headers", ())))}
            await send(message)

        is_head = scope["type"] == "http" and scope["method"] == "HEAD" and self._is_cart(scope["path"])
        await self._app(scope, receive, told if is_head else send)

    def _is_cart(self, path: str) -> bool:
        first, _, rest = path.removeprefix("/").partition("/")
        return (first == "cart" and rest != "") or (self._at_root and not rest and first.lower() not in RESERVED)


def _with_both(status: int, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Given a status and the headers of an answer, return them with the two, if they are not there."""
    if any(name.lower() == STATUS.lower().encode() for name, _ in headers):
        return headers
    phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else "Error"
    return [*headers, (STATUS.encode(), CartState.ERROR.value.encode()), (MESSAGE.encode(), phrase.encode())]

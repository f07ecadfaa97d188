"""What a way of telling programs must be able to do; the webhook and the broker are two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

Event = dict[str, Any]
"""One event as JSON has it; it never comes back into the program."""


class Poster(Protocol):
    """Hands over events; used by one thread."""

    @property
    def where(self) -> str:
        """Where the events go, for people; without any secret."""

    def post(self, events: Sequence[Event], now: float) -> None:
        """Given some events and the time, return when all of them are taken.

        Raise AlertRefused if one of these is not while others might be, AlertError, SecretError.  Then some may have
        been taken, and may be again the next time.
        """

    def rest(self) -> None:
        """There is nothing to hand over at the moment."""

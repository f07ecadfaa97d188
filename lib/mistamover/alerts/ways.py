"""The ways to programs that a configuration asks for; each has its own position, queue, and troubles."""

from __future__ import annotations

from dataclasses import dataclass

from mistamover.alerts.amqp import Amqp
from mistamover.alerts.poster import Poster
from mistamover.alerts.webhook import Webhook
from mistamover.config.settings import AlertSettings

WEBHOOK, AMQP = "notify", "amqp"

#: Every way there is: what an earlier configuration left in its queue must have its place.
NAMES = (WEBHOOK, AMQP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to programs."""

    name: str
    """Of its queue and its thread."""
    positions: str
    """Name of the directory where it is kept how far the streams were told."""
    poster: Poster
    events: tuple[str, ...]


def ways(settings: AlertSettings) -> tuple[Way, ...]:
    """Given who is to be told, return the ways to programs; no connection is made yet."""
    found: list[Way] = []
    if (notify := settings.notify) is not None:
        found.append(Way(name=WEBHOOK, positions="positions", poster=Webhook(notify), events=notify.events))
    if (amqp := settings.amqp) is not None:
        found.append(Way(name=AMQP, positions="positions-amqp", poster=Amqp(amqp), events=amqp.events))
    return tuple(found)

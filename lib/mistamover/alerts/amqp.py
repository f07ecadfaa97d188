"""Publishing events to a message broker: one message each, in order, again only what the broker has not confirmed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby

from mistamover.alerts.broker import Broker, Message
from mistamover.alerts.poster import Event
from mistamover.config.settings import AmqpSettings
from mistamover.errors import AlertRefused

#: Seconds that the broker gets for each answer.
TIMEOUT = 20.0

#: Stands for the name of a stream where there is none, or are several; no stream has such a name.
_NO_STREAM = "-"

#: Bytes that AMQP allows for a routing key.
_LONGEST_KEY = 255


class Amqp:
    """The programs behind one exchange."""

    def __init__(self, settings: AmqpSettings, *, timeout: float = TIMEOUT) -> None:
        """Given where to publish, and the seconds for each answer, have no connection yet."""
        self._settings = settings
        self._broker = Broker(settings, timeout)
        self._taken: set[str] = set()
        """Ids of events that are confirmed while others of the same call are not."""

    @property
    def where(self) -> str:
        """Where the events go, for people."""
        return f"exchange {self._settings.exchange} at {self._broker.where}"

    def post(self, events: Sequence[Event], now: float) -> None:
        """Given some events and the time, publish them, and return when the broker has confirmed them all.

        Raise AlertRefused if no queue is bound for one, AlertError, SecretError.
        """
        waiting = [event for event in events if event["id"] not in self._taken]
        for key, group in groupby(waiting, self._key):
            first, *rest = [_message(key, event, now) for event in group]
            # Alone: if there is no queue for it, there is none for those behind it, and none may come before it.
            self._publish([first])
            self._publish(rest)
        self._taken.difference_update(event["id"] for event in events)

    def rest(self) -> None:
        """Keep the connection alive, or notice that it is not."""
        self._broker.keep_alive()

    def _publish(self, messages: Sequence[Message]) -> None:
        returned = self._broker.publish(messages, self._taken.add)
        if returned:
            raise AlertRefused(
                f"no queue of exchange {self._settings.exchange} at {self._broker.where} takes {returned}: bind one, "
                "or see [notify] events and amqp_mandatory"
            )

    def _key(self, event: Event) -> str:
        streams = [event["stream"]] if "stream" in event else event.get("streams", ())
        stream = str(streams[0]).replace(".", "_") if len(streams) == 1 else _NO_STREAM
        room = _LONGEST_KEY - len(self._settings.routing_key.format(stream="", event=event["event"]))
        return self._settings.routing_key.format(stream=stream[:room], event=event["event"])


def _message(key: str, event: Event, now: float) -> Message:
    return Message(
        id=str(event["id"]), kind=str(event["event"]), key=key, body=json.dumps(event).encode(), sent=int(now)
    )

"""What arrives at a real message broker: a queue that is bound to an exchange, and what it holds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kombu import Connection, Exchange, Queue

from mistamover.testing.rabbitmq import PrivateRabbit


def client_of(rabbit: PrivateRabbit) -> Connection:
    """Return a client of the broker, not connected yet."""
    return Connection(
        hostname=rabbit.host, port=rabbit.port, userid=rabbit.user, password=rabbit.password, connect_timeout=10
    )


def password_file(rabbit: PrivateRabbit, directory: Path, text: str | None = None) -> Path:
    """Write the broker's password, or another text, into a private file; return the file."""
    path = directory / "amqp.password"
    path.touch(mode=0o600)
    path.write_text(f"{text or rabbit.password}\n")
    path.chmod(0o600)
    return path


@dataclass
class Subscriber:
    """A durable queue; what is in it outlives the broker."""

    rabbit: PrivateRabbit
    exchange: str
    binding: str = "#"
    messages: list[Any] = field(default_factory=list)
    """All messages so far, in order, as kombu has them."""

    def bind(self) -> Subscriber:
        """Make the exchange and the queue."""
        with client_of(self.rabbit) as client:
            exchange = Exchange(self.exchange, type="topic", durable=True)
            Queue(self._name, exchange, routing_key=self.binding, durable=True)(client.default_channel).declare()
        return self

    def take(self) -> list[dict[str, Any]]:
        """Take what is there, and return the events of all messages so far, in order."""
        with client_of(self.rabbit) as client:
            queue = Queue(self._name)(client.default_channel)
            while (message := queue.get()) is not None:
                message.ack()
                self.messages.append(message)
        return self.events

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of all messages so far, in order."""
        return [json.loads(message.body) for message in self.messages]

    def names(self, event: str = "delivered") -> list[str]:
        """Take what is there, and return the names of all events of a kind, in order."""
        return [each["name"] for each in self.take() if each["event"] == event]

    def once(self) -> list[dict[str, Any]]:
        """The events as a program sees them that drops what has the id of a message before it."""
        found: dict[str, dict[str, Any]] = {}
        for message, event in zip(self.messages, self.events, strict=True):
            assert message.properties["message_id"] == event["id"]
            assert found.setdefault(event["id"], event) == event
        return list(found.values())

    @property
    def _name(self) -> str:
        return f"{self.exchange}-{self.binding}"

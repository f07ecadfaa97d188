"""A connection to an AMQP broker that is kept, and publishing over it with confirmations.

The only module that knows kombu, which is an extra and is imported when the first connection is made.  Every error
closes the connection: what was on its way must not be taken for an answer to what comes later.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from mistamover import __version__
from mistamover.config.settings import AmqpSettings
from mistamover.errors import AlertError, SecretError
from mistamover.files.names import display
from mistamover.files.private import read_private

#: Seconds between signs of life that are asked of the broker; after two without any it closes the connection.
_HEARTBEAT = 60

#: Seconds for a look at what has come; with 0 the library would turn in circles at half a message.
_GLANCE = 0.001

_GUEST = "guest"
_LONGEST_ERROR = 300

_ACCESS_REFUSED, _PRECONDITION_FAILED = 403, 406


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message before it has its envelope."""

    id: str
    """Stays the same when it is published again."""
    kind: str
    key: str
    body: bytes
    sent: int


class Broker:
    """The exchange of one broker; used by one thread."""

    def __init__(self, settings: AmqpSettings, timeout: float) -> None:
        """Given where to publish, and the seconds for each answer, have no connection yet."""
        self._settings = settings
        self._timeout = timeout
        self._connection: Any = None
        self._channel: Any = None
        self._producer: Any = None
        self._password = ""
        self._blocked = False
        self._published = 0
        self._taken: Callable[[str], None] = lambda _: None
        self._unconfirmed: dict[int, Message] = {}
        """By number, in the order in which they were published."""
        self._confirmed: set[int] = set()
        """Numbers of those that wait for one before them."""
        self._returned: dict[str, str] = {}
        """Id and routing key of what no queue takes."""

    @property
    def where(self) -> str:
        """Where the broker is, for people."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        scheme = "amqps" if self._settings.tls else "amqp"
        return f"{scheme}://{host}:{self._settings.port}/{quote(self._settings.vhost, safe='')}"

    def publish(self, messages: Sequence[Message], taken: Callable[[str], None]) -> str:
        """Given messages and what to call with the id of each that the broker has confirmed, publish them in order.

        Return the routing key of one that no queue takes; empty if all are taken.  Raise AlertError, SecretError.
        """
        if not messages:
            return ""
        with self._errors():
            if self._connection is None:
                self._open()
            self._returned.clear()
            self._taken = taken
            for message in messages:
                self._send(message)
            self._await_confirmations()
        return next(iter(self._returned.values()), "")

    def keep_alive(self) -> None:
        """Take in what the broker has sent, and send it a sign of life if one is due; close what does not live."""
        if self._connection is None:
            return
        with contextlib.suppress(AlertError), self._errors():
            with contextlib.suppress(TimeoutError):
                while True:
                    self._connection.blocking_read(_GLANCE)
            self._connection.heartbeat_tick()

    # -- the connection -----------------------------------------------------------------------

    def _open(self) -> None:
        from kombu import Connection, Producer

        for library in ("amqp", "kombu"):
            logging.getLogger(library).setLevel(logging.WARNING)
        self._password = self._read_password()
        settings = self._settings
        tls = {"context": {"cafile": settings.ca_file, "check_hostname": True}, "server_hostname": settings.host}
        client = Connection(
            hostname=f"[{settings.host}]" if ":" in settings.host else settings.host,
            port=settings.port,
            userid=settings.user,
            password=self._password,
            virtual_host=settings.vhost,
            ssl=tls if settings.tls else False,
            connect_timeout=self._timeout,
            heartbeat=_HEARTBEAT,
            transport_options={
                "client_properties": {"product": "MiStaMover", "product_version": __version__},
                "on_blocked": lambda _: self._set_blocked(True),
                "on_unblocked": lambda: self._set_blocked(False),
            },
        )
        # Not by the client itself: it would sleep and try a second time.
        self._connection = client.transport.establish_connection()
        # The library sets none for what comes after the login.
        self._connection.sock.settimeout(self._timeout)
        # Else it looks for news before each message, and has no end where it finds half of one.  We look ourselves.
        self._connection.client_properties.get("capabilities", {}).pop("connection.blocked", None)
        self._declare()
        self._channel = self._connection.channel()
        self._channel.confirm_select()
        for name, heard in (("ack", self._on_ack), ("nack", self._on_nack), ("return", self._on_return)):
            self._channel.events[f"basic_{name}"].add(heard)
        self._producer = Producer(self._channel)
        self._published = 0

    def _read_password(self) -> str:
        path = self._settings.password_file
        if path is None:
            return _GUEST
        lines = read_private(path)
        if not lines or not lines[0]:
            raise SecretError(f"{path} is empty: its first line must be the password")
        return lines[0]

    def _declare(self) -> None:
        """Make the exchange if it is not there; who may not make any can use one that is."""
        from amqp.exceptions import ChannelError
        from kombu import Exchange

        name = self._settings.exchange
        exchange = Exchange(name, type="topic", durable=True)
        channel = self._connection.channel()
        try:
            exchange(channel).declare()
        except ChannelError as error:
            if error.reply_code == _PRECONDITION_FAILED:
                raise AlertError(
                    f"{self.where}: exchange {name} is there, but is no durable one of type topic "
                    f"({self._clean(error.reply_text)}): remove it there, or set [notify] amqp_exchange to another name"
                ) from None
            if error.reply_code != _ACCESS_REFUSED:
                raise
            channel = self._connection.channel()
            exchange(channel).declare(passive=True)
        channel.close()

    def close(self) -> None:
        """Leave the broker at once; the next message connects anew."""
        connection, self._connection = self._connection, None
        self._channel = self._producer = None
        self._blocked = False
        self._unconfirmed.clear()
        self._confirmed.clear()
        if connection is not None:
            # Not the polite way, which waits for an answer.
            connection.collect()

    # -- messages -----------------------------------------------------------------------------

    def _send(self, message: Message) -> None:
        self._published += 1
        self._unconfirmed[self._published] = message
        self._producer.publish(
            message.body,
            exchange=self._settings.exchange,
            routing_key=message.key,
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            mandatory=self._settings.mandatory,
            message_id=message.id,
            timestamp=message.sent,
            type=message.kind,
            app_id="mistamover",
        )

    def _await_confirmations(self) -> None:
        deadline = time.monotonic() + self._timeout
        while self._unconfirmed:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.blocking_read(left)

    def _on_ack(self, tag: int, multiple: bool) -> None:
        self._confirmed.update(known for known in self._unconfirmed if known == tag or (multiple and known < tag))
        # In order: what is published again after an error must not be missing before what is not.
        while self._unconfirmed and (first := next(iter(self._unconfirmed))) in self._confirmed:
            self._confirmed.remove(first)
            message = self._unconfirmed.pop(first)
            # What is returned is confirmed as well, right after it.
            if message.id not in self._returned:
                self._taken(message.id)

    def _on_nack(self, _tag: int, _multiple: bool) -> None:
        raise AlertError(f"{self.where}: the broker could not keep a message; its log says why")

    def _on_return(self, _error: Exception, _exchange: str, key: str, message: Any) -> None:
        self._returned[message.properties["message_id"]] = key

    def _set_blocked(self, blocked: bool) -> None:
        self._blocked = blocked

    # -- errors -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Make errors of the library ours. Raise AlertError, SecretError."""
        try:
            from amqp.exceptions import AMQPError
            from kombu.exceptions import KombuError
        except ImportError:
            raise AlertError("the package kombu is not installed: pip install mistamover[amqp]") from None
        try:
            yield
        except (OSError, AMQPError, KombuError) as error:
            words = self._words(error)
            self.close()
            # Without the cause: what it says may hold the login.
            raise AlertError(f"{self.where}: {words}") from None
        except BaseException:
            self.close()
            raise

    def _words(self, error: Exception) -> str:
        if self._blocked:
            return "the broker takes no messages at present: it is short of memory or disk"
        if isinstance(error, TimeoutError):
            return "no answer in time"
        reply = getattr(error, "reply_text", None)
        words = reply or getattr(error, "strerror", None) or str(error) or type(error).__name__
        return self._clean(str(words))

    def _clean(self, words: str) -> str:
        """Given words of the broker or the library, return them fit to be shown."""
        for secret in (self._password, quote(self._password, safe="")):
            if secret and secret != _GUEST:
                words = words.replace(secret, "***")
        return display(words.encode("utf-8", "surrogateescape"))[:_LONGEST_ERROR]

"""The process `links`: keeps the connections that streams share, and says whose turn it is.

It listens at a socket in the agent's state directory, where only its own user gets in.  Whoever wants a
place on a connection, or a turn for a large batch, connects, asks in one message, and is answered when there is
one; the place or the turn is given up by closing.  So nothing is kept for a stream that has died.  When this
process dies, its connections die with it, and the streams log in anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from pathlib import Path
from types import FrameType

from mistamover.errors import LinkError
from mistamover.files import leases
from mistamover.links import messages
from mistamover.links.login import Login
from mistamover.links.messages import Answer
from mistamover.links.pool import Connection, Pool
from mistamover.links.turns import Request, Turns

logger = logging.getLogger(__name__)

#: Large batches that travel to one target at a time, all streams together: two fill a line, four also a slow far disk.
TURNS_AT_ONCE = 4


class Holder:
    """The one who keeps connections and turns."""

    def __init__(self, directory: Path, listener: socket.socket) -> None:
        """Given the directory for sockets, and where questions come (see `messages.listen`), be ready."""
        leases.raise_descriptor_limit()
        self._pool = Pool(directory)
        self._turns = Turns(TURNS_AT_ONCE)
        self._selector = selectors.DefaultSelector()
        self._listener = listener
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._waiting: dict[int, tuple[socket.socket, Connection]] = {}
        """Who waits for a connection to connect, by place."""
        self._asked: set[socket.socket] = set()
        self._tickets: dict[int, socket.socket] = {}
        self._turn_of: dict[int, int] = {}
        """Tickets by the descriptor of who holds them."""
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Ask for the end."""
        self._stopping = True

    def serve(self) -> None:
        """Serve until asked to stop; every connection ends then."""
        self._hear_signals()
        try:
            while not self._stopping:
                moment = self._pool.next_moment()
                patience = None if moment is None else max(0.0, moment - time.monotonic())
                for key, _ in self._selector.select(patience):
                    self._attend(key)
                self._answer()
        finally:
            self._pool.close()

    def _hear_signals(self) -> None:
        def child_ended(_signal: int, _frame: FrameType | None) -> None:
            """The wake-up is all that is wanted: the pool looks who it was."""

        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, child_ended)
        self._selector.register(self._wake_read, selectors.EVENT_READ)

    def _attend(self, key: selectors.SelectorKey) -> None:
        if key.fileobj is self._listener:
            client, _ = self._listener.accept()
            client.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ)
        elif isinstance(key.fileobj, socket.socket):
            self._hear(key.fileobj)
        elif isinstance(key.data, Connection):
            self._pool.hear(key.data)
            if key.data.connected:
                self._selector.unregister(key.fileobj)
        else:
            os.read(self._wake_read, 4096)

    def _hear(self, client: socket.socket) -> None:
        try:
            said = client.recv(messages.LONGEST)
        except OSError:
            said = b""
        if said == messages.FULL:
            self._pool.leave(client.fileno(), full=True)
        elif not said:
            self._forget(client)
        else:
            self._ask(client, said)

    def _ask(self, client: socket.socket, said: bytes) -> None:
        try:
            wish = messages.parse(said)
        except (ValueError, KeyError, TypeError) as error:
            logger.error("a question that makes no sense: %s", error)
            self._forget(client)
            return
        if client in self._asked:
            logger.error("a second question at the same place: %s", wish)
            self._forget(client)
            return
        self._asked.add(client)
        if isinstance(wish, Request):
            ticket = self._turns.ask(wish)
            self._tickets[ticket] = client
            self._turn_of[client.fileno()] = ticket
        elif isinstance(wish, Login):
            self._give_place(client, wish)

    def _give_place(self, client: socket.socket, login: Login) -> None:
        try:
            connection = self._pool.take(login, client.fileno())
        except LinkError as error:
            self._say(client, Answer(error=str(error)))
            return
        self._waiting[client.fileno()] = (client, connection)
        # Once it is connected, ssh closes its output: nothing more is heard there.
        if not connection.connected and connection.output not in self._selector.get_map():
            self._selector.register(connection.output, selectors.EVENT_READ, connection)

    def _answer(self) -> None:
        for connection, words in self._pool.ended():
            self._hear_no_more(connection)
            for place in [place for place, (_, theirs) in self._waiting.items() if theirs is connection]:
                client, _ = self._waiting.pop(place)
                self._say(client, Answer(error=connection.login.explain(words)))
        for place in [place for place, (_, theirs) in self._waiting.items() if theirs.connected]:
            client, connection = self._waiting.pop(place)
            self._say(client, Answer(socket=connection.socket))
        for ticket in self._turns.next():
            self._say(self._tickets[ticket], Answer(turn=True))

    def _hear_no_more(self, connection: Connection) -> None:
        """Given a connection that has ended: the number of its descriptor, closed by now, may be another's next."""
        for key in list(self._selector.get_map().values()):
            if key.data is connection:
                self._selector.unregister(key.fileobj)

    def _say(self, client: socket.socket, answer: Answer) -> None:
        with contextlib.suppress(OSError):  # who has gone meanwhile is forgotten when that is heard
            client.send(answer.to_bytes())

    def _forget(self, client: socket.socket) -> None:
        handle = client.fileno()
        self._selector.unregister(client)
        self._asked.discard(client)
        self._waiting.pop(handle, None)
        self._pool.leave(handle)
        ticket = self._turn_of.pop(handle, None)
        if ticket is not None:
            del self._tickets[ticket]
            self._turns.done(ticket)
        client.close()

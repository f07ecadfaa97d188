"""A way to a server that can be cut, stalled and mended, and the server itself notices nothing."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self


class Relay:
    """Takes connections at a port of its own, and passes on what goes through them in both directions."""

    def __init__(self, host: str, port: int) -> None:
        """Given where the server is, prepare; `with` mends the way and cuts it at the end."""
        self._server = (host, port)
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._stop, self._stopped = socket.socketpair()
        self.port = 0

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cut()
        self._stop.close()
        self._stopped.close()

    def mend(self) -> None:
        """Take connections again, at the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, args=(self._listener,))
        self._thread.start()

    def cut(self) -> None:
        """Cut every connection and refuse new ones; harmless when it is cut already."""
        if self._thread is not None:
            self._stop.send(b"x")
            self._thread.join(10)
            self._thread = None

    def stall(self) -> None:
        """Pass nothing on, and take no connection, until `go_on`: to both ends it is a network that swallows all."""
        self._stop.send(b"s")

    def go_on(self) -> None:
        """Go on after `stall`, with what has been kept meanwhile."""
        self._stop.send(b"g")

    def _serve(self, listener: socket.socket) -> None:
        with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
            stack.enter_context(listener)
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._stopped, selectors.EVENT_READ)
            others: dict[socket.socket, socket.socket] = {}
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._stopped:
                        word = self._stopped.recv(1)
                        while word == b"s":
                            word = self._stopped.recv(1)
                        if word == b"x":
                            return
                        # What was ready before may not be there any more.
                        break
                    if key.fileobj is listener:
                        ours = stack.enter_context(listener.accept()[0])
                        try:
                            far = stack.enter_context(socket.create_connection(self._server, timeout=10))
                        except OSError:
                            # The server itself is away.
                            ours.close()
                            continue
                        for one, other in ((ours, far), (far, ours)):
                            others[one] = other
                            selector.register(one, selectors.EVENT_READ)
                    elif isinstance(key.fileobj, socket.socket) and key.fileobj in others:
                        self._pass_on(key.fileobj, others, selector)

    def _pass_on(
        self, one: socket.socket, others: dict[socket.socket, socket.socket], selector: selectors.BaseSelector
    ) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = one.recv(1 << 16)
            others[one].sendall(data)
        if not data:
            other = others.pop(one)
            others.pop(other, None)
            for each in (one, other):
                selector.unregister(each)
                each.close()

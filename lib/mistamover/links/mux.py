"""Sessions over a running `ssh -M`, asked for at its socket: no process here for any of them.

The protocol is OpenSSH's own (PROTOCOL.mux in its sources, version 4).  The descriptors for input, output
and errors go to the ssh process, which serves them directly; the session lives as long as our end
of the socket, so it ends with this process, however that ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mistamover.errors import LinkError, SessionRefused
from mistamover.links.messages import short_path

_HELLO, _VERSION = 0x00000001, 4
_NEW_SESSION = 0x10000002
_DENIED, _FAILURE, _EXIT, _OPENED = 0x80000002, 0x80000003, 0x80000004, 0x80000006

#: No escape character: what we send is data.
_NO_ESCAPE = 0xFFFFFFFF

#: Seconds for the far end to open a session.
_OPEN_SECONDS = 60.0

#: Seconds for the far end to take what is written, where nothing else is said.
_WRITE_SECONDS = 60.0

#: Status of a session whose end nobody told us: the connection was lost.
LOST = 255


class Session:
    """One command or subsystem at the far end; `stdin`, `stdout` and `stderr` are descriptors, -1 once closed."""

    def __init__(
        self,
        directory: Path,
        path: str,
        command: str,
        *,
        subsystem: bool = False,
    ) -> None:
        """Given ssh's socket and what to run there, run it. Raise LinkError; SessionRefused where the server says no.

        The socket's path is relative to the directory, so that its length does not matter.
        """
        self._at_end = contextlib.ExitStack()
        self.stdin = self.stdout = self.stderr = -1
        self._socket = socket.socket(socket.AF_UNIX)
        self._rest = b""
        self._status: int | None = None
        theirs: list[int] = []
        try:
            self._socket.settimeout(_OPEN_SECONDS)
            with short_path(directory) as short:
                self._socket.connect(f"{short}/{path}")
            self._say(struct.pack("!II", _HELLO, _VERSION))
            kind, _ = self._hear()
            if kind != _HELLO:
                raise LinkError("the ssh process does not speak its own protocol for sharing a connection")
            pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
            (in_there, self.stdin), (self.stdout, out_there), (self.stderr, error_there) = pipes
            os.set_blocking(self.stdin, False)
            theirs = [in_there, out_there, error_there]
            self._say(_request(command, subsystem=subsystem))
            for handle in theirs:
                socket.send_fds(self._socket, [b"\0"], [handle])
            self._opened()
        except OSError as error:
            self.close()
            raise LinkError(f"the ssh process does not open a session: {error.strerror or error}") from None
        except BaseException:
            self.close()
            raise
        finally:
            for handle in theirs:
                os.close(handle)

    def _opened(self) -> None:
        kind, body = self._hear()
        while kind not in (_OPENED, _DENIED, _FAILURE):
            kind, body = self._hear()
        if kind != _OPENED:
            length = struct.unpack_from("!I", body, 4)[0] if len(body) >= 8 else 0
            reason = body[8 : 8 + length].decode("utf-8", "backslashreplace")
            raise SessionRefused(f"the connection gives no further session: {reason or 'no reason given'}")

    def at_end(self, act: Callable[..., None], *arguments: object) -> None:
        """Given an act and its arguments, do it when the session is closed."""
        self._at_end.callback(act, *arguments)

    def poll(self) -> int | None:
        """Return the command's exit status once it has ended, None before; LOST when the connection was."""
        while self._status is None and self._readable(0.0):
            self._take()
        return self._status

    def wait(self, timeout: float) -> int | None:
        """Given a limit in seconds, wait for the end; return the status, or None when it has not come."""
        deadline = time.monotonic() + timeout
        while self._status is None and self._readable(max(0.0, deadline - time.monotonic())):
            self._take()
        return self._status

    def write(self, data: bytes, timeout: float = _WRITE_SECONDS) -> None:
        """Given data, write all of it to the command's input. Raise OSError, also when the limit in seconds is over."""
        view = memoryview(data)
        poll = select.poll()
        poll.register(self.stdin, select.POLLOUT)
        deadline = time.monotonic() + timeout
        while view:
            if not poll.poll(1000 * max(0.0, deadline - time.monotonic())):
                raise TimeoutError(errno.ETIMEDOUT, "the far end takes nothing any more")
            view = view[os.write(self.stdin, view[: select.PIPE_BUF]) :]

    def finish_input(self) -> None:
        """Let the command see the end of its input."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def read_line(self, timeout: float) -> bytes | None:
        """Given a limit in seconds, return the next line of output without its end; None if there is none in time.

        Reads byte by byte: for short answers only.
        """
        line = bytearray()
        deadline = time.monotonic() + timeout
        while _wait_readable(self.stdout, max(0.0, deadline - time.monotonic())):
            byte = os.read(self.stdout, 1)
            if not byte:
                return None
            if byte == b"\n":
                return bytes(line)
            line += byte
        return None

    def last_words(self, timeout: float = 1.0) -> str:
        """Given a limit in seconds, return what the command says on its error output until it ends, as one line."""
        said = b""
        deadline = time.monotonic() + timeout
        while _wait_readable(self.stderr, max(0.0, deadline - time.monotonic())):
            chunk = os.read(self.stderr, 1 << 16)
            if not chunk:
                break
            said = (said + chunk)[-2000:]
        lines = [line.strip() for line in said.decode("utf-8", "backslashreplace").splitlines()]
        return "; ".join(line for line in lines if line)[-500:]

    def outlast(self, timeout: float) -> None:
        """Given a limit in seconds, wait until the session is over at both ends: its server counts it until then."""
        deadline = time.monotonic() + timeout
        with contextlib.suppress(OSError):  # ssh hangs up when it is
            while self._readable(max(0.0, deadline - time.monotonic())):
                self._hear()

    def abort(self) -> None:
        """End the session at once, from any thread: whoever reads or writes meets its end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the session and close everything."""
        self.abort()
        self._socket.close()
        if self._status is None:
            self._status = LOST
        for name in ("stdin", "stdout", "stderr"):
            handle = getattr(self, name)
            if handle >= 0:
                os.close(handle)
                setattr(self, name, -1)
        self._at_end.close()

    # -- inside -------------------------------------------------------------------------------

    def _take(self) -> None:
        try:
            kind, body = self._hear()
        except OSError:
            self._status = LOST
            return
        if kind == _EXIT:
            self._status = struct.unpack_from("!I", body, 4)[0] & 0xFF

    def _readable(self, seconds: float) -> bool:
        return bool(self._rest) or _wait_readable(self._socket.fileno(), seconds)

    def _say(self, message: bytes) -> None:
        self._socket.sendall(struct.pack("!I", len(message)) + message)

    def _hear(self) -> tuple[int, bytes]:
        """Return the next message, its kind and its body. Raise OSError when there is none."""
        (length,) = struct.unpack("!I", self._exactly(4))
        if not 4 <= length <= 1 << 18:
            raise ConnectionError("not a message of ssh")
        message = self._exactly(length)
        return struct.unpack_from("!I", message)[0], message[4:]

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            chunk = self._socket.recv(4096)
            if not chunk:
                raise ConnectionError("the ssh process has ended")
            self._rest += chunk
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _request(command: str, *, subsystem: bool) -> bytes:
    """Return the request for a session: no terminal, no X11, no agent."""
    flags: Sequence[int] = (0, 0, 0, subsystem, _NO_ESCAPE)
    head = struct.pack("!II", _NEW_SESSION, 1) + _text(b"") + struct.pack("!5I", *flags)
    return head + _text(b"") + _text(os.fsencode(command))


def _text(value: bytes) -> bytes:
    return struct.pack("!I", len(value)) + value


def _wait_readable(handle: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(1000 * seconds))

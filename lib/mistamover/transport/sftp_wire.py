"""The SFTP protocol, version 3, as far as files have to be kept by it: numbered requests and their answers.

Names are bytes, many requests may be under way, and every wait is bounded and ends at once with `abort`: three things
that paramiko's client does not offer.  One thread at a time uses a wire.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from mistamover.errors import LinkError
from mistamover.links.mux import Session
from mistamover.transport.far import FarRefusal

OPEN, CLOSE, READ, WRITE, LSTAT, SETSTAT, OPENDIR, READDIR = 3, 4, 5, 6, 7, 9, 11, 12
REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, SYMLINK, EXTENDED = 13, 14, 15, 16, 17, 18, 20, 200
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
_INIT, _VERSION = 1, 2

END, NO_SUCH_FILE, DENIED, UNSUPPORTED = 1, 2, 3, 8

#: Seconds for one answer of the server: a disk that is busy may take long to write.
_ANSWER = 120.0

#: Bytes of the longest message that is believed to be one.
_LONGEST = 1 << 24

_WORDS = {
    NO_SUCH_FILE: "no such file or directory",
    DENIED: "permission denied",
    4: "failure",
    5: "bad message",
    UNSUPPORTED: "not supported",
}


class SftpRefusal(FarRefusal):
    """The server's answer to a request is an error; `code` is SFTP's."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Answer(NamedTuple):
    """What the server answered to one request."""

    kind: int
    body: bytes


class Wire:
    """One SFTP session."""

    def __init__(self, session: Session) -> None:
        """Given a session of the subsystem, greet the server. Raise LinkError."""
        self._session = session
        self._ended = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._number = 0
        self._received = bytearray()
        self._answers: dict[int, Answer] = {}
        self._unwanted: set[int] = set()
        self._broken = ""
        self.meanwhile: Callable[[], None] | None = None
        """Called once a second while nothing moves; what it raises ends the session."""
        os.set_blocking(session.stdout, False)
        self.extensions: dict[bytes, bytes] = {}
        """What the server offers beyond the protocol, by its name."""

    def greet(self) -> None:
        """Exchange versions. Raise LinkError, also when the other end is no SFTP server."""
        self._write(_packet(bytes([_INIT]) + struct.pack("!I", 3)))
        kind, body = self._message()
        if kind != _VERSION:
            raise LinkError("what answers is no SFTP server")
        rest = body[4:]
        while rest:
            name, rest = take_text(rest)
            value, rest = take_text(rest)
            self.extensions[name] = value

    def send(self, kind: int, *fields: bytes) -> int:
        """Given a request, send it; return its number. Raise LinkError."""
        self._number = self._number + 1 & 0xFFFFFFFF
        self._write(_packet(bytes([kind]) + struct.pack("!I", self._number) + b"".join(fields)))
        return self._number

    def answer(self, number: int) -> Answer:
        """Given a request's number, return its answer. Raise LinkError; SftpRefusal where it is an error."""
        while number not in self._answers:
            self._take_one()
        answer = self._answers.pop(number)
        if answer.kind == STATUS:
            if len(answer.body) < 4:
                raise LinkError("the SFTP server's answer is cut off")
            code = struct.unpack_from("!I", answer.body)[0]
            if code:
                raise SftpRefusal(code, _words(code, answer.body))
        return answer

    def ask(self, kind: int, *fields: bytes) -> Answer:
        """Given a request, return its answer. Raise LinkError or SftpRefusal."""
        return self.answer(self.send(kind, *fields))

    def ignore(self, number: int) -> None:
        """Given a request's number, let its answer be forgotten whenever it comes."""
        if self._answers.pop(number, None) is None:
            self._unwanted.add(number)

    def handle(self, number: int) -> bytes:
        """Given the number of a request to open something, return the handle, as a field. Raise as `answer`."""
        answer = self.answer(number)
        if answer.kind != HANDLE:
            raise LinkError("the SFTP server gives an answer that does not belong to its question")
        return text(take_text(answer.body)[0])

    def release(self, handle: bytes) -> None:
        """Given a handle, close it, and do not wait for that."""
        self.ignore(self.send(CLOSE, handle))

    def abort(self) -> None:
        """End it at once, from any thread: whoever waits gets a LinkError."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self._ended, 1)
        self._session.abort()

    def close(self) -> None:
        """End the session."""
        self._session.close()
        handle, self._ended = self._ended, -1
        if handle >= 0:
            os.close(handle)

    # -- inside -------------------------------------------------------------------------------

    def _take_one(self) -> None:
        kind, body = self._message()
        number = struct.unpack_from("!I", body)[0]
        if number in self._unwanted:
            self._unwanted.discard(number)
        else:
            self._answers[number] = Answer(kind, body[4:])

    def _message(self) -> tuple[int, bytes]:
        self._receive(4)
        (length,) = struct.unpack_from("!I", self._received)
        if not 5 <= length <= _LONGEST:
            raise LinkError("what answers is no SFTP server")
        self._receive(4 + length)
        kind, body = self._received[4], bytes(memoryview(self._received)[5 : 4 + length])
        del self._received[: 4 + length]
        return kind, body

    def _receive(self, size: int) -> None:
        while len(self._received) < size:
            self._wait(writing=False)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            # What the server has to say is taken meanwhile: it reads nothing while nobody listens to it.
            if self._wait(writing=True):
                with contextlib.suppress(BlockingIOError):
                    view = view[self._put(view) :]

    def _put(self, view: memoryview) -> int:
        try:
            return os.write(self._session.stdin, view)
        except BlockingIOError:
            raise
        except OSError as error:
            raise LinkError(f"the SFTP session broke: {error.strerror}") from None

    def _wait(self, *, writing: bool) -> bool:
        """Wait until something can be read, which is done, or written, if that is wanted; return whether it can."""
        poll = select.poll()
        poll.register(self._ended, select.POLLIN)
        poll.register(self._session.stdout, select.POLLIN)
        if writing:
            poll.register(self._session.stdin, select.POLLOUT)
        if self._broken:
            raise LinkError(self._broken)
        deadline = time.monotonic() + _ANSWER
        while not (ready := dict(poll.poll(1000))):
            if time.monotonic() >= deadline:
                raise LinkError(f"no answer from the SFTP server in {_ANSWER:.0f} s")
            if self.meanwhile is not None:
                # Half a request may have been sent.
                self._broken = "the SFTP session was given up while nothing moved"
                self.meanwhile()
                self._broken = ""
        if self._ended in ready:
            raise LinkError("the SFTP session was cut")
        if self._session.stdout in ready:
            self._read()
        return self._session.stdin in ready

    def _read(self) -> None:
        try:
            chunk = os.read(self._session.stdout, 1 << 20)
        except BlockingIOError:
            return
        except OSError as error:
            raise LinkError(f"the SFTP session broke: {error.strerror}") from None
        if not chunk:
            raise LinkError(f"the SFTP session ended: {self._session.last_words() or 'nothing said why'}")
        self._received += chunk


def text(value: bytes) -> bytes:
    """Given bytes, return them as a field of a request."""
    return struct.pack("!I", len(value)) + value


def take_text(body: bytes) -> tuple[bytes, bytes]:
    """Given what begins with a field, return it and the rest. Raise LinkError if it is cut off."""
    if len(body) < 4:
        raise LinkError("the SFTP server's answer is cut off")
    (length,) = struct.unpack_from("!I", body)
    if len(body) < 4 + length:
        raise LinkError("the SFTP server's answer is cut off")
    return body[4 : 4 + length], body[4 + length :]


def _packet(content: bytes) -> bytes:
    return struct.pack("!I", len(content)) + content


def _words(code: int, body: bytes) -> str:
    said = take_text(body[4:])[0].decode("utf-8", "backslashreplace").strip() if len(body) >= 8 else ""
    known = _WORDS.get(code, f"error {code}")
    return known if not said or said.lower() == known else f"{known} ({said[:200]})"

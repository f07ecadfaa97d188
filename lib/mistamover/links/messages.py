"""What is said at the socket of the process `links`: one packet a message, JSON inside.

A question is a `Login` (a place on a connection is wanted) or a `Request` (a turn is); the answer is an
`Answer`.  FULL tells that the server gave no session for a place.  Closing gives the place or the turn up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mistamover.links.login import Login
from mistamover.links.turns import Request

#: Bytes of the longest message.
LONGEST = 1 << 16

FULL = b"full"

_SOCKET = "socket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the holder answers: exactly one of these is set."""

    socket: str = ""
    """Name of the connection's socket in the holder's directory."""
    turn: bool = False
    error: str = ""
    """Why there is no connection."""

    def to_bytes(self) -> bytes:
        """Return it as a message."""
        return json.dumps(dataclasses.asdict(self)).encode()[:LONGEST]


def question(wish: Login | Request) -> bytes:
    """Given what is wanted, return it as a message."""
    if isinstance(wish, Login):
        return json.dumps({"login": wish.to_json()}).encode()
    return json.dumps({"turn": dataclasses.asdict(wish)}).encode()


def parse(said: bytes) -> Login | Request:
    """Given a question, return what is wanted. Raise ValueError, TypeError or KeyError."""
    try:
        values = json.loads(said)
        wish = Login.from_json(values["login"]) if "login" in values else Request(**values["turn"])
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if isinstance(wish, Request):
        texts, numbers = [wish.target, wish.stream], [wish.weight, wish.cost]
    else:
        texts = [*wish.program, *wish.options, wish.host, wish.who, wish.configuration or "", wish.password_file or ""]
        numbers = [wish.patience]
        # Raises ValueError for what cannot be a word of a command.
        if not wish.program or b"\0" in b"".join(map(os.fsencode, texts)):
            raise ValueError("no command")
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("not text")
    if not all(0 <= number <= sys.maxsize for number in numbers):
        raise ValueError("no number of use")
    return wish


def listen(directory: Path) -> socket.socket:
    """Given the holder's directory, listen there."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / _SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with short_path(directory) as short:
        listener.bind(f"{short}/{_SOCKET}")
    listener.listen(128)
    return listener


def ask(directory: Path, wish: Login | Request) -> socket.socket | None:
    """Given the holder's directory and a wish, ask; return where the answer will come, or None if nobody is there."""
    asking = reach(directory)
    if asking is not None:
        try:
            asking.send(question(wish))
        except OSError:
            asking.close()
            return None
    return asking


def reach(directory: Path) -> socket.socket | None:
    """Given the holder's directory, connect to the holder; None if there is none."""
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with short_path(directory) as short:
            asking.connect(f"{short}/{_SOCKET}")
    except OSError:
        asking.close()
        return None
    return asking


def answer(asking: socket.socket, timeout: float) -> Answer | None:
    """Given where an answer is to come and a limit in seconds, return it; None when the holder is gone or silent."""
    try:
        asking.settimeout(timeout)
        said = asking.recv(LONGEST)
        return Answer(**json.loads(said)) if said else None
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def short_path(directory: Path) -> Iterator[str]:
    """Yield another path of a directory: a socket's path may have 107 bytes only, and directories can be deep.

    Raise OSError if it is no directory.
    """
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)

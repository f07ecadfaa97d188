"""One receiver at the far end, and the pipes to it: how it is started, greeted, asked and ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shlex
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from mistamover.transport import receiver
from mistamover.transport.ssh import SshConnection

#: Bytes that the pipe to the receiver is to hold.
_PIPE = 1 << 20
_F_SETPIPE_SZ = 1031

#: Seconds for the far Python to start, and for an answer that needs no disk.
_START = 10.0
_ANSWER = 60.0

#: Reads the program's text from standard input, so that it stands in no command line.
#: Where that ends too early, so does the program.
BOOT = """import os,sys
n=int(sys.argv[1]);t=c=os.read(0,n)
while c and len(t)<n:c=os.read(0,n-len(t));t+=c
if len(t)==n:exec(t)"""


class Channel:
    """One receiver, and what it has been told."""

    def __init__(self, ssh: SshConnection) -> None:
        """Given a connection that stands, start a receiver; `greet` comes next. Raise LinkError."""
        self.generation = ssh.generation
        """The login that it belongs to."""
        self.permit = os.fsencode(f"{ssh.session_place}/r-{os.urandom(6).hex()}")
        """A file at the target without which it puts nothing in place; who gives it up removes the file."""
        self._text = Path(receiver.__file__).read_bytes()
        self._session = ssh.open_session(f"exec python3 -I -S -c {shlex.quote(BOOT)} {len(self._text)}")
        self.stdin, self.stdout = self._session.stdin, self._session.stdout
        self.known: set[tuple[int, int]] = set()
        """Kinds and numbers of the users and groups that the receiver was told the names of."""

    def greet(self, words: Sequence[bytes]) -> str | None:
        """Given the target directory, its stop file and a hash, hand over the program; return why it does not run."""
        with contextlib.suppress(OSError):
            told = b"".join(struct.pack("!H", len(word)) + word for word in (*words, self.permit))
            self._session.write(self._text + told)
            # Whatever a start-up file of the login shell prints comes before.
            while (said := self._session.read_line(_START)) is not None:
                if said == b"mistamover receiver %d" % receiver.VERSION:
                    self._prepare()
                    return None
        return self._session.last_words() or "it gives no answer"

    @property
    def works(self) -> bool:
        """Whether the receiver still runs, as far as is known here."""
        return self._session.poll() is None

    def look(self) -> bytes:
        """Ask how the target directory is; return the answer, empty when the receiver is gone."""
        with contextlib.suppress(OSError):
            os.write(self.stdin, frame(receiver.LOOK))
            poll = select.poll()
            poll.register(self.stdout, select.POLLIN)
            if poll.poll(1000 * _ANSWER) and (answer := os.read(self.stdout, 1)):
                return answer
        self.end()
        return b""

    def exchange(self, unsent: bytes, answered: Callable[[bytearray], bool], patience: float) -> bytes:
        """Given frames, what tells whether the answers to them are complete, and for how many seconds nothing may
        move, say the frames and return the answers.

        Raise OSError, EOFError or TimeoutError; the receiver is not to be used again then.
        """
        answers = bytearray()
        view = memoryview(unsent)
        poll = select.poll()
        poll.register(self.stdout, select.POLLIN)
        while view or not answered(answers):
            poll.register(self.stdin, select.POLLOUT if view else 0)
            ready = {handle for handle, _ in poll.poll(1000 * patience)}
            if not ready:
                raise TimeoutError
            if self.stdout in ready:
                said = os.read(self.stdout, 1 << 16)
                if not said:
                    raise EOFError
                answers += said
            elif view:
                with contextlib.suppress(BlockingIOError):
                    view = view[os.write(self.stdin, view) :]
        return bytes(answers)

    def end(self) -> None:
        """End the receiver."""
        self._session.close()

    def _prepare(self) -> None:
        os.set_blocking(self.stdout, False)
        # Refused to a user who has many pipes: then it is only slower.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.stdin, _F_SETPIPE_SZ, _PIPE)


def frame(
    kind: int, name: bytes = b"", *, size: int = 0, mode: int = 0, user: int = 0, group: int = 0, mtime_ns: int = 0
) -> bytes:
    """Given the parts of a frame, return it as the receiver reads it, without the content that follows a file's."""
    return receiver.HEADER.pack(kind, len(name), size, mode, user, group, mtime_ns) + name

"""One run of rsync: fed with names, listened to, ended."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from mistamover.errors import TargetError
from mistamover.links import process as processes
from mistamover.transport.base import Guard
from mistamover.transport.rsync_output import Line, parse_line, parse_progress

_CHUNK = 1 << 16

#: Bytes of stderr that are kept: enough to explain, bounded when thousands of files fail.
_MOST_COMPLAINTS = 1 << 20


class Ended(Protocol):
    """What came of a run."""

    lines: dict[bytes, Line]
    stderr: bytes
    status: int
    abandoned: bool


#: What ssh says when the server allows no further session on a connection.  One that has just ended counts until the
#: server has come round to forgetting it.
REFUSED = b"Session open refused by peer"


class RsyncRun:
    """A started rsync that waits for its list of names."""

    def __init__(
        self,
        argv: list[str],
        directory: Path,
        release: Callable[[], None],
        *,
        section: str,
        background: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Given the command and the directory to run it in, start it. Raise TargetError if there is no rsync here.

        `release` is called once the process has ended; with `background` the process gives way to others.  It gets
        `environment` in addition; `section` is where the operator has written the command.
        """
        self._release = release
        try:
            self._process = processes.spawn(argv, directory=directory, environment=environment)
        except FileNotFoundError as error:
            release()
            raise TargetError(f"{error}: install the package rsync, or mend [{section}] cmd") from None
        if background:
            processes.give_way(self._process.pid)
        self.lines: dict[bytes, Line] = {}
        self.stderr = b""
        self.status = -1
        self.abandoned = False
        """Whether we ended it before it was done."""
        self._rest = b""
        self._used = False

    @property
    def refused(self) -> bool:
        """Whether the server gave no session for it: nothing was sent."""
        return not self.lines and REFUSED in self.stderr

    @property
    def alive(self) -> bool:
        """Whether the process still runs, and so can be given a list."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the process if it still runs; one that was given nothing has nothing to clean up."""
        if not self._used:
            self._process.kill()
        processes.end(self._process)
        self._release()

    def abort(self) -> None:
        """Kill the process, from any thread."""
        self._process.kill()

    def send(self, names: Iterable[bytes], guard: Guard | None) -> None:
        """Given the names to send, run to the end; `lines`, `stderr` and `status` hold the outcome."""
        self._used = True
        try:
            # rsync takes a line that begins with # or ; for a comment, and any leading slash off a name.
            self._converse(b"".join(b"/" + name + b"\0" for name in names), guard)
            self.status = self._process.wait()
        finally:
            self.end()

    def _converse(self, names: bytes, guard: Guard | None) -> None:
        process = self._process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        stdin, stdout, stderr = process.stdin.fileno(), process.stdout.fileno(), process.stderr.fileno()
        for handle in (stdin, stdout, stderr):
            os.set_blocking(handle, False)
        unsent = memoryview(names)
        deadline: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(stdin, selectors.EVENT_WRITE)
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            if guard is not None:
                selector.register(guard.fileno(), selectors.EVENT_READ)
                deadline = guard.deadline()
            talking = {stdout, stderr}
            while talking:
                patience = None if deadline is None else max(0.0, deadline - time.monotonic())
                ready = [key.fd for key, _ in selector.select(patience)]
                if deadline is not None and time.monotonic() >= deadline and not self.abandoned:
                    self.abandoned = True
                    deadline = None
                    process.terminate()
                for handle in ready:
                    if handle == stdin:
                        unsent = self._feed(stdin, unsent)
                        if not unsent:
                            selector.unregister(stdin)
                            process.stdin.close()
                    elif handle in talking:
                        if not self._listen(handle, handle == stdout, guard):
                            selector.unregister(handle)
                            talking.discard(handle)
                    elif guard is not None and not self.abandoned:
                        deadline = guard.deadline()

    def _feed(self, handle: int, unsent: memoryview) -> memoryview:
        try:
            return unsent[os.write(handle, unsent[:_CHUNK]) :]
        except BlockingIOError:
            return unsent
        except BrokenPipeError:
            # rsync gave up early; its status and its words tell why.
            return memoryview(b"")

    def _listen(self, handle: int, is_output: bool, guard: Guard | None) -> bool:
        try:
            chunk = os.read(handle, _CHUNK)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        if not is_output:
            self.stderr = (self.stderr + chunk)[:_MOST_COMPLAINTS]
            return True
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if guard is not None and (size := parse_progress(chunk)) is not None:
            guard.progressed(size)
        for raw in whole:
            line = parse_line(raw)
            if line is not None:
                self.lines[line.name] = line
                if guard is not None:
                    guard.sent(line.name)
        return True

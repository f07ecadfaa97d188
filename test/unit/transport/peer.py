"""The far end alone: the receiver's program as a process with plain pipes, fed as `channel` feeds it after the boot."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mistamover.transport import receiver
from mistamover.transport.channel import frame

PROGRAM = Path(receiver.__file__)

#: Runs it by the Python that runs the tests.
COMMAND = (os.path.realpath(sys.executable), "-I", "-S", os.fspath(PROGRAM))

#: Seconds within which the receiver answers or ends.
LIMIT = 20.0

#: The time of modification of all that is sent here and says nothing else.
MOMENT = 1_600_000_000_123_456_789


def file(
    name: bytes,
    content: bytes,
    *,
    mode: int = 0o644,
    user: int | None = None,
    group: int | None = None,
    mtime_ns: int = MOMENT,
    algorithm: str = "sha256",
    digest: bytes | None = None,
) -> bytes:
    """Return the frame of a file, with the right digest unless another one is given."""
    user, group = os.geteuid() if user is None else user, os.getegid() if group is None else group
    head = frame(receiver.FILE, name, size=len(content), mode=mode, user=user, group=group, mtime_ns=mtime_ns)
    return head + (hashlib.new(algorithm, content).digest() if digest is None else digest) + content


def directory(name: bytes, mode: int = 0o755, *, mtime_ns: int = MOMENT) -> bytes:
    """Return the frame of a directory that is ours."""
    owner = {"user": os.geteuid(), "group": os.getegid()}
    return frame(receiver.DIRECTORY, name, mode=mode, mtime_ns=mtime_ns, **owner)


class Peer:
    """A running receiver; `with` ends it, and a hung one is killed."""

    def __init__(
        self, top: Path, *, algorithm: str = "sha256", command: Sequence[str] = COMMAND, umask: int = -1
    ) -> None:
        """Given its target directory, and how to run it, start it and take its greeting."""
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            umask=umask,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.permit = Path(tempfile.mkdtemp(prefix="permit-"), "permit")
        os.chmod(self.permit.parent, 0o777)
        words = (os.fsencode(top), b".stop", algorithm.encode(), os.fsencode(self.permit))
        self.write(b"".join(struct.pack("!H", len(word)) + word for word in words))
        greeting = b"mistamover receiver %d\n" % receiver.VERSION
        assert self.read(len(greeting)) == greeting

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish(kill=True)

    def write(self, data: bytes) -> None:
        """Give it data; what it answers meanwhile fits into its buffers."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.stdin, view) :]

    def read(self, size: int) -> bytes:
        """Return so many bytes of its output, fewer if it ends or says nothing for long."""
        said = b""
        deadline = time.monotonic() + LIMIT
        while len(said) < size and select.select([self.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            chunk = os.read(self.stdout, size - len(said))
            if not chunk:
                break
            said += chunk
        return said

    def batch(self, *frames: bytes, flush: bool = False) -> str:
        """Given the frames of a batch, return an answer for each file, and the last one for the whole: d or x."""
        files = sum(each[0] == receiver.FILE for each in frames)
        self.write(frame(receiver.BEGIN, mode=flush) + b"".join(frames) + frame(receiver.END))
        return self.read(files + 1).decode()

    def look(self) -> bytes:
        """Ask how the target directory is."""
        self.write(frame(receiver.LOOK))
        return self.read(1)

    def finish(self, *, kill: bool = False) -> int:
        """Close its input; return its exit status."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            return self.process.wait(LIMIT)
        finally:
            if kill:
                self.process.kill()
                self.process.stdout.close()
                self.process.wait()
                shutil.rmtree(self.permit.parent)


@contextlib.contextmanager
def filesystem(where: Path, *options: str) -> Iterator[None]:
    """Mount a filesystem on a directory as mount(8) does with the given words; skip where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a filesystem")
    mount = subprocess.run(["mount", *options, where], check=False, capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"nothing can be mounted here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", where], check=True)

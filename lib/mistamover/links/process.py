"""Child processes of a transport: they end with us, they speak English, and waiting for them is bounded."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

#: Seconds that a process gets between SIGTERM and SIGKILL.
_PATIENCE = 5.0


def spawn(
    argv: Sequence[str],
    *,
    directory: Path,
    stdin: int | IO[bytes] = subprocess.PIPE,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Given a command and the directory to run it in, start it with pipes, and with more variables of the
    environment if need be.

    The kernel ends it when the calling thread ends, even by SIGKILL, where setpriv(1) is installed; so
    it must be called by a thread that lives as long as the process may.
    Raise FileNotFoundError when the program does not exist.
    """
    program = shutil.which(argv[0])
    if program is None:
        raise FileNotFoundError(f"{argv[0]} is not installed")
    variables = {**os.environ, "LC_ALL": "C", **(environment or {})}
    variables.pop("RSYNC_RSH", None)
    return subprocess.Popen(
        [*_leash(), program, *argv[1:]],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=directory,
        env=variables,
        bufsize=0,
    )


@cache
def _leash() -> tuple[str, ...]:
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def give_way(pid: int) -> None:
    """Given a process, let it leave the processors to all others as soon as they want them, where that is allowed.

    Measured with two busy processors: a small file beside a huge one takes 40 ms where that is run by `nice -n 10`,
    10 ms where it is run as SCHED_IDLE.  But on a host that is busy all the time such a process gets next to
    nothing; there it is only made nice.
    """
    with contextlib.suppress(OSError):
        if os.getloadavg()[0] < (os.cpu_count() or 1):
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
        else:
            os.setpriority(os.PRIO_PROCESS, pid, 10)


def end(process: subprocess.Popen[bytes]) -> None:
    """Given a process, make sure that it has ended and its pipes are closed."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            # A writer's pipe that broke has nothing left that could be lost.
            try:
                pipe.close()
            except BrokenPipeError:
                continue


def read_line(process: subprocess.Popen[bytes], timeout: float) -> bytes | None:
    """Given a process and a time limit in seconds, return the next line of its output without its end.

    Return None when the output ended or the time is over.  Reads byte by byte: for short answers only.
    """
    assert process.stdout is not None
    handle = process.stdout.fileno()
    line = bytearray()
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        selector.register(handle, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            byte = os.read(handle, 1)
            if not byte:
                return None
            if byte == b"\n":
                return bytes(line)
            line += byte


def last_words(process: subprocess.Popen[bytes]) -> str:
    """Given a process that has ended or is ended now, return what it said on stderr, as one line."""
    if process.poll() is None:
        process.kill()
        process.wait()
    assert process.stderr is not None
    said = process.stderr.read() if not process.stderr.closed else b""
    lines = [line.strip() for line in (said or b"").decode("utf-8", "backslashreplace").splitlines()]
    return "; ".join(line for line in lines if line)[-500:]

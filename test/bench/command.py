"""Running programs: bounded in time, in a session of their own, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from bench.results import NotDelivered

#: Seconds that any single program of the benchmark may take.
LIMIT = 3600.0


@contextlib.contextmanager
def started(
    argv: Sequence[str],
    *,
    output: IO[bytes] | int = subprocess.DEVNULL,
    stdin: IO[bytes] | int | None = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Given a command, run it for the length of the context; then end it and all of its session.

    Its messages, and its output unless `stdout` says otherwise, go to `output`.
    """
    process = subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=output if stdout is None else stdout,
        stderr=output,
        env=env,
        cwd=cwd,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)


def run(
    argv: Sequence[str],
    *,
    limit: float = LIMIT,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    statuses: Sequence[int] = (0,),
) -> float:
    """Given a command, run it to its end and return the seconds; raise NotDelivered if it fails or takes too long."""
    with tempfile.TemporaryFile() as said:
        begin = time.monotonic()
        with started(argv, output=said, env=env, cwd=cwd) as process:
            finish(process, argv, said, limit, statuses)
            return time.monotonic() - begin


def finish(
    process: subprocess.Popen[bytes],
    argv: Sequence[str],
    said: IO[bytes],
    limit: float = LIMIT,
    statuses: Sequence[int] = (0,),
) -> None:
    """Given a process and where it writes to, wait for its end; raise NotDelivered if it fails or takes too long."""
    try:
        status = process.wait(limit)
    except subprocess.TimeoutExpired:
        raise NotDelivered(f"not done within {limit:g} s: {' '.join(argv)}") from None
    if status not in statuses:
        said.seek(0)
        words = said.read().decode(errors="replace")[-2000:]
        raise NotDelivered(f"status {status} of {' '.join(argv)}\n{words}")

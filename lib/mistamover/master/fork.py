"""Making the process of a stream: a fork of the master that keeps nothing of the master's but its memory."""

from __future__ import annotations

import ctypes
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from mistamover.config.settings import StreamSettings
from mistamover.stream import process
from mistamover.stream.process import Exit

_PR_SET_PDEATHSIG = 1


def fork_stream(settings: StreamSettings, *, one_off: bool, to_stderr: bool, debug: bool, close: Sequence[int]) -> int:
    """Given a stream's settings and the master's descriptors to close, start its process; return the pid."""
    run = process.run_fan_out if settings.parts else process.run
    return fork(lambda: run(settings, one_off=one_off, to_stderr=to_stderr, debug=debug), close)


def fork_arrivals(
    settings: StreamSettings, *, one_off: bool, to_stderr: bool, debug: bool, close: Sequence[int]
) -> int:
    """Given a stream's settings and the master's descriptors to close, start its arrival monitor; return the pid."""

    def run() -> int:
        from mistamover.handshake import process as arrivals  # most agents never need it

        return arrivals.run(settings, one_off=one_off, to_stderr=to_stderr, debug=debug)

    return fork(run, close)


def fork(run: Callable[[], int], close: Sequence[int]) -> int:
    """Given what to run and the master's descriptors to close, run it in a process of its own; return the pid.

    The process gets SIGTERM when the master dies, whatever way it dies.
    """
    master = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status: int = Exit.BROKEN
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        _die_with(master)
        for handle in (*close, *_locks):
            os.close(handle)
        for handler in list(logging.getLogger().handlers):
            logging.getLogger().removeHandler(handler)
            handler.close()
        status = run()
    except BaseException:  # noqa: BLE001 (the top of a process: nothing may run on into the master's code)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


_locks: list[int] = []


def keep_from_streams(handle: int) -> None:
    """Given a descriptor of the master that holds a lock, see to it that no stream keeps the lock alive."""
    _locks.append(handle)


def _die_with(master: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != master:
        os._exit(Exit.DONE)


def end_within(pid: int, seconds: float) -> None:
    """Given a child and how long it may take, ask it to end, kill it if it does not, and wait for it."""
    os.kill(pid, signal.SIGTERM)
    ended = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    if not poll.poll(1000 * seconds):
        os.kill(pid, signal.SIGKILL)
    os.close(ended)
    os.waitpid(pid, 0)


def ends_well(code: int, *, one_off: bool) -> bool:
    """Given an exit code, tell whether the stream ended by itself and need not be started again."""
    return code == Exit.COMPLETE or (one_off and code in (Exit.DONE, Exit.LEFT))


def how_it_ended(code: int) -> str:
    """Given an exit code (negative: a signal), return it in words."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    words = {
        Exit.DONE: "ended",
        Exit.LEFT: "left something undelivered",
        Exit.BROKEN: "ended because of an error (see its log)",
        Exit.BUSY: "found the stream served by another process",
        Exit.COMPLETE: "has completed its stream",
    }
    return words.get(Exit(code), f"ended with status {code}") if code in set(Exit) else f"ended with status {code}"

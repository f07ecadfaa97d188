"""The processes of the job front, as their master sees them: the front, which listens, and the worker, which moves.

Both are programs of their own (`mistamover front`, `mistamover worker`), so that nothing of what they need is loaded
here or in a stream.  The front ends first: then nobody is promised any more what the worker would have to do.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mistamover
from mistamover.config.settings import Settings
from mistamover.master.child import Child, ChildState, Wish
from mistamover.report.mastership import ChildReport

logger = logging.getLogger(__name__)

FRONT, WORKER = "front", "worker"

Fork = Callable[[Callable[[], int]], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command of ours that is to run; another one than before if anything that it reads is another."""

    name: str
    arguments: tuple[str, ...]
    stop_timeout: float
    basis: object
    """All settings that it goes by."""


def programs(settings: Settings) -> tuple[Program, ...]:
    """Given the settings, return what is to run, in the order in which it is to end."""
    if settings.jobs is None or not settings.jobs.enabled:
        return ()
    options = ("--debug",) if settings.debug else ()
    basis = (settings.jobs, settings.log, settings.alerts)
    return tuple(
        Program(
            name=name,
            arguments=(name, "-c", str(settings.file), *options),
            stop_timeout=settings.stop_timeout,
            basis=basis,
        )
        for name in (FRONT, WORKER)
    )


class JobProcesses:
    """Front and worker; the clock and the fork are given."""

    def __init__(self, fork: Fork) -> None:
        """Given how to run a function in a process of its own (returns the process's number), run nothing yet."""
        self._fork = fork
        self._wanted: dict[str, Program] = {}
        self._first_pause = 0.0
        self._children: dict[str, Child[Program]] = {}

    def consider(self, settings: Settings, now: float) -> None:
        """Given the settings and the time, see to it that they run with them, or not at all."""
        self._wanted = {program.name: program for program in programs(settings)}
        self._first_pause = settings.restart_pause
        self.tick(now)

    def tick(self, now: float) -> None:
        """Given the time, do what is due."""
        self._agree(now)
        for child in self._children.values():
            wish = child.tick(now)
            if wish is Wish.START:
                child.started(self._fork(partial(execute, child.settings.arguments)), now)
                logger.info("the job %s is process %d", child.settings.name, child.pid)
            elif wish is Wish.KILL and child.pid is not None:
                logger.error("the job %s does not stop: killing process %d", child.settings.name, child.pid)
                _signal(child.pid, signal.SIGKILL)

    def exited(self, pid: int, code: int, now: float) -> None:
        """Given which process has ended, with what exit code, and the time, plan the next start."""
        child = next((child for child in self._children.values() if child.pid == pid), None)
        if child is None:
            return
        asked = child.state is ChildState.STOPPING
        child.exited(_how_it_ended(code), False, now)
        if not asked:
            pause = child.retry_at - now
            name = child.settings.name
            logger.error("the job %s %s (see its log); starting it again in %.3g s", name, child.last_exit, pause)
        self._agree(now)

    def hurry(self, now: float) -> None:
        """Given the time, let a restart that waits go at once."""
        for child in self._children.values():
            child.hurry(now)

    def next_moments(self) -> list[float | None]:
        """Return when `tick` has something to do."""
        return [child.next_moment() for child in self._children.values()]

    def reports(self, now: float, wall: float) -> tuple[ChildReport, ...]:
        """Given the time, and the time for people, return what is to be told of them."""
        children = [(name, self._children[name]) for name in (FRONT, WORKER) if name in self._children]
        return tuple(child.report(f"the job {name}", now, wall) for name, child in children if not child.gone)

    def stop(self, now: float) -> None:
        """Given the time, let them end, the front first."""
        self._wanted = {}
        self._agree(now)

    def kill(self) -> None:
        """End them at once."""
        for child in self._children.values():
            if child.pid is not None:
                _signal(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
        self._wanted, self._children = {}, {}

    @property
    def at_rest(self) -> bool:
        """Whether none runs."""
        return all(child.pid is None for child in self._children.values())

    def _agree(self, now: float) -> None:
        """Make, change or end what is not as it is wanted; one after the other, where an end has to be waited for."""
        self._children = {name: child for name, child in self._children.items() if not child.gone}
        for name in (FRONT, WORKER):
            child, wanted = self._children.get(name), self._wanted.get(name)
            if child is not None:
                child.first_pause = self._first_pause
            if child is None:
                if wanted is not None:
                    self._children[name] = Child(settings=wanted, first_pause=self._first_pause, retry_at=now)
            elif child.state is ChildState.STOPPING:
                child.successor = wanted
                return
            elif wanted != child.settings:
                logger.info("the job %s: %s", name, "stopping it" if wanted is None else "starting it anew")
                if child.stop(now, wanted) and child.pid is not None:
                    _signal(child.pid, signal.SIGTERM)
                    return


def execute(arguments: tuple[str, ...]) -> int:
    """Given the arguments of our command, become that command: it does not come back. Raise OSError."""
    ours = str(Path(mistamover.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))}
    words = [sys.executable, "-P", "-m", "mistamover", *arguments]
    os.execve(sys.executable, words, environment)  # noqa: S606 (there is no shell between us and ourselves)


def _how_it_ended(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        # It has ended; the master will hear of it.
        return

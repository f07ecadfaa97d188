"""What processes cost: CPU time, memory, threads, switches, read from /proc for whole trees of processes."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What some processes have used until now, and what they hold now."""

    cpu: float
    """Seconds, user and system, of children that have ended too."""
    pss: int
    """Bytes, pages that several processes share counted by halves, thirds and so on."""
    processes: int
    threads: int
    switches: int
    """Voluntary context switches: how often somebody went to sleep."""


def family(roots: Iterable[int]) -> set[int]:
    """Given processes, return them and all their living descendants."""
    pids: set[int] = set()
    for root in roots:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(root)
            pids |= {root, *(child.pid for child in process.children(recursive=True))}
    return pids


def cpu_seconds(roots: Iterable[int]) -> float:
    """Given processes, return the CPU time of their families until now, in seconds.

    A child that has ended counts with its parent, if the parent has waited for it.
    """
    return sum(_cpu(pid) for pid in family(roots))


def usage(pids: Iterable[int]) -> Usage:
    """Given processes, return what they use; whoever ends meanwhile is left out."""
    cpu, pss, processes, threads, switches = 0.0, 0, 0, 0, 0
    for pid in pids:
        with contextlib.suppress(OSError):
            memory = pss_bytes(pid)
            tasks = [_fields(Path(f"/proc/{pid}/task/{task}/status")) for task in os.listdir(f"/proc/{pid}/task")]
            cpu += _cpu(pid)
            pss += memory
            processes += 1
            threads += len(tasks)
            switches += sum(int(task["voluntary_ctxt_switches"]) for task in tasks)
    return Usage(cpu=cpu, pss=pss, processes=processes, threads=threads, switches=switches)


def pss_bytes(pid: int) -> int:
    """Given a process, return its proportional share of memory; raise OSError if it is gone."""
    return 1024 * int(_fields(Path(f"/proc/{pid}/smaps_rollup"))["Pss"].split()[0])


def dead_children_ticks(stat: str) -> int:
    """Given the line of /proc/PID/stat, return the clock ticks of its children that have ended."""
    after_name = stat.rpartition(")")[2].split()
    return int(after_name[13]) + int(after_name[14])


def _cpu(pid: int) -> float:
    try:
        dead = dead_children_ticks(Path(f"/proc/{pid}/stat").read_text()) / _TICKS
        # The CPU clock of another process (clock_getcpuclockid(3)): exact, where /proc rounds to 10 ms.
        return dead + time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _fields(path: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in path.read_text().splitlines())
    return {key: value.strip() for key, _, value in pairs if value}


class Peak:
    """The most memory that a process has held, looked at five times a second while the context lasts."""

    def __init__(self, find: Callable[[], int | None]) -> None:
        """Given what returns the pid, or None while there is none, prepare."""
        self._find, self._end = find, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.rss = self.pss = 0

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        pid: int | None = None
        while not self._end.wait(0.2):
            pid = pid or self._find()
            with contextlib.suppress(OSError, psutil.Error):
                if pid is not None:
                    self.rss = max(self.rss, psutil.Process(pid).memory_info().rss)
                    self.pss = max(self.pss, pss_bytes(pid))

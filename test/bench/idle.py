"""W7: what a hundred idle streams cost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

import agents
from bench import ours
from bench.frame import Arena, Bench, Way, open_stage
from bench.results import NotDelivered, Results, Row
from bench.usage import Usage, family, pss_bytes, usage

#: The kernel gives so many inotify instances to one user; a stream needs one.
_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
#: A hundred logins at the same time must not be turned away; the sessions of one connection are as many as usual.
_SSHD = ("MaxStartups 200:30:400", "MaxSessions 10")
#: Seconds within which all streams must be up.
_UP = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One end during the measured time."""

    before: Usage
    after: Usage
    seconds: float

    @property
    def cpu(self) -> float:
        """Percent of one core."""
        return 100 * (self.after.cpu - self.before.cpu) / self.seconds

    @property
    def switches(self) -> float:
        """Voluntary context switches a second."""
        return (self.after.switches - self.before.switches) / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Both ends; and of the near one the master, which is there once however many streams there are."""

    near: Side
    far: Side
    master: Usage
    programs: tuple[tuple[str, int], ...]
    """Which programs the streams' share of memory belongs to, in bytes."""


def w7(bench: Bench) -> Results:
    """Idle streams."""
    streams = bench.size(100, 10)
    settle, seconds = bench.size(15, 5), bench.size(30, 5)
    limit = int(_INSTANCES.read_text())
    warning = (
        f"; ONLY {limit} inotify instances ({_INSTANCES}): some streams scan instead" if limit < streams + 8 else ""
    )
    way = Way(
        name="ours",
        settings=f"{streams} streams to one host in one agent, one file sent through each, {settle} s to settle, "
        f"{seconds} s measured, sshd with {', '.join(_SSHD)}{warning}",
        run=lambda arena: _measure(arena, streams, settle, seconds),
    )
    with open_stage(bench, "W7", size=2**26, files=100 * streams, sshd=_SSHD) as stage:
        taken = stage.take_turns([way], bench.times(1))
        values = taken[0].values if taken else []

        def row(quantity: str, unit: str, numbers: list[float]) -> Row:
            return Row(workload="W7", way=way.name, quantity=quantity, unit=unit, values=tuple(numbers))

        rows = [
            row("CPU here", "% of a core", [v.near.cpu for v in values]),
            row("CPU at the far side", "% of a core", [v.far.cpu for v in values]),
            row("PSS per stream", "MiB", [(v.near.after.pss - v.master.pss) / streams / 2**20 for v in values]),
            *(
                row(
                    f"PSS per stream, of {name}",
                    "MiB",
                    [dict(v.programs).get(name, 0) / streams / 2**20 for v in values],
                )
                for name in (dict(values[0].programs) if values else ())
            ),
            row("PSS of the master", "MiB", [v.master.pss / 2**20 for v in values]),
            row("PSS per stream at the far side", "MiB", [v.far.after.pss / streams / 2**20 for v in values]),
            row("processes here", "", [v.near.after.processes for v in values]),
            row("threads here", "", [v.near.after.threads for v in values]),
            row("voluntary switches here", "per s", [v.near.switches for v in values]),
            row("processes at the far side", "", [v.far.after.processes for v in values]),
        ]
        return stage.results(rows if values else [])


def _measure(arena: Arena, streams: int, settle: float, seconds: float) -> Idle:
    site = ours.make_site(arena)
    for number in range(streams):
        site.add(f"s{number:03d}")
    agent = agents.start(site)
    try:
        agents.until_up(site, agent, timeout=_UP)
        time.sleep(min(10, 2 * settle))
        ours.warm_up(site, _UP)
        time.sleep(settle)
        near, far = family([agent.pid]), family([arena.sshd.pid])
        begin = time.monotonic()
        near_before, far_before = usage(near), usage(far)
        time.sleep(max(0.0, seconds - (time.monotonic() - begin)))
        passed = time.monotonic() - begin
        near_after, far_after = usage(near), usage(far)
        if family([agent.pid]) != near:
            print("    processes have come or gone while it was idle", flush=True)
        master = usage([agent.pid])
        programs = _programs(near - {agent.pid})
        if agent.stop():
            raise NotDelivered(f"the agent ended with {agent.process.returncode}:\n{agent.said()[-2000:]}")
    finally:
        agent.kill()
        agents.end_all(site)
    return Idle(
        near=Side(before=near_before, after=near_after, seconds=passed),
        far=Side(before=far_before, after=far_after, seconds=passed),
        master=master,
        programs=programs,
    )


def _programs(pids: Iterable[int]) -> tuple[tuple[str, int], ...]:
    """Given processes, return the names of their programs, each with the proportional share of memory in bytes."""
    sums: dict[str, int] = {}
    for pid in pids:
        with contextlib.suppress(OSError, psutil.Error):
            name = psutil.Process(pid).name().partition(":")[0]
            sums[name] = sums.get(name, 0) + pss_bytes(pid)
    return tuple(sorted(sums.items()))

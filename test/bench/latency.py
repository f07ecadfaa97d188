"""W4, W5 and W8: how long single files take, on an idle stream, under a steady load, and beside a huge file."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from subprocess import DEVNULL, Popen

from bench import ours
from bench.drops import Ends, Lag, one_by_one, steadily
from bench.frame import Arena, Bench, Taken, Way, open_stage
from bench.lsyncd import SETTINGS, control_master, lsyncd
from bench.peers import rsync_argv
from bench.results import Results, Row, quantile
from bench.trees import Tree
from bench.usage import cpu_seconds

LSYNCD = "lsyncd, delay 0"
OURS = "ours"
_OURS_SETTINGS = "a running agent, default settings"
#: Seconds within which the huge file of W8 must be through.
_HUGE_LIMIT = 1800.0

#: Runs something that watches a directory; yields both ends and the pids of what belongs to it here.
Service = Callable[[Arena], AbstractContextManager[tuple[Ends, list[int]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a steady load gave: how long each file took, and the CPU time of both ends per second of the load."""

    lags: list[Lag]
    cpu_share: float


@contextmanager
def _agent(arena: Arena) -> Iterator[tuple[Ends, list[int]]]:
    """Run our agent with one warm stream; yield its ends, watched, and the agent's pid."""
    site = ours.make_site(arena)
    stream = site.add("one")
    with ours.running(site) as agent, Ends(stream.source, stream.target) as ends:
        yield ends, [agent.pid]


@contextmanager
def _lsyncd(arena: Arena) -> Iterator[tuple[Ends, list[int]]]:
    with lsyncd(arena) as pids, Ends(arena.source, arena.target, removal=False) as ends:
        yield ends, pids


def w4(bench: Bench) -> Results:
    """One file at a time into an idle stream."""
    rounds = bench.times()
    count = max(1, bench.size(200, 30) // rounds)

    def idle(service: Service, arena: Arena) -> list[Lag]:
        with service(arena) as (ends, _):
            return one_by_one(ends, count)

    ways = [Way(name=OURS, settings=_OURS_SETTINGS, run=functools.partial(idle, _agent))]
    if shutil.which("lsyncd"):
        ways.append(Way(name=LSYNCD, settings=SETTINGS, run=functools.partial(idle, _lsyncd), peer=True))
    ways += [
        Way(
            name="rsync --files-from per file, kept ssh",
            settings="rsync -a --remove-source-files --files-from, started for each file over a kept ControlMaster",
            run=lambda arena: _kept(arena, count),
            peer=True,
        ),
        Way(
            name="rsync per file, new ssh",
            settings="rsync -a --remove-source-files, started for each file with a new ssh connection",
            run=lambda arena: _each(arena, max(1, count // 2)),
            peer=True,
        ),
    ]
    with open_stage(bench, "W4", size=2**26, files=1000) as stage:
        return stage.results(_lag_rows("W4", stage.take_turns(ways, rounds), (0.5, 0.95, 0.99)))


def _each(arena: Arena, count: int) -> list[Lag]:
    arena.source.mkdir()
    arena.target.mkdir()

    def kick(name: str) -> Popen[bytes]:
        return Popen(rsync_argv(arena, f"{arena.source}/{name}", "-a", "--remove-source-files"), stdin=DEVNULL)

    with Ends(arena.source, arena.target) as ends:
        return one_by_one(ends, count, kick)


def _kept(arena: Arena, count: int) -> list[Lag]:
    arena.source.mkdir()
    arena.target.mkdir()
    names = arena.directory / "names"
    with control_master(arena) as (shell, _), Ends(arena.source, arena.target) as ends:
        argv = ["rsync", "-a", "--remove-source-files", f"--files-from={names}", "-e", shell]
        argv += [f"{arena.source}/", f"{arena.sshd.host}:{arena.target}/"]

        def kick(name: str) -> Popen[bytes]:
            names.write_text(name + "\n")
            return Popen(argv, stdin=DEVNULL)

        return one_by_one(ends, count, kick)


def w5(bench: Bench) -> Results:
    """A hundred files a second."""
    seconds = bench.size(60, 10)

    def load(service: Service, arena: Arena) -> Load:
        with service(arena) as (ends, pids):
            time.sleep(1)
            roots, begin = [*pids, arena.sshd.pid], time.monotonic()
            before = cpu_seconds(roots)
            lags = steadily(ends, 0.01, lambda number: number < 100 * seconds)
            return Load(lags=lags, cpu_share=(cpu_seconds(roots) - before) / (time.monotonic() - begin))

    ways = [Way(name=OURS, settings=_OURS_SETTINGS, run=functools.partial(load, _agent))]
    if shutil.which("lsyncd"):
        ways.append(Way(name=LSYNCD, settings=SETTINGS, run=functools.partial(load, _lsyncd), peer=True))
    with open_stage(bench, "W5", size=2**26, files=200 * seconds) as stage:
        taken = stage.take_turns(ways, bench.times(3))
        rows = _lag_rows("W5", [Taken(t.name, [load.lags for load in t.values]) for t in taken], (0.5, 0.99))
        rows += [
            Row(
                workload="W5",
                way=each.name,
                quantity="CPU of both ends",
                unit="% of a core",
                values=tuple(100 * load.cpu_share for load in each.values),
            )
            for each in taken
        ]
        return stage.results(rows)


def w8(bench: Bench) -> Results:
    """Small files beside a huge one in the same stream."""
    huge = Tree(directories=1, per_directory=1, size=bench.size(10 * 2**30, 2**30))
    every, idle_count = 0.2, bench.size(150, 20)
    idle_lags: list[list[Lag]] = []

    def beside(arena: Arena) -> list[Lag]:
        huge.make(arena.directory / "prepared")
        with _agent(arena) as (ends, _):
            idle_lags.append(steadily(ends, every, lambda number: number < idle_count, "idle"))
            deadline = time.monotonic() + _HUGE_LIMIT
            (arena.directory / "prepared" / huge.name(0)).rename(arena.directory / "data" / "one" / "huge")
            lags = steadily(ends, every, lambda _: not ends.done("huge") and time.monotonic() < deadline, "beside")
            ends.wait("huge", 1)
            huge.check_file(arena.directory / "remote" / "one" / "huge", 0)
            return lags

    size = f"{huge.size // 2**30} GiB"
    way = Way(
        name=f"{OURS}, beside a huge file",
        settings=f"{_OURS_SETTINGS}; 4 KiB every {every:g} s, first alone, then while {size} travel in the same stream",
        run=beside,
    )
    with open_stage(bench, "W8", size=huge.bytes, files=1000) as stage:
        taken = stage.take_turns([way], bench.times(1))
        idle = Taken(f"{OURS}, idle", idle_lags)
        rows = _lag_rows("W8", [idle, *taken] if taken else [], (0.5, 0.95), baseline=idle.name)
        return stage.results(rows)


def _lag_rows(
    workload: str, taken: Sequence[Taken[list[Lag]]], shares: Sequence[float], baseline: str = OURS
) -> list[Row]:
    """Given the lags of each way's rounds, return percentiles over all rounds together, with those of each round."""
    rows = []
    for each in taken:
        final = [[lag.final for lag in lags] for lags in each.values]
        removed = [[lag.removed for lag in lags if lag.removed is not None] for lags in each.values]
        for what, rounds in (("to final name", final), ("to removal", removed)):
            every = [lag for lags in rounds for lag in lags]
            rows += [
                Row(
                    workload=workload,
                    way=each.name,
                    quantity=f"{what}, p{100 * share:.0f}",
                    unit="ms",
                    values=tuple(quantile(lags, share) for lags in rounds),
                    pooled=quantile(every, share),
                    baseline=baseline,
                )
                for share in shares
                if every
            ]
    return rows

"""W9: one target of several, beside one that is slow and one that is dead."""

from __future__ import annotations

import contextlib
import sqlite3
import time

import agents
from bench import ours
from bench.frame import Arena, Bench, Way, open_stage
from bench.results import NotDelivered, Results, Row
from bench.trees import Tree
from fan_outs import fan_out, target
from support import wait_until

_ALONE, _BESIDE = "ours, one target", "ours, beside a slow and a dead target"
_LIMIT = 600.0
_LOOK = 0.01


def w9(bench: Bench) -> Results:
    """Several targets."""
    tree = Tree(directories=bench.size(300, 20), per_directory=100, size=4096)
    ways = [
        Way(
            name=_ALONE,
            settings="a running agent, one target in the key targets; until its ledger says that it has all",
            run=lambda arena: _run(arena, tree, ("healthy",)),
        ),
        Way(
            name=_BESIDE,
            settings="as before, and two targets more: one with bandwidth_limit = 100 (KiB/s), one that nobody serves",
            run=lambda arena: _run(arena, tree, ("healthy", "slow", "dead")),
        ),
    ]
    with open_stage(bench, "W9", size=3 * tree.bytes, files=3 * tree.files) as stage:
        print(f"  {tree}", flush=True)
        taken = stage.take_turns(ways, bench.times(3))
        rows = [
            Row(
                workload="W9",
                way=each.name,
                quantity="rate",
                unit="files/s",
                values=tuple(each.values),
                baseline=_ALONE,
            )
            for each in taken
        ]
        return stage.results(rows)


def _run(arena: Arena, tree: Tree, names: tuple[str, ...]) -> float:
    """Return how many files a second the healthy target got."""
    site = ours.make_site(arena)
    extra: dict[str, dict[str, object]] = {"slow": {"bandwidth_limit": 100}, "dead": {"port": 1}}
    stream = fan_out(site, *names, extra=extra)
    prepared = arena.directory / "prepared"
    tree.make(prepared)
    try:
        with agents.agent_of(site):
            (stream.source / "warm").write_bytes(b"warm")
            wait_until((target(site, "healthy") / "warm").exists, 60, "warm", every=0.1)
            time.sleep(1)  # as in `ours.warm_up`
            begin = time.monotonic()
            prepared.rename(stream.source / "tree")
            path = agents.state_of(site, "one@healthy") / "ledger.sqlite"
            with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as ledger:
                _until_delivered(ledger, tree.files + 1)
            seconds = time.monotonic() - begin
            tree.check(target(site, "healthy") / "tree")
    except AssertionError as error:
        raise NotDelivered(str(error)) from None
    return tree.files / seconds


def _until_delivered(ledger: sqlite3.Connection, files: int) -> None:
    last = found = 0
    deadline = time.monotonic() + _LIMIT
    while found < files:
        query = "SELECT coalesce(max(id), ?1), coalesce(sum(kind = 'file'), 0) FROM delivery WHERE id > ?1"
        last, new = ledger.execute(query, (last,)).fetchone()
        found += new
        if time.monotonic() > deadline:
            raise NotDelivered(f"{found} of {files} files were delivered in {_LIMIT:g} s")
        time.sleep(_LOOK)

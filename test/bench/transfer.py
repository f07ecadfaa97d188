"""W1, W2 and W3: whole trees, moved and mirrored, against one rsync over a new connection."""

from __future__ import annotations

from collections.abc import Callable

from bench import ours, peers
from bench.frame import Bench, Way, open_stage
from bench.results import Results, Row
from bench.trees import Tree


def w1(bench: Bench) -> Results:
    """Many small files."""
    tree = Tree(directories=bench.size(100, 20), per_directory=100, size=4096)
    return _both(bench, "W1", tree, copies=True, slow=True)


def w2(bench: Bench) -> Results:
    """One large file."""
    tree = Tree(directories=1, per_directory=1, size=bench.size(2**31, 2**27))
    return _both(bench, "W2", tree, rounds=3)


def w3(bench: Bench) -> Results:
    """Files of middle size."""
    tree = Tree(directories=bench.size(20, 2), per_directory=50, size=2**20)
    return _both(bench, "W3", tree, copies=True)


def _both(
    bench: Bench, number: str, tree: Tree, *, rounds: int = 5, copies: bool = False, slow: bool = False
) -> Results:
    """Given a tree, measure it moved and mirrored."""
    more: list[Way[float]] = [*peers.copies(tree)] if copies else []
    if slow:
        more += peers.slow_movers(tree)
    baseline, other = peers.baseline_copy, peers.baseline_move
    if number == "W1":
        # Only here does the removal of the sources take time that counts.
        baseline, other = other, baseline
    moved = _one(bench, f"{number} move", tree, rounds, baseline, [other(tree), *more])
    return moved.plus(_one(bench, f"{number} mirror", tree, rounds, peers.baseline_copy, []))


def _one(
    bench: Bench,
    name: str,
    tree: Tree,
    rounds: int,
    baseline: Callable[[Tree], Way[float]],
    more: list[Way[float]],
) -> Results:
    first = baseline(tree)
    with open_stage(bench, name, size=tree.bytes, files=tree.files) as stage:
        print(f"  {tree}", flush=True)
        taken = stage.take_turns([first, *ours.ways(tree, name.split()[1]), *more], bench.times(rounds))
        rows = [
            Row(
                workload=name,
                way=each.name,
                quantity="time",
                unit="s",
                values=tuple(each.values),
                baseline=first.name,
            )
            for each in taken
        ]
        return stage.results(rows)

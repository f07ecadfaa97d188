"""The benchmark: our agent and its peers, in turn, in one run, over a private sshd on the loopback.

    test/bench/run.py [--quick] [--only W1,W4] [--rounds N] [--json FILE] [--doc] [--place DIR] [--no-peers]

What counts are the ratios of one run.  No time is asserted; the exit status is 1 when something
was not delivered as it should have been.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

TOP = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "lib"), str(TOP / "test")]  # the checkout's own, wherever this is called from

from bench import machine, plots, report, results  # noqa: E402
from bench.backlog import w6  # noqa: E402
from bench.carts import w11  # noqa: E402
from bench.frame import Bench  # noqa: E402
from bench.idle import w7  # noqa: E402
from bench.jobs import w10  # noqa: E402
from bench.latency import w4, w5, w8  # noqa: E402
from bench.results import Results  # noqa: E402
from bench.targets import w9  # noqa: E402
from bench.transfer import w1, w2, w3  # noqa: E402
from bench.workers import w12  # noqa: E402
from mistamover.testing.sshd import available  # noqa: E402

WORKLOADS: dict[str, Callable[[Bench], Results]] = {
    "W1": w1,
    "W2": w2,
    "W3": w3,
    "W4": w4,
    "W5": w5,
    "W6": w6,
    "W7": w7,
    "W8": w8,
    "W9": w9,
    "W10": w10,
    "W11": w11,
    "W12": w12,
}
DOC = TOP / "doc" / "benchmarks"


def main() -> int:
    """Measure, print, store; return the exit status."""
    arguments = parse()
    if arguments.stored is not None:
        found = results.read(arguments.stored)
    else:
        why_not = available()
        if why_not is not None:
            raise SystemExit(f"the benchmark needs a private sshd: {why_not}")
        found = measure(arguments)
    print(report.as_text(found), flush=True)
    if arguments.quick:
        print("\nThis was a quick run: it shows that all works; the bars are for the full sizes.")
    if arguments.json is not None:
        results.write(found, arguments.json)
    if arguments.doc:
        DOC.mkdir(parents=True, exist_ok=True)
        (DOC / "results.rst").write_text(report.as_rst(found, plots.draw(found, DOC)))
        print(f"\nwritten: {DOC}")
    return 1 if found.failures else 0


def measure(arguments: argparse.Namespace) -> Results:
    """Given the command line, run what it names, one workload after the other."""
    # Whatever ends us, the filesystems and processes go first.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    bench = Bench(quick=arguments.quick, rounds=arguments.rounds, peers=not arguments.no_peers, place=arguments.place)
    found = Results(machine=machine.describe())
    for name, words in found.machine:
        print(f"{name:<12} {words}")
    try:
        for name in arguments.only:
            found = found.plus(WORKLOADS[name](bench))
    except KeyboardInterrupt:
        # What was finished before is worth showing.
        found = found.plus(Results(failures=("interrupted",)))
    return found


def parse() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes and two rounds: shows that all works")
    parser.add_argument("--only", type=_names, default=list(WORKLOADS), metavar="W1,W4", help="only these workloads")
    parser.add_argument(
        "--rounds", type=_positive, help="rounds of every workload (default: 5, fewer where it takes long)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the results")
    parser.add_argument("--from", type=Path, dest="stored", metavar="FILE", help="show stored results; measure nothing")
    parser.add_argument("--doc", action="store_true", help=f"write the page and the plots into {DOC.relative_to(TOP)}")
    parser.add_argument(
        "--place", type=Path, metavar="DIR", help="measure in this directory, not in a fresh filesystem"
    )
    parser.add_argument("--no-peers", action="store_true", help="only the baselines and ours")
    arguments = parser.parse_args()
    if arguments.doc:
        plots.require()
    return arguments


def _names(words: str) -> list[str]:
    names = [word.strip().upper() for word in words.split(",")]
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such workload: {', '.join(unknown)}; there are {', '.join(WORKLOADS)}")
    return names


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} is not a number of rounds")
    return int(word)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())

"""Run by test_limits in a user namespace of its own, where limits can be set: watch a tree, and print what happens."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from unit.watch.looking import Watch


def limit(kind: str, number: int) -> None:
    """Given a kind of thing and a number, let this namespace have no more of it."""
    Path(f"/proc/sys/user/max_inotify_{kind}").write_text(str(number))


def state(one: Watch) -> tuple[str, bool, int]:
    """Return the gap, whether scans come every few seconds, and how many units were sighted so far."""
    soon = one.arrivals.next_scan() - time.monotonic() < 10
    return one.arrivals.gap, soon, len(one.look())


def main(root: Path, watches: int, instances: int) -> None:
    """Given a tree of ten directories and the limits, watch, let it grow, wait for a scan, and lift the limits."""
    states = []
    limit("watches", watches)
    limit("instances", instances)
    one = Watch(root)
    one.look()
    states.append(state(one))
    for number in range(10):
        (root / "new" / f"n{number}").mkdir(parents=True)
        (root / "new" / f"n{number}" / "f").touch()
    one.until(*(b"new/n%d/f" % number for number in range(10)))
    states.append(state(one))
    limit("watches", 1000)
    limit("instances", 10)
    one.scan_again()
    states.append(state(one))
    (root / "d9" / "late").touch()
    scans = one.arrivals.full_scans
    one.until(b"d9/late")
    print(json.dumps([states, one.arrivals.full_scans - scans]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

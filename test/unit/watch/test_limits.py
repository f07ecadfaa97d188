"""Trees that the system does not let us watch wholly: scans see to the rest, and it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import TOP


def limited(root: Path, *, watches: int, instances: int = 10) -> tuple[list[tuple[str, bool, int]], int, str]:
    """Given limits, return what `limited.py` prints under them, and what it logs."""
    for number in range(10):
        (root / f"d{number}").mkdir()
        (root / f"d{number}" / "f").touch()
    alone = ["unshare", "--user", "--map-root-user"]
    may = subprocess.run([*alone, "sh", "-c", "echo 5 > /proc/sys/user/max_inotify_watches"], capture_output=True)
    if may.returncode:
        pytest.skip(f"no limits of one's own in a user namespace here: {may.stderr.decode(errors='replace').strip()}")
    path = os.pathsep.join([str(TOP / "lib"), str(TOP / "test")])
    words = [*alone, sys.executable, "-m", "unit.watch.limited", str(root), str(watches), str(instances)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    states, scans = json.loads(done.stdout)
    return [tuple(state) for state in states], scans, done.stderr


WATCHES = "not all of it can be watched (the limit fs.inotify.max_user_watches is reached), so it is scanned"


@pytest.mark.parametrize("watches", [0, 5])
def test_more_directories_than_watches_from_the_start(scratch: Path, watches: int) -> None:
    (before, grown, after), scans, log = limited(scratch, watches=watches)
    assert before[0].startswith(WATCHES) and before[1:] == (True, 10)
    assert grown == (before[0], True, 20)
    assert after == ("", False, 20)
    assert (log.count(WATCHES), scans) == (1, 0)


def test_more_directories_than_watches_later(scratch: Path) -> None:
    (before, grown, after), scans, log = limited(scratch, watches=15)
    assert before == ("", False, 10)
    assert grown[0].startswith(WATCHES) and grown[1:] == (True, 20)
    assert after == ("", False, 20)
    assert (log.count(WATCHES), scans) == (1, 0)


def test_no_instance_of_inotify_to_be_had(scratch: Path) -> None:
    (before, grown, after), scans, log = limited(scratch, watches=100, instances=0)
    assert "fs.inotify.max_user_instances" in before[0] and before[1:] == (True, 10)
    assert grown == (before[0], True, 20)
    assert after == ("", False, 20)
    assert (log.count(before[0]), scans) == (1, 0)

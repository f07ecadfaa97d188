"""Asking the command `why`, as an operator would: it is above this room, and its answer is text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mistamover

#: Seconds that it gets, and bytes that are kept of what it says.
_TIMEOUT = 15.0
_MOST = 4000


def explain(global_file: Path, path: str) -> str:
    """Given the global file and a path, return what `mistamover why` says of it; empty if it says nothing in time."""
    ours = str(Path(mistamover.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "mistamover", "why", "-c", str(global_file), path],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return ""
    return done.stdout[:_MOST].decode("utf-8", "backslashreplace") if done.returncode == 0 else ""

"""On what and of what the measurements were taken."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def describe() -> tuple[tuple[str, str], ...]:
    """Return what somebody must know who compares the numbers with others: name and words of each fact."""
    revision = _said("git", "-C", str(TOP), "describe", "--always", "--dirty", "--abbrev=12")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        ("date", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")),
        ("revision", revision),
        ("processor", f"{os.cpu_count()} cores, {_processor()}"),
        ("memory", f"{memory:.0f} GiB"),
        ("kernel", platform.release()),
        ("python", platform.python_version()),
        ("ssh", _said("ssh", "-V")),
        ("rsync", _said("rsync", "--version")),
        ("rclone", _said("rclone", "--version")),
        ("lsyncd", _said("lsyncd", "--version")),
        ("load before", " ".join(f"{load:.2f}" for load in os.getloadavg())),
    )


def _said(*argv: str) -> str:
    """Given a command, return the first line that it says."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return "not installed"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines and not done.returncode else "unknown"


def _processor() -> str:
    match = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return match[1].strip() if match else platform.machine()

"""lsyncd at its best: no delay, over a connection that stands already."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.command import started
from bench.frame import Arena
from bench.results import NotDelivered

SETTINGS = (
    "default.rsync, delay = 0, maxProcesses = 1, inotifyMode = CloseWrite, over a kept ControlMaster; copies only"
)

_CONFIGURATION = """
settings {{ nodaemon = true, logfile = {log}, statusFile = {status}, maxProcesses = 1, inotifyMode = "CloseWrite" }}
sync {{
    default.rsync,
    source = {source},
    target = {target},
    delay = 0,
    rsync = {{ archive = true, compress = false, rsh = {shell} }},
}}
"""


@contextlib.contextmanager
def control_master(arena: Arena) -> Iterator[tuple[str, int]]:
    """Yield the remote shell, for rsync's -e, of a connection that stands, and the pid of what holds it."""
    socket = arena.directory / "ctl"
    argv = ["ssh", "-F", str(arena.sshd.ssh_config), "-M", "-N", "-S", str(socket), arena.sshd.host]
    with started(argv) as process:
        _wait_for(socket, process)
        yield f"ssh -F {arena.sshd.ssh_config} -S {socket}", process.pid


@contextlib.contextmanager
def lsyncd(arena: Arena) -> Iterator[list[int]]:
    """Run lsyncd from the arena's source to its target; yield the pids of all that belongs to it here."""
    arena.source.mkdir()
    arena.target.mkdir()
    log = arena.directory / "lsyncd.log"
    with control_master(arena) as (shell, master):
        configuration = arena.directory / "lsyncd.lua"
        values = {
            "log": log,
            "status": arena.directory / "lsyncd.status",
            "source": arena.source,
            "target": f"{arena.sshd.host}:{arena.target}/",
            "shell": shell,
        }
        # JSON's strings are Lua's, for such names.
        quoted = {key: json.dumps(str(value)) for key, value in values.items()}
        configuration.write_text(_CONFIGURATION.format(**quoted))
        with started(["lsyncd", str(configuration)]) as process:
            _wait_for(arena.directory / "lsyncd.log", process)
            time.sleep(2)  # its first rsync of everything
            yield [process.pid, master]


def _wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotDelivered(f"{path} does not appear; status {process.poll()} of {process.args!r}")
        time.sleep(0.05)

"""Where the quickstart's demonstration takes place: a scratch area, its two INI files, and the agent in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import mistamover
from mistamover.testing.sshd import PrivateSshd

#: Seconds for the agent to come up, for the agent to end, for one command.
START_DEADLINE: Final = 30.0
STOP_DEADLINE: Final = 30.0
COMMAND_DEADLINE: Final = 20.0
#: Seconds between two looks at the status.
LOOK_EVERY: Final = 0.4

GLOBAL_INI: Final = """\
[global]
top = {top}
base_data_dir = $(global:top)/data
base_incoming_dir = $(global:top)/incoming
config_dir = $(global:top)/conf
state_dir = $(global:top)/state
data_stream_list = demo
general_poll_interval = 1

[logging]
base_log_dir = $(global:top)/log
log_level = INFO
"""

STREAM_INI: Final = """\
[data_stream]
name = demo
directory = $(global:base_data_dir)/demo

[outgoing]
transfer_protocol = rsync_ssh
target_host = {host}
target_dir = $(global:top)/target/demo

[rsync_ssh]
transfer_mode = move
username = {user}
ssh_config = {ssh_config}
"""


class DemoFailed(Exception):
    """The demonstration cannot go on; the message says why."""


class Area:
    """The scratch area: where everything of one demonstration lies."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.global_ini = top / "conf" / "global.ini"
        self.stream_ini = top / "conf" / "ds_demo.ini"
        self.source = top / "data" / "demo"
        self.target = top / "target" / "demo"
        self.output = top / "log" / "agent.out"

    def prepare(self, server: PrivateSshd) -> None:
        """Given the ssh server, make the directories and write the two INI files."""
        for name in ("conf", "data/demo", "target/demo", "incoming", "state", "log"):
            (self.top / name).mkdir(parents=True, exist_ok=True)
        self.global_ini.write_text(GLOBAL_INI.format(top=self.top))
        self.stream_ini.write_text(
            STREAM_INI.format(host=server.host, user=server.user, ssh_config=server.ssh_config),
        )
        self.stream_ini.chmod(0o400)


@contextlib.contextmanager
def scratch(keep: Path | None) -> Iterator[Path]:
    """Given a directory to keep, yield it; given None, yield a temporary one that is removed afterwards."""
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise DemoFailed(f"{keep} is not empty; the demonstration wants a directory of its own")
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.resolve()
        return
    directory = Path(tempfile.mkdtemp(prefix="mistamover-demo-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def running_agent(area: Area) -> Iterator[subprocess.Popen[bytes]]:
    """Run the agent in the foreground; yield it when it says that it runs, and stop it at the end."""
    with area.output.open("wb") as output:
        agent = subprocess.Popen(
            _command(str(area.global_ini)),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,  # Ctrl-C comes to us; we stop it in order
        )
    try:
        deadline = time.monotonic() + START_DEADLINE
        while not (status(area) or {}).get("running"):
            if time.monotonic() > deadline:
                raise DemoFailed(f"the agent did not come up in {START_DEADLINE:.0f} s:\n{_tail(area.output)}")
            pause(agent, area)
        yield agent
        code = _end(agent)
        if code:
            raise DemoFailed(f"the agent ended with status {code} when it was told to stop:\n{_tail(area.output)}")
    finally:
        _end(agent)


def _end(agent: subprocess.Popen[bytes]) -> int:
    """Given the agent, tell it to stop, kill it if it does not, and return its exit status."""
    agent.terminate()
    try:
        return agent.wait(STOP_DEADLINE)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(agent.pid, signal.SIGKILL)
        return agent.wait(STOP_DEADLINE)


def pause(agent: subprocess.Popen[bytes], area: Area) -> None:
    """Wait for the next look; raise DemoFailed if the agent ends meanwhile."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        code = agent.wait(LOOK_EVERY)
        raise DemoFailed(f"the agent ended with status {code}:\n{_tail(area.output)}")


def status(area: Area) -> dict[str, Any] | None:
    """Return what `mistamover status --json` says, or None if it says nothing usable."""
    answer = run(area, "status", "--json")
    with contextlib.suppress(ValueError):
        value = json.loads(answer.stdout)
        return value if isinstance(value, dict) else None
    return None


def run(area: Area, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Given a command of ours, run it on this area's configuration and return how it went."""
    try:
        return subprocess.run(
            _command(command, "-c", str(area.global_ini), *options),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=_environment(),
            timeout=COMMAND_DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"`mistamover {command}` gave no answer in {COMMAND_DEADLINE:.0f} s") from error


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mistamover", *words]


def _environment() -> dict[str, str]:
    """Return our environment, with the directory of this very package first on the path of imports."""
    library = str(Path(mistamover.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))}


def shown_command() -> str:
    """Return how a user calls us: by the script of the checkout, or by the installed command."""
    script = Path(mistamover.__file__).parents[2] / "bin" / "mistamover.py"
    return "bin/mistamover.py" if script.exists() else "mistamover"


def _tail(path: Path, size: int = 2000) -> str:
    return path.read_text(errors="replace")[-size:].strip() or "(it said nothing)"

"""Looking at running agents without asking the command line: what they keep on disk, and which processes there are."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from mistamover.report import mastership, snapshot
from mistamover.report.mastership import MasterReport
from mistamover.report.snapshot import Snapshot
from support import Agent, Site, wait_until

#: States of a stream's snapshot in which its process is past its start.
_UP = ("IDLE", "SENDING", "WAITING", "PAUSED", "SUSPENDED", "UNREACHABLE")


def state_of(site: Site, name: str) -> Path:
    """Return the state directory of one stream."""
    return site.state / "streams" / name


def said_by(site: Site, name: str) -> Snapshot | None:
    """Return what a stream's process said last."""
    return snapshot.read(state_of(site, name))


def master_report(site: Site) -> MasterReport | None:
    """Return what the master said last."""
    return mastership.read(site.state)


def stream_pid(site: Site, name: str, master: int | None = None) -> int | None:
    """Return the pid of the stream's process if it lives and serves (a child of `master`, if given)."""
    last = said_by(site, name)
    if last is None or last.state.value not in _UP or not alive(last.pid):
        return None
    with contextlib.suppress(psutil.NoSuchProcess):
        if master is None or psutil.Process(last.pid).ppid() == master:
            return last.pid
    return None


def alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def start(site: Site, *words: str, command: list[str] | None = None, env: dict[str, str] | None = None) -> Agent:
    """Start the agent in the foreground in a session of its own, and return at once."""
    output = site.directory / "agent.out"
    with output.open("ab") as sink:
        process = subprocess.Popen(
            command or site.command(*(words or (str(site.global_ini),))),
            env={**site.environment(), **(env or {})},
            cwd=site.directory,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Agent(process, output)


def until_up(site: Site, agent: Agent, *names: str, timeout: float = 20) -> dict[str, int]:
    """Wait until the streams (default: all that are listed) are served by the agent; return their pids."""
    wanted = names or tuple(site.streams)

    def up() -> dict[str, int] | None:
        assert agent.process.poll() is None, f"the agent ended with {agent.process.returncode}:\n{agent.said()}"
        pids = {name: stream_pid(site, name, agent.pid) for name in wanted}
        found = {name: pid for name, pid in pids.items() if pid is not None}
        return found if len(found) == len(wanted) else None

    if not wanted:
        wait_until(lambda: (report := master_report(site)) and report.pid == agent.pid, timeout, "the master is up")
        return {}
    result: dict[str, int] = wait_until(up, timeout, f"streams {', '.join(wanted)} are up")
    return result


@contextlib.contextmanager
def agent_of(site: Site, *words: str, stop: float = 30, env: dict[str, str] | None = None) -> Iterator[Agent]:
    """Run the agent; at the end stop it and assert exit status 0, unless the test has ended it; leave no process."""
    agent = start(site, *words, env=env)
    try:
        until_up(site, agent)
        yield agent
        if agent.process.poll() is None:
            assert agent.stop(stop) == 0, agent.said()
    finally:
        agent.kill()
        end_all(site)


def processes_of(site: Site) -> list[psutil.Process]:
    """Return every process whose command line or working directory speaks of the site, except our own and sshd's."""
    mark, found = os.fspath(site.directory), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.name().startswith("sshd"):
                continue
            if any(mark in word for word in process.cmdline()) or process.cwd().startswith(mark):
                found.append(process)
    return found


def words_of(site: Site) -> list[list[str]]:
    """Return the command line of every process of the site; one that ends meanwhile is left out."""
    found = []
    for process in processes_of(site):
        with contextlib.suppress(psutil.Error):
            found.append(process.cmdline())
    return found


def none_left(site: Site, timeout: float = 15) -> None:
    """Assert that no process of the site is left."""

    try:
        wait_until(lambda: not processes_of(site), timeout, "no process is left")
    except AssertionError as error:
        raise AssertionError(f"{error}: {[' '.join(words)[:150] for words in words_of(site)]}") from None


def end_all(site: Site) -> None:
    """Kill every process of the site, for a test that failed."""
    for process in processes_of(site):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def ask_ledger(site: Site, name: str, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on a stream's ledger."""
    path = state_of(site, name) / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
        return database.execute(query).fetchall()


def log_of(site: Site, component: str) -> str:
    """Return one of the log files; empty if there is none."""
    path = site.logs / f"{component}.log"
    return path.read_text(errors="replace") if path.exists() else ""


def receivers_of(site: Site) -> list[psutil.Process]:
    """Return the running receivers of the express way that have a directory of the site open."""
    mark, found = os.fspath(site.directory), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            words = process.cmdline()
            if len(words) > 4 and "python3" in words[0] and words[1:4] == ["-I", "-S", "-c"]:
                handles = f"/proc/{process.pid}/fd"
                if any(_leads_to(f"{handles}/{handle}", mark) for handle in os.listdir(handles)):
                    found.append(process)
    return found


def _leads_to(handle: str, mark: str) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(handle).startswith(mark)
    return False


def connections_of(site: Site) -> list[psutil.Process]:
    """Return the ssh processes of this side that have logged in somewhere."""
    return _with_words(site, lambda words: words[0].endswith("ssh") and "-M" in words)


def rsyncs_of(site: Site) -> list[psutil.Process]:
    """Return the rsync processes of this side: those that send, and the one that is kept warm."""
    return _with_words(site, lambda words: words[0].endswith("rsync") and "--server" not in words)


def _with_words(site: Site, wanted: Callable[[list[str]], bool]) -> list[psutil.Process]:
    found = []
    for process in processes_of(site):
        with contextlib.suppress(psutil.NoSuchProcess):
            words = process.cmdline()
            if words and wanted(words):
                found.append(process)
    return found


def kill(pid: int, timeout: float = 10) -> bool:
    """Kill a process with SIGKILL; return whether it was there, after it has gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    wait_until(lambda: not alive(pid), timeout, f"killed process {pid} is gone")
    return True


def algorithms(site: Site) -> dict[str, str]:
    """Return the hash by which each file was confirmed: sha256 is that of the express way unless another is asked."""
    return {record["name"]: record["algorithm"] for record in site.history() if record["kind"] == "file"}

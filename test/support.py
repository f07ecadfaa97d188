"""What the tests share: waiting with a bound, a site to run the agent in, and comparing directory trees."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from mistamover.cli.main import main
from mistamover.cli.status_view import as_json
from mistamover.cli.stream_report import report_on
from mistamover.config.load import load
from mistamover.config.settings import Settings
from mistamover.errors import MistamoverError
from mistamover.testing.sshd import PrivateSshd

TOP = Path(__file__).resolve().parents[1]
#: Commands that only look.
_QUESTIONS = ("status", "why", "history")
#: Standard output, standard error and the working directory are the process's.
_one_at_a_time = threading.Lock()
#: Sections of an INI file: section -> key -> value.
Sections = Mapping[str, Mapping[str, object]]


class Entry(NamedTuple):
    """One entry of a tree: what it is, the hash of its content or the link's target, its mode and time."""

    kind: str
    content: str | bytes
    mode: int
    mtime_ns: int


def free_port() -> int:
    """Return a TCP port of the loopback that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(predicate: Callable[[], Any], timeout: float, what: str, *, every: float = 0.02) -> Any:
    """Given a predicate, return its first true value; raise AssertionError saying `what` if none comes in time.

    It is asked `every` so many seconds; one that computes long is asked less often, so that most of the processor is
    left to what is waited for, unless `every` is so short that a moment is to be caught.
    """
    pause, deadline = threading.Event(), time.monotonic() + timeout
    share = 6 if every >= 0.01 else 0
    while True:
        began = time.thread_time()
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        pause.wait(max(every, share * (time.thread_time() - began)))


def write_ini(path: Path, sections: Sections, *, mode: int = 0o600) -> Path:
    """Given sections, write an INI file and put it in place by rename, as an editor does; None leaves a key out.

    A value with keys of its own is a subsection.
    """
    lines: list[str] = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value}" for key, value in keys.items() if value is not None and not _is_section(value)]
        for name, inner in keys.items():
            if isinstance(inner, Mapping):
                lines.append(f"[[{name}]]")
                lines += [f"{key} = {value}" for key, value in inner.items() if value is not None]
        lines.append("")
    fresh = path.with_name(path.name + ".new")
    fresh.write_text("\n".join(lines))
    fresh.chmod(mode)
    fresh.replace(path)
    return path


def _is_section(value: object) -> bool:
    return isinstance(value, Mapping)


def merged(*layers: Sections) -> dict[str, dict[str, object]]:
    """Given layers of sections, return them as one: a later layer wins, key by key."""
    result: dict[str, dict[str, object]] = {}
    for layer in layers:
        for section, keys in layer.items():
            result.setdefault(section, {}).update(keys)
    return result


def tree(path: Path) -> dict[bytes, Entry]:
    """Given a directory, return all that lies below it by its name as bytes relative to the directory.

    What vanishes while it is looked at, as the temporary files of a transfer do, is left out.
    """
    top = os.fsencode(path)
    result: dict[bytes, Entry] = {}
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            whole = os.path.join(directory, name)
            with contextlib.suppress(FileNotFoundError):
                result[os.path.relpath(whole, top)] = _entry(whole)
    return result


def contents(path: Path) -> dict[bytes, str | bytes]:
    """Given a directory, return content hash or link target of what lies below it; directories are left out."""
    return {name: entry.content for name, entry in tree(path).items() if entry.kind != "directory"}


def _entry(path: bytes) -> Entry:
    status = os.lstat(path)
    kind, content = "special", b""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return Entry(
                "file",
                hashlib.file_digest(file, "sha256").hexdigest(),
                stat.S_IMODE(status.st_mode),
                status.st_mtime_ns,
            )
    if stat.S_ISDIR(status.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(status.st_mode):
        kind, content = "link", os.readlink(path)
    return Entry(kind, content, stat.S_IMODE(status.st_mode), status.st_mtime_ns)


class Stream(NamedTuple):
    """One stream of a site: its name, its file, the watched directory and the target directory."""

    name: str
    file: Path
    source: Path
    target: Path


class Agent:
    """The agent, running in the foreground for the length of a test."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self.pid = process.pid
        self.output = output

    def said(self) -> str:
        """Return all it has printed so far."""
        return self.output.read_text(errors="replace")

    def reload(self) -> None:
        """Send SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self, timeout: float = 30) -> int:
        """Send SIGTERM and return the exit status; raise subprocess.TimeoutExpired if it does not end in time."""
        self.process.terminate()
        return self.process.wait(timeout)

    def kill(self) -> None:
        """Kill it and all its processes with SIGKILL, as a power loss does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(15)


class Site:
    """A whole site below one directory: configuration, watched directories, targets, state and logs.

    Every section of the global file or of a stream's can be changed by keyword:
    `Site(directory, sshd, rsync_ssh={"bandwidth_limit": "100"})`, `site.add("two", outgoing={"retry_count": 0})`.
    """

    foreign = False
    """Whether it has packages that this process has not."""

    def __init__(self, directory: Path, sshd: PrivateSshd | None = None, **sections: Mapping[str, object]) -> None:
        """Given a directory and the server that the streams deliver to, make the layout and the global file."""
        self.directory = directory
        self.sshd = sshd
        self.conf = directory / "conf"
        self.state = directory / "state"
        self.logs = directory / "log"
        self.global_ini = self.conf / "global.ini"
        self.streams: dict[str, Stream] = {}
        self._sections: Sections = sections
        self._known: Settings | None = None
        for name in ("conf", "data", "incoming", "remote", "state", "log"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        self.write_global()

    def write_global(self, **sections: Mapping[str, object]) -> None:
        """Write the global file anew, with what is given here in addition to what was given before."""
        self._sections = merged(self._sections, sections)
        write_ini(self.global_ini, merged(self._global_sections(), self._sections))

    def add(self, name: str = "one", *, listed: bool = True, **sections: Mapping[str, object]) -> Stream:
        """Given a name, make a stream with its directories and its file, list it, and return it."""
        stream = Stream(
            name, self.conf / f"ds_{name}.ini", self.directory / "data" / name, self.directory / "remote" / name
        )
        stream.source.mkdir(exist_ok=True)
        stream.target.mkdir(exist_ok=True)
        write_ini(stream.file, merged(self._stream_sections(stream), sections), mode=0o400)
        if listed:
            self.streams[name] = stream
            self.write_global()
        return stream

    def remove(self, name: str) -> None:
        """Given a stream's name, take it off the list; its files stay."""
        del self.streams[name]
        self.write_global()

    def command(self, *words: str) -> list[str]:
        """Given words, return the argv that runs the agent with them."""
        return [sys.executable, "-m", "mistamover", *words]

    def run(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Given words, run the agent with them to its end and return how it went."""
        return subprocess.run(
            self.command(*words),
            env=self.environment(),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )

    def one_off(self, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run every stream once."""
        return self.run("--one-off", str(self.global_ini), timeout=timeout)

    def ask(self, command: str, *words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        """Given `status`, `why` or `history` with its words, ask it about this site.

        These three are asked in this process, where that is possible: to start one takes longer than the answer.
        """
        argv = [command, "-c", str(self.global_ini), *words]
        if command not in _QUESTIONS or "--watch" in words or self.foreign:
            return self.run(*argv, timeout=timeout)
        return answer(argv, self.directory)

    def status(self) -> dict[str, Any]:
        """Return what `status --json` says; an empty dictionary if it says nothing usable.

        It is asked for again and again while something is waited for: a process of its own is started only where this
        one cannot load the configuration, as when the site has packages that we have not.
        """
        try:
            self._known = load(self.global_ini, os.environ, last_good=self._known)
            report = report_on(self._known, self._known.streams, with_unconfigured=True, now=time.time())
            value = json.loads(json.dumps(as_json(report)))
        except MistamoverError:
            with contextlib.suppress(ValueError):
                value = json.loads(self.ask("status", "--json").stdout)
                return value if isinstance(value, dict) else {}
            return {}
        return dict(value)

    def history(self) -> list[dict[str, Any]]:
        """Return the records of `history --json`."""
        return [json.loads(line) for line in self.ask("history", "--json").stdout.splitlines()]

    @contextlib.contextmanager
    def running(self, *, ready: float = 30, stop: float = 30) -> Iterator[Agent]:
        """Run the agent in the foreground and yield it once every listed stream is up.

        At the end send SIGTERM and assert exit status 0, unless the test has ended it itself.
        """
        output = self.directory / "agent.out"
        with output.open("ab") as sink:
            process = subprocess.Popen(
                self.command(str(self.global_ini)),
                env=self.environment(),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        agent = Agent(process, output)
        try:
            try:
                wait_until(lambda: process.poll() is not None or self._up(), ready, "the agent is up", every=0.03)
            except AssertionError as error:
                raise AssertionError(f"{error}; it said:\n{agent.said()}") from None
            assert process.poll() is None, f"the agent ended with {process.returncode}:\n{agent.said()}"
            yield agent
            if process.poll() is None:
                assert agent.stop(stop) == 0, agent.said()
        finally:
            agent.kill()
            _kill_session(process.pid)

    def environment(self) -> dict[str, str]:
        """Return the environment of every process of this site."""
        return {**os.environ, "PYTHONPATH": str(TOP / "lib")}

    def _up(self) -> bool:
        status = self.status()
        up = {s.get("name") for s in status.get("streams", ()) if s.get("state") not in ("STARTING", "DOWN")}
        return bool(status.get("running")) and up >= set(self.streams)

    def _global_sections(self) -> Sections:
        return {
            "global": {
                "homedir": self.directory,
                "top": self.directory,
                "base_data_dir": "$(global:top)/data",
                "base_incoming_dir": "$(global:top)/incoming",
                "config_dir": "$(global:top)/conf",
                "state_dir": "$(global:top)/state",
                "data_stream_list": " ".join(self.streams),
                "general_poll_interval": 0.5,
                "stop_timeout": 5,
                "restart_pause": 0.2,
            },
            "outgoing": {"transfer_protocol": "rsync_ssh", "retry_count": 3, "stop_file_poll_interval": 0.5},
            "logging": {"base_log_dir": "$(global:top)/log", "log_level": "DEBUG"},
            "rsync_ssh": {
                "cmd": shutil.which("rsync") or "rsync",
                "transfer_mode": "move",
                "username": self.sshd.user if self.sshd else None,
                "port": self.sshd.port if self.sshd else None,
                "ssh_config": self.sshd.ssh_config if self.sshd else None,
            },
        }

    def _stream_sections(self, stream: Stream) -> Sections:
        return {
            "data_stream": {"name": stream.name, "directory": stream.source, "status": "RUNNING"},
            "outgoing": {
                "target_host": self.sshd.host if self.sshd else "127.0.0.1",
                "target_dir": stream.target,
            },
        }


def answer(argv: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """Given the words of a command that only looks, and a working directory, run it here and return how it went."""
    with (
        _one_at_a_time,
        contextlib.chdir(directory),
        contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) as out,
        contextlib.redirect_stderr(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) as err,
    ):
        try:
            status = main(argv)
        except SystemExit as end:
            assert isinstance(end.code, int)
            status = end.code
        out.flush()
        err.flush()
        said = [stream.buffer.getvalue().decode(errors="replace") for stream in (out, err)]  # type: ignore[attr-defined]
    return subprocess.CompletedProcess(argv, status, *said)


def _kill_session(leader: int) -> None:
    """Given a session's leader, which is gone, kill with SIGKILL what is left of its session."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(process.pid) == leader:
                process.kill()

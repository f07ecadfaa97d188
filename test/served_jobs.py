"""A whole job front for tests: the master with front and worker, over directories here and over a private sshd."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

import engines
from mistamover.report import mastership
from mistamover.testing.sshd import PrivateSshd
from support import TOP, Agent, free_port, wait_until

#: Seconds for one request.
_PATIENCE = 30.0


class JobSite:
    """A directory with a configuration, endpoints `here`, `there` and (with an sshd) `far`, and what runs in it."""

    def __init__(
        self,
        directory: Path,
        sshd: PrivateSshd | None = None,
        *,
        front: Mapping[str, object] | None = None,
        engine: Mapping[str, object] | None = None,
        place: Path | None = None,
    ) -> None:
        """Given a directory of its own, an sshd, and more for [front] and [engine], write the configuration.

        `place`: where the endpoints' directories are (default: in the directory).
        """
        self.directory = directory
        self.port = free_port()
        self.places = {name: (place or directory) / name for name in ("here", "there", "far")}
        for path in self.places.values():
            path.mkdir(parents=True, exist_ok=True)
        lines = ["[global]", f"top = {directory}", "data_stream_list =", "restart_pause = 0.2"]
        lines += ["[front]", "enabled = True"]
        lines += [f"port = {self.port}", "anonymous = submit"]
        lines += [f"{key} = {value}" for key, value in (front or {}).items()]
        lines += ["[engine]", *(f"{key} = {value}" for key, value in engines.current.keys(**(engine or {})).items())]
        lines += ["[endpoints]"]
        for name in ("here", "there"):
            lines += [f"  [[{name}]]", f"  url = file://{self.places[name]}", "  max_parallel = 32"]
        if sshd is not None:
            lines += ["  [[far]]", f"  url = sftp://127.0.0.1{self.places['far']}", f"  ssh_config = {sshd.ssh_config}"]
        self.ini = directory / "conf" / "global.ini"
        self.ini.parent.mkdir(parents=True, exist_ok=True)
        self.ini.write_text("\n".join(lines) + "\n")
        self.ini.chmod(0o600)

    @contextlib.contextmanager
    def running(self) -> Iterator[Agent]:
        """Run the master by its one command; at the end it stops in order, and leaves no process."""
        output = self.directory / "agent.out"
        with output.open("ab") as sink:
            process = subprocess.Popen(
                [sys.executable, str(TOP / "bin" / "mistamover.py"), str(self.ini)],
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": str(TOP / "lib")},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        agent = Agent(process, output)
        try:
            wait_until(self.answers, 40, f"the front answers: {agent.said()}")
            yield agent
            assert agent.stop(30) == 0, agent.said()
        finally:
            agent.kill()

    def pid_of(self, name: str) -> int | None:
        """Given `front` or `worker`, return its process, if it runs."""
        report = mastership.read(self.directory / "state")
        for child in report.helpers if report else ():
            if child.name.endswith(name) and child.pid is not None and psutil.pid_exists(child.pid):
                return child.pid
        return None

    def answers(self) -> bool:
        """Tell whether the front answers."""
        try:
            return self.ask("GET", "/api/v1/health")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Make one request of its own; return its status and its JSON. Raise OSError, HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        try:
            return asked(connection, method, path, body, headers)
        finally:
            connection.close()


def asked(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Make one request over a connection; return its status and its JSON. Raise OSError, HTTPException."""
    data = None if body is None else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    content = answer.read()
    return answer.status, json.loads(content) if content else None

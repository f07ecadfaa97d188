"""A front that listens for a test, with a store, endpoints and a worker of its own, and HTTP sources to fetch from."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import engines
from mistamover.config.load import load
from mistamover.jobs.endpoints import Endpoints as JobEndpoints
from mistamover.jobs.model import Scope
from mistamover.jobs.store.store import Store
from mistamover.testing.sshd import PrivateSshd, free_port

#: Seconds within which whatever a test waits for has to happen.
DEADLINE = 30.0

#: Jobs that the worker does at a time.
THREADS = 2

LIB = str(Path(__file__).parent.parent / "lib")

Endpoints = Mapping[str, Mapping[str, object]]
"""The keys of each, by its name."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from the front."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class RunningFront:
    """The front and the worker of a configuration as processes of their own, and the store behind them."""

    def __init__(self, directory: Path, endpoints: Endpoints, **front: object) -> None:
        """Given an empty directory, the endpoints and keys of [front], write the configuration; start nothing."""
        self.file = directory / "global.ini"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        write_configuration(directory, self.port, endpoints, front)
        loaded = load(self.file, {}).jobs
        assert loaded is not None
        self.settings = loaded
        self.settings.directory.mkdir(parents=True)
        self.store = Store(self.settings.engine.database_url)
        self.store.prepare()
        self.endpoints = JobEndpoints(self.settings, self.store.endpoints)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.every_request: Mapping[str, str] = {}
        """Headers of all that is asked."""

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Given `front` or `worker`, start it; the front answers when this returns."""
        argv = [sys.executable, "-m", "mistamover", command, "-c", str(self.file)]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": LIB})
        self.processes.append(process)
        if command == "front":
            until(lambda: process.poll() is not None or answers(self.port))
            assert process.poll() is None, "the front does not start"
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Given one of these processes, kill it."""
        self.processes.remove(process)
        process.kill()
        process.wait(DEADLINE)

    def close(self) -> None:
        """End the processes, and close what is open."""
        for process in self.processes:
            process.terminate()
        statuses = [process.wait(DEADLINE) for process in self.processes]
        self.store.close()
        # One that has hardly begun has no ear for signals yet.
        assert set(statuses) <= {0, -signal.SIGTERM}, f"a process did not end well: {statuses}"

    def token(self, name: str, scope: Scope) -> str:
        """Given a name and a scope, return a new token's secret."""
        return self.store.tokens.create(name, scope)

    def proxy(self, path: str = "/data_mover") -> xmlrpc.client.ServerProxy:
        """Given a path, return an XML-RPC client as the old ones were."""
        return xmlrpc.client.ServerProxy(f"{self.url}{path}", allow_none=True)

    def ask(
        self,
        method: str,
        path: str,
        form: Mapping[str, object] | bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        token: str = "",
    ) -> Answer:
        """Given a request, whose fields are sent as a form in its body whatever the verb is, return the answer."""
        sent = {**self.every_request, **(headers or {})}
        body = form
        if isinstance(form, Mapping):
            body = urlencode(form).encode()
            sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
        if token:
            sent["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2 * DEADLINE)
        try:
            connection.request(method, path, body, sent)  # type: ignore[arg-type]
            answer = connection.getresponse()
            return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()


def answers(port: int) -> bool:
    """Given a port of this host, tell whether a front answers there."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)) as connection:
        try:
            connection.request("GET", "/DM/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


@contextlib.contextmanager
def running(directory: Path, endpoints: Endpoints, *, worker: bool = False, **front: object) -> Iterator[RunningFront]:
    """Given an empty directory, endpoints and keys of [front], yield a front that listens; with a worker if wanted."""
    made = RunningFront(directory, endpoints, **front)
    try:
        made.start("front")
        if worker:
            made.start("worker")
        yield made
    finally:
        made.close()


def write_configuration(directory: Path, port: int, endpoints: Endpoints, front: Mapping[str, object]) -> None:
    """Given a directory, a port, endpoints by name with their keys, and keys of [front], write `global.ini` there."""
    keys = {"host": "127.0.0.1", "port": port, "anonymous": "submit", "allow_private_addresses": True, **front}
    ala = {key.removeprefix("ala_"): keys.pop(key) for key in list(keys) if key.startswith("ala_")}
    threads = keys.pop("threads", THREADS)
    lines = [
        "[global]",
        f"state_dir = {directory}/state",
        f"data_stream_config_dir = {directory}/streams",
        "[logging]",
        f"base_log_dir = {directory}/log",
        "[front]",
    ]
    lines += [f"{key} = {value}" for key, value in keys.items()]
    engine = engines.current.keys(threads=threads, retry_count=1, retry_pause=0.05)
    lines += ["[engine]", *(f"{key} = {value}" for key, value in engine.items()), "[endpoints]"]
    for name, own in endpoints.items():
        lines += [f"[[{name}]]", *(f"{key} = {value}" for key, value in own.items())]
    lines += ["[ala]", *(f"{key} = {value}" for key, value in ala.items())]
    (directory / "streams").mkdir(parents=True, exist_ok=True)
    (directory / "global.ini").touch(mode=0o600)
    (directory / "global.ini").write_text("\n".join([*lines, ""]))


@dataclass(frozen=True, slots=True)
class Site:
    """Directories that are endpoints: `localhost` and `tape` here, `hpc1` by ssh."""

    local: Path
    tape: Path
    remote: Path
    endpoints: dict[str, dict[str, object]]


def site(directory: Path, sshd: PrivateSshd | None = None) -> Site:
    """Given an empty directory, and a server, return the endpoints of the handbook in it."""
    local, tape, remote = directory / "local", directory / "archive", directory / "scratch"
    for each in (local, tape, remote):
        each.mkdir(parents=True)
    endpoints: dict[str, dict[str, object]] = {
        "localhost": {"url": f"file://{local}"},
        "tape": {"url": f"file://{tape}", "role": "archive"},
    }
    if sshd is not None:
        url = f"sftp://{sshd.user}@{sshd.host}:{sshd.port}{remote}"
        endpoints["hpc1"] = {"url": url, "ssh_config": sshd.ssh_config}
    return Site(local, tape, remote, endpoints)


class HttpSource:
    """An HTTP server with files: `/private/` needs a login, `/slow/` comes byte by byte, `/short` breaks off."""

    LOGIN = ("alice", "wonder land")

    def __init__(self) -> None:
        """Prepare to listen on a free port."""
        self.files: dict[str, bytes] = {}
        self.seen: list[tuple[str, Mapping[str, str]]] = []
        self.posted: list[tuple[str, Any]] = []
        self.release = threading.Event()
        self.at_once = 0
        """The most downloads from `/slow/` that there were at a time."""
        self.redirects: dict[str, str] = {}
        self._slow = 0
        self._lock = threading.Lock()
        source = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                source.handle(self)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                source.posted.append((self.path, json.loads(body)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        self.seen.append((request.path, dict(request.headers.items())))
        login = "Basic " + base64.b64encode(":".join(self.LOGIN).encode()).decode()
        path = request.path.partition("?")[0]
        if path.startswith("/private/") and request.headers.get("Authorization") != login:
            request.send_response(401)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if path in self.redirects:
            request.send_response(302)
            request.send_header("Location", self.redirects[path])
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        if path == "/rude":
            request.send_error(404, "no\x01such\x07file")
            return
        if path == "/short":
            request.send_response(200)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b"not a thousand bytes")
            request.close_connection = True
            return
        content = self.files.get(path)
        if content is None:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        with contextlib.suppress(OSError):
            if path.startswith("/slow/"):
                with self._counted():
                    for position in range(len(content) - 1):
                        request.wfile.write(content[position : position + 1])
                        self.release.wait(0.02)
                content = content[-1:]
            request.wfile.write(content)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self._slow += 1
            self.at_once = max(self.at_once, self._slow)
        try:
            yield
        finally:
            with self._lock:
                self._slow -= 1

    def __enter__(self) -> HttpSource:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE)


def until(what: Callable[[], Any], *, deadline: float = DEADLINE) -> Any:
    """Given a question, ask it until the answer is a true one, and return that; fail when the time is over."""
    end = time.monotonic() + deadline
    while not (answer := what()):
        assert time.monotonic() < end, f"it did not happen within {deadline} s"
        threading.Event().wait(0.02)
    return answer

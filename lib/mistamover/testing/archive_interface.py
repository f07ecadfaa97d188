"""A Pacifica Archive Interface on a port of the loopback, which answers as the real one does, or as it is told to."""

from __future__ import annotations

import contextlib
import email.utils
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

#: When its files were changed last, unless somebody says otherwise.
TIME = 1_400_000_000.75


@dataclass
class Archived:
    """One file, and how requests for it are answered."""

    content: bytes = b""
    mtime: float = TIME
    tape: int = 0
    """Looks, once it was asked for, until it is on disk; negative: it never is."""
    fail: dict[str, int] = field(default_factory=dict)
    """How often each method is answered by `status`."""
    status: int = 500
    """0: the connection is ended without an answer."""
    gives: bytes | None = None
    """What comes in place of the content."""
    cut: int | None = None
    """Bytes after which the connection is ended."""
    length: bool = True
    """The answer to GET tells the size."""
    without: frozenset[str] = frozenset()
    """Headers that are left out."""
    dates: bool = False
    """Times are dates of HTTP."""
    held: threading.Event | None = None
    """GET gives half of it, and the rest when this is set."""
    asked: bool = False


class Archive:
    """What it has, and what it was asked."""

    def __init__(self, port: int) -> None:
        """Given its port, have nothing."""
        self.port = port
        self.files: dict[str, Archived] = {}
        self.requests: list[tuple[str, str]] = []
        """Methods and paths as they came."""
        self.lock = threading.Lock()
        self.entered = threading.Event()
        """Somebody has got the first half of what is held."""

    @property
    def url(self) -> str:
        """Where it is, as an endpoint."""
        return f"pacifica+http://127.0.0.1:{self.port}/"

    def count(self, method: str, id: str = "") -> int:
        """Given a method, and an id or none, return how often that was asked for."""
        with self.lock:
            return sum(each == method and (not id or unquote(path)[1:] == id) for each, path in self.requests)

    def counts(self) -> Counter[str]:
        """Return how often each method came."""
        with self.lock:
            return Counter(method for method, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A small answer is one packet.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/":
            self._say(200, {"message": "Pacifica Archive Interface Up and Running"})
            return
        file = self._file()
        if file is None:
            return
        if file.tape:
            self._fail(500)
            return
        content = file.content if file.gives is None else file.gives
        wanted = parse_qs(parts.query).get("byte_range")
        if wanted:
            first, _, behind = wanted[0].partition("-")
            content = content[int(first) : int(behind)]
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        if file.length:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.close_connection = True
        self.end_headers()
        if file.held is not None:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.server.archive.entered.set()  # type: ignore[attr-defined]
            file.held.wait(60)
            content = content[len(content) // 2 :]
        if file.cut is not None:
            content = content[: file.cut]
            self.close_connection = True
        self.wfile.write(content)

    def do_HEAD(self) -> None:
        file = self._file()
        if file is None:
            return
        with self.server.archive.lock:  # type: ignore[attr-defined]
            on_disk = not file.tape
            if file.asked and file.tape > 0:
                file.tape -= 1
        size = len(file.content)
        changed = email.utils.formatdate(file.mtime, usegmt=True) if file.dates else str(file.mtime)
        fields = {
            "X-Pacifica-Messsage": "File was found",
            "X-Pacifica-File": self.path,
            "X-Content-Length": str(size),
            "Last-Modified": changed,
            "X-Pacifica-Ctime": changed,
            "X-Pacifica-Bytes-Per-Level": f"({size},)" if on_disk else f"(0, {size})",
            "X-Pacifica-File-Storage-Media": "disk" if on_disk else "tape",
            "Content-Type": "application/json",
        }
        self.send_response(204)
        for name, value in fields.items():
            if name not in file.without:
                self.send_header(name, value)
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        file = self._file()
        if file is not None:
            file.asked = True
            self._say(200, {"message": "File was staged", "file": self.path})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        archive: Archive = self.server.archive  # type: ignore[attr-defined]
        archive.files[unquote(urlsplit(self.path).path)[1:]] = Archived(content)
        self._say(201, {"message": "File added to archive", "total_bytes": len(content)})

    def _file(self) -> Archived | None:
        archive: Archive = self.server.archive  # type: ignore[attr-defined]
        path = urlsplit(self.path).path
        with archive.lock:
            archive.requests.append((self.command, path))
            found = archive.files.get(unquote(path, errors="surrogateescape")[1:])
            failing = found is not None and found.fail.get(self.command, 0) > 0
            if failing and found is not None:
                found.fail[self.command] -= 1
        if found is None or failing:
            self._fail(500 if found is None else found.status)
            return None
        return found

    def _fail(self, status: int) -> None:
        if not status:
            self.close_connection = True
            return
        told = {"status": f"{status} Internal Server Error", "traceback": "Traceback ...\n  File '/secret/place'"}
        self._say(status, told)

    def _say(self, status: int, told: Mapping[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever goes away in between is in his right."""


@contextlib.contextmanager
def archive_interface() -> Iterator[Archive]:
    """Yield one that runs."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        archive = Archive(server.server_address[1])
        server.archive = archive  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield archive
        finally:
            for file in archive.files.values():
                if file.held is not None:
                    file.held.set()
            server.shutdown()
            thread.join(10)

"""A small web server for tests, which misbehaves when it is asked to."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        site = self.server.site  # type: ignore[attr-defined]
        site.requests.append((self.path, dict(self.headers)))
        parts = urlsplit(self.path)
        options = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if "redirect" in options or parts.path == "/loop":
            self.send_response(302)
            self.send_header("Location", options.get("redirect", "/loop"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "status" in options and site.times.get(self.path, 1) > 0:
            site.times[self.path] = site.times.get(self.path, int(options.get("times", "1000"))) - 1
            self.send_error(int(options["status"]))
            return
        content = site.files.get(unquote(parts.path))
        if content is None:
            self.send_error(404)
            return
        self._give(content, options)

    def do_POST(self) -> None:
        site = self.server.site  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        site.requests.append((self.path, dict(self.headers)))
        answer = site.answer(self.path, body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _give(self, content: bytes, options: dict[str, str]) -> None:
        begin = 0
        ranged = self.headers.get("Range", "")
        if ranged and "plain" not in options and self.headers.get("If-Range") == '"tag"':
            begin = int(ranged.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", options.get("etag", '"tag"'))
        self.send_header("Last-Modified", "Sun, 13 Sep 2020 12:26:40 GMT")
        if "name" in options:
            self.send_header("Content-Disposition", options["name"])
        rest = content[begin:]
        if "chunked" in options:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(rest), 1000):
                piece = rest[at : at + 1000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if "cut" in options and len(rest) > int(options["cut"]):
            self.wfile.write(rest[: int(options["cut"])])
            self.close_connection = True
            return
        self.wfile.write(rest)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class WebSite:
    """What is served, and what was asked for."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.times: dict[str, int] = {}
        self.answer = lambda path, body: b""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def web_site() -> Iterator[WebSite]:
    """Yield a running web server of the loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    site = WebSite(server.server_address[1])
    server.site = site  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)

"""A private S3 store on the loopback, for tests: moto's, which also checks checksums, as Amazon's does.

Run as a program it is the server; `PrivateS3` starts it so.  It keeps everything in memory.  Never import this from
production code.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import io
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

#: Seconds within which a started server takes connections: it loads a lot.
DEADLINE: Final = 40.0

_MISMATCH = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>BadDigest</Code>'
    b"<Message>The SHA256 you specified did not match the calculated checksum.</Message></Error>"
)
_DENIED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
)


def available() -> str | None:
    """Return why a private store cannot run here, or None if it can."""
    missing = [name for name in ("moto", "flask", "flask_cors", "botocore") if find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class PrivateS3:
    """A store on 127.0.0.1, started by `start` or `with`."""

    def __init__(self, directory: Path | None = None, *, checks: bool = True) -> None:
        """Given a directory for its log (default: a temporary one), and whether it checks checksums, prepare."""
        self._temporary = tempfile.TemporaryDirectory(prefix="mistamover-s3-") if directory is None else None
        self.directory = Path(self._temporary.name if self._temporary else directory or "")
        self.checks = checks
        self.host = "127.0.0.1"
        self.port = 0
        self.key, self.secret = f"KEY{secrets.token_hex(6)}", secrets.token_hex(20)
        self._process: subprocess.Popen[bytes] | None = None
        self._session: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self.host}:{self.port}"

    @property
    def secret_file(self) -> Path:
        """A private file with the login, as `[s3] secret_file` wants it."""
        path = self.directory / "secret"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(f"{self.key}\n{self.secret}\n")
        return path

    def start(self) -> None:
        """Start it; return when it takes connections. Raise RuntimeError if it does not within the deadline."""
        self.directory.mkdir(parents=True, exist_ok=True)
        port = self.directory / "port"
        port.unlink(missing_ok=True)
        log = self.directory / "s3.log"
        words = [sys.executable, "-m", __name__, str(port), *([] if self.checks else ["--unchecked"])]
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, env=_environment()
            )
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE
        while not port.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-3000:]
                self.close()
                raise RuntimeError(f"the store does not start; it said: {said}")
            pause.wait(0.05)
        self.port = int(port.read_text())

    def pause(self) -> None:
        """Freeze it: to the clients it looks like a network that swallows packets."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def client(self) -> Any:
        """Return a client of botocore's, to look at what is there."""
        from botocore.config import Config
        from botocore.session import Session

        if self._session is None:
            # It reads a description of all of S3, which takes ten times as long as everything else.
            self._session = Session()
        return self._session.create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.url,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            config=Config(connect_timeout=10, read_timeout=30, s3={"addressing_style": "path"}),
        )

    def bucket(self, name: str) -> Bucket:
        """Given a name, make a bucket and return it."""
        client = self.client()
        client.create_bucket(Bucket=name)
        return Bucket(client, name)

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
            self._process = None
        if self._temporary is not None:
            self._temporary.cleanup()


class Bucket:
    """One bucket, as a test looks at it."""

    def __init__(self, client: Any, name: str) -> None:
        """Given a client and the name of a bucket that is there, be ready."""
        self.client = client
        self.name = name

    def names(self) -> set[bytes]:
        """Return the names of all objects."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return {each["Key"].encode() for page in pages for each in page.get("Contents", ())}

    def read(self, key: bytes) -> bytes:
        """Return the content of an object."""
        return bytes(self.client.get_object(Bucket=self.name, Key=key.decode())["Body"].read())

    def contents(self) -> dict[bytes, bytes]:
        """Return the content of every object."""
        return {key: self.read(key) for key in self.names()}

    def put(self, key: bytes, content: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=self.name, Key=key.decode(), Body=content)


def _environment() -> dict[str, str]:
    """Nothing of the user's own account may be met by accident."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true"}


class _Checked:
    """A WSGI application that refuses what arrives with a wrong sha256, and what is written below `denied/`."""

    def __init__(self, inner: Callable[[dict[str, Any], Any], Iterable[bytes]], checks: bool) -> None:
        self._inner = inner
        self._checks = checks

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        writes = environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE")
        if writes and "/denied/" in environ.get("PATH_INFO", ""):
            return _refuse(environ, start_response, "403 Forbidden", _DENIED)
        told = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
        if told and self._checks and environ["REQUEST_METHOD"] == "PUT":
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            if base64.b64encode(hashlib.sha256(body).digest()).decode() != told:
                return _refuse(environ, start_response, "400 Bad Request", _MISMATCH)
        return self._inner(environ, start_response)


def _refuse(environ: dict[str, Any], start_response: Any, status: str, body: bytes) -> Iterable[bytes]:
    if "wsgi.input" in environ:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def main() -> None:
    """Serve, and write the port into the file that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port_file", type=Path)
    parser.add_argument("--unchecked", action="store_true")
    arguments = parser.parse_args()
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    # Connections are kept, as those to a real store are.
    MotoRequestHandler.protocol_version = "HTTP/1.1"
    # It writes headers and body by calls of their own: the second is not to wait until the first is acknowledged.
    MotoRequestHandler.disable_nagle_algorithm = True
    application = _Checked(DomainDispatcherApplication(create_backend_app), not arguments.unchecked)
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    fresh = arguments.port_file.with_suffix(".new")
    fresh.write_text(str(server.server_port))
    fresh.replace(arguments.port_file)
    server.serve_forever()


if __name__ == "__main__":
    main()

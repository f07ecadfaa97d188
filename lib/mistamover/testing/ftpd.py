"""A private FTP server on the loopback, in the clear or by TLS: pyftpdlib in a process of its own, for tests.

It takes everything it started with it when it ends.  Never import this from production code.
"""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mistamover.testing.certificate import certify

#: Seconds within which a started server answers.
DEADLINE: Final = 15.0
USER: Final = "mover"
PASSWORD: Final = "s3cret of ftp"  # noqa: S105

#: Runs in the server's process: directory, port, user, password, and then words that say how.
_SERVER = r"""
import hashlib, os, sys
import pyftpdlib.handlers as handlers
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.servers import FTPServer

home, port, user, password, *how = sys.argv[1:]
options = dict(word.partition("=")[::2] for word in how)
authorizer = DummyAuthorizer()
authorizer.add_user(user, password, home, perm="elradfmwMT")


# With a buffer that cannot be written when the file is closed, the library never answers.
class Unbuffered(AbstractedFS):
    def open(self, filename, mode):
        return open(filename, mode, buffering=0)


def hashed(base):
    class Hashing(base):
        proto_cmds = {**base.proto_cmds, "XSHA256": dict(perm="r", auth=True, arg=True, help="XSHA256 file")}

        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            self._extra_feats = [*self._extra_feats, "XSHA256"]

        def ftp_XSHA256(self, path):
            with open(path, "rb") as file:
                self.respond("250 " + hashlib.file_digest(file, "sha256").hexdigest().upper())
            return path

    return Hashing


base = handlers.FTPHandler
if "certificate" in options:
    base = handlers.TLS_FTPHandler
Handler = type("Handler", (base,), {})
if "certificate" in options:
    Handler.certfile = options["certificate"]
    Handler.tls_control_required = Handler.tls_data_required = True
if "implicit" in options:
    class Handler(Handler):
        def handle(self):
            self.secure_connection(self.ssl_context)

        def handle_ssl_established(self):
            handlers.FTPHandler.handle(self)
            self._pbsz = self._prot = True

        def ftp_AUTH(self, arg):
            self.respond("550 it is encrypted already")
if "hashes" in options:
    Handler = hashed(Handler)
if "old" in options:
    Handler.proto_cmds = {k: v for k, v in Handler.proto_cmds.items() if k not in ("MLST", "MLSD", "MFMT", "FEAT")}
if "careful" in options:
    # Nothing is replaced by renaming, as many servers are configured.
    class Handler(Handler):
        def ftp_RNTO(self, path):
            if os.path.lexists(path):
                self.respond("550 the file exists already")
                self._rnfr = None
                return None
            return super().ftp_RNTO(path)
Handler.authorizer = authorizer
Handler.abstracted_fs = Unbuffered
Handler.auth_failed_timeout = 0
Handler.use_sendfile = False
server = FTPServer(("127.0.0.1", int(port)), Handler)
print(server.address[1], flush=True)
server.serve_forever(handle_exit=False)
"""


def available(*, tls: bool = False) -> str | None:
    """Return why a private FTP server cannot run here, or None if it can."""
    modules = [("pyftpdlib", "pyftpdlib"), *([("OpenSSL", "pyOpenSSL")] if tls else [])]
    missing = [package for module, package in modules if importlib.util.find_spec(module) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class PrivateFtpd:
    """A real FTP server on 127.0.0.1 whose user USER sees one directory as `/`."""

    def __init__(self, directory: Path, home: Path, *, tls: bool = False, how: tuple[str, ...] = ()) -> None:
        """Given a directory for its own files and the one that it serves, prepare it.

        `how`: `implicit` begins encrypted; `hashes` offers XSHA256; `old` knows the oldest commands only; `careful`
        renames over nothing.
        """
        self.directory, self.home = directory, home
        self.host, self.port = "127.0.0.1", 0
        self.log = directory / "ftpd.log"
        self.certificate: Path | None = None
        self._how = how
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        home.mkdir(parents=True, exist_ok=True)
        if tls:
            self.certificate = directory / "certificate.pem"
            certify(self.certificate, self.certificate, self.host)

    def __enter__(self) -> Self:
        """Start and return the server."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    @property
    def pid(self) -> int:
        """The process id; raise RuntimeError if it does not run."""
        if self._process is None:
            raise RuntimeError("the private FTP server is not started")
        return self._process.pid

    def start(self) -> None:
        """Start listening: at a free port the first time, at the same port ever after. Raise RuntimeError."""
        if self._process is not None:
            return
        how = [*self._how, *([f"certificate={self.certificate}"] if self.certificate else [])]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", _SERVER, str(self.home), str(self.port), USER, PASSWORD, *how],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert process.stdout is not None
        with process.stdout:
            said = _first_line(process)
        if not said:
            process.kill()
            process.wait(DEADLINE)
            raise RuntimeError(f"the FTP server does not start: {self.log.read_text(errors='replace')[-2000:]}")
        self.port = int(said)
        self._process = process

    def stop(self) -> None:
        """End it at once with all its connections, as a switched-off machine would; harmless when not running."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(DEADLINE)

    def restart(self) -> None:
        """Stop, then start again at the same port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: to clients it looks like a network that swallows packets."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Return what the process prints first; nothing if it ends or is silent."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], DEADLINE)
    return process.stdout.readline().strip() if ready else b""

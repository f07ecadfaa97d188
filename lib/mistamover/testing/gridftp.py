"""A private GridFTP server on the loopback with its own certificate authority: the real thing, for tests.

It serves as `nobody` where root starts it, because it lets root log in to nothing.  Never import this from production
code.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

#: Seconds within which it takes connections.
DEADLINE: Final = 20.0

_SERVER = "globus-gridftp-server"
_PROGRAMS = (_SERVER, "globus-url-copy", "grid-proxy-init", "gfal-rename", "openssl", "setpriv")
_POLICY = "access_id_CA X509 '/O=Grid/CN=Private CA'\npos_rights globus CA:sign\ncond_subjects globus '\"/O=Grid/*\"'\n"
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin"


def available() -> str | None:
    """Return why a private server cannot run here, or None if it can."""
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class PrivateGridFtp:
    """A server on 127.0.0.1, started by `start` or `with`."""

    def __init__(self) -> None:
        """Make certificates for it and for one user; everything lies in a directory of its own that others may pass."""
        self._temporary = tempfile.TemporaryDirectory(prefix="mistamover-gridftp-")
        self.directory = Path(self._temporary.name)
        self.directory.chmod(0o711)
        self.host, self.port = "localhost", 0
        self.password = secrets.token_hex(8)
        self.data = self.directory / "data"
        self.log = self.directory / "server.log"
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        self._process: subprocess.Popen[bytes] | None = None
        self._prepare()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment has to hold besides; the key of its certificate has the password."""
        return {
            "X509_CERT_DIR": str(self.directory / "ca"),
            "X509_USER_CERT": str(self.directory / "user.pem"),
            "X509_USER_KEY": str(self.directory / "user.key"),
            "X509_USER_PROXY": str(self.directory / "no-proxy"),
        }

    def start(self) -> None:
        """Start it; return when it takes connections. Raise RuntimeError if it does not within the deadline."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                self.port = int(probe.getsockname()[1])
        words = [_SERVER, "-p", str(self.port), "-control-interface", "127.0.0.1", "-data-interface", "127.0.0.1"]
        if os.geteuid() == 0:
            user = self._user
            words = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *words]
        with self.log.open("ab") as sink:
            self._process = subprocess.Popen(
                words,
                env={
                    "PATH": _PATH,
                    "X509_CERT_DIR": str(self.directory / "ca"),
                    "X509_USER_CERT": str(self.directory / "host.pem"),
                    "X509_USER_KEY": str(self.directory / "host.key"),
                    "GRIDMAP": str(self.directory / "gridmap"),
                },
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        pause, deadline = threading.Event(), time.monotonic() + DEADLINE
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"the GridFTP server does not start; it said: {said}")
            pause.wait(0.05)

    def stop(self) -> None:
        """End it at once; harmless when not running."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait(10)
            self._process = None

    def close(self) -> None:
        """Stop, and remove its directory."""
        self.stop()
        self._temporary.cleanup()

    def place(self, name: str) -> Path:
        """Given a name, make a directory in which it can write."""
        path = self.data / name
        path.mkdir()
        os.chown(path, self._user.pw_uid, self._user.pw_gid)
        return path

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _prepare(self) -> None:
        self.data.mkdir()
        self.data.chmod(0o755)
        authority = self.directory / "ca"
        authority.mkdir()
        authority.chmod(0o755)
        key, certificate = self.directory / "ca.key", self.directory / "ca.pem"
        _openssl("req", "-x509", *_NEW_KEY, "-days", "30", "-keyout", key, "-out", certificate, "-subj", _CA)
        for kind in ("-hash", "-subject_hash_old"):
            value = _openssl("x509", "-in", certificate, "-noout", kind).strip()
            shutil.copy(certificate, authority / f"{value}.0")
            (authority / f"{value}.signing_policy").write_text(_POLICY)
        self._certify("host", "/O=Grid/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self._certify("user", "/O=Grid/CN=Robot", "extendedKeyUsage=clientAuth", self.password)
        for name in ("host.key", "host.pem"):
            os.chown(self.directory / name, self._user.pw_uid, self._user.pw_gid)
        (self.directory / "gridmap").write_text(f'"/O=Grid/CN=Robot" {self._user.pw_name}\n')

    def _certify(self, name: str, subject: str, extension: str, password: str = "") -> None:
        """Write a key, which may have a password, and a certificate for it."""
        key, request = self.directory / f"{name}.key", self.directory / f"{name}.csr"
        extensions = self.directory / f"{name}.ext"
        extensions.write_text(f"{extension}\nkeyUsage=digitalSignature,keyEncipherment\n")
        _openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", subject)
        certificate = self.directory / f"{name}.pem"
        signing = ["-CA", self.directory / "ca.pem", "-CAkey", self.directory / "ca.key", "-CAcreateserial"]
        _openssl("x509", "-req", "-in", request, *signing, "-days", "30", "-out", certificate, "-extfile", extensions)
        if password:
            plain = key.rename(key.with_suffix(".plain"))
            _openssl("rsa", "-aes128", "-in", plain, "-out", key, "-passout", "stdin", told=password)
            plain.unlink()
        key.chmod(0o400)


_CA = "/O=Grid/CN=Private CA"
_NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


def _openssl(*words: object, told: str = "") -> str:
    return subprocess.run(
        ["openssl", *map(str, words)], check=True, input=told, capture_output=True, text=True, timeout=30
    ).stdout

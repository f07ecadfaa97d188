"""Real servers that receive alerts: an SMTP server and an HTTP server, which keep what they are sent."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from mistamover.testing.certificate import certify


class Mailbox:
    """Takes every mail, or refuses it with `answer`."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.logins: list[tuple[bytes, bytes]] = []
        self.answer = "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Keep one mail."""
        if self.answer.startswith("250"):
            content = envelope.content
            assert isinstance(content, bytes)
            self.mails.append(message_from_bytes(content, policy=policy.default))  # type: ignore[arg-type]
            self.recipients.append(envelope.rcpt_tos)
        return self.answer

    def authenticate(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: Any) -> AuthResult:
        """Take the login `robot` with `secret`."""
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login, data.password))
        good = (data.login, data.password) == (b"robot", b"secret")
        return AuthResult(success=good, handled=False)

    @property
    def subjects(self) -> list[str]:
        """The subjects of all mails, in order."""
        return [str(mail["Subject"]) for mail in self.mails]

    @property
    def ids(self) -> list[str]:
        """The message ids of all mails, in order."""
        return [str(mail["Message-ID"]) for mail in self.mails]


@contextlib.contextmanager
def mail_server(port: int, box: Mailbox, **options: Any) -> Iterator[Controller]:
    """Run an SMTP server on a port of the loopback; options as aiosmtpd's Controller takes them."""
    if options.get("auth_required"):
        options.update(authenticator=box.authenticate)
    server = Controller(box, hostname="127.0.0.1", port=port, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Listen on a port of the loopback and never say a word; yield the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def certificate(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate for the loopback; return its file, and what a server needs to show it."""
    key, cert = directory / "key.pem", directory / "cert.pem"
    certify(key, cert)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return cert, context


class Hook:
    """What was posted: bodies as JSON, and the raw bodies with their headers."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.raw: list[tuple[bytes, dict[str, str]]] = []
        self.status = 200
        self.headers: dict[str, str] = {}

    @property
    def events(self) -> list[dict[str, Any]]:
        """All events of all messages, in order."""
        return [event for message in self.messages for event in message["events"]]

    def names(self, event: str = "delivered") -> list[str]:
        """The names of all events of a kind, in order."""
        return [each["name"] for each in self.events if each["event"] == event]


@contextlib.contextmanager
def hook_server(hook: Hook, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run an HTTP server on a port of the loopback (0: any) that keeps what is posted; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.raw.append((body, dict(self.headers)))
            if hook.status < 300:
                hook.messages.append(json.loads(body))
            self.send_response(hook.status)
            for name, value in hook.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True

    with Server(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join(10)

"""Sending mail by SMTP.  The libraries for it are large and are imported only where a mail is sent."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mistamover.alerts.queue import Queue
from mistamover.config.access import Tls
from mistamover.config.settings import MailSettings
from mistamover.errors import AlertError, SecretError
from mistamover.files.names import display
from mistamover.files.private import read_private

if TYPE_CHECKING:
    from email.message import EmailMessage
    from smtplib import SMTP

logger = logging.getLogger(__name__)

#: Seconds that the mail server gets for each answer.
TIMEOUT = 30.0

_LONGEST_SUBJECT = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail before it has an envelope."""

    id: str
    """Made of hexadecimal digits; it becomes the message's id, the same when it is sent again."""
    subject: str
    body: str
    created: float

    def as_bytes(self) -> bytes:
        """Return it as a queue keeps it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Mail:
        """Given what `as_bytes` returned, return the mail. Raise ValueError, TypeError."""
        return cls(**json.loads(content))


def send_all(settings: MailSettings, queue: Queue, *, timeout: float = TIMEOUT) -> None:
    """Given where to send and what waits, send all of it over one connection; what was taken waits no more.

    Raise AlertError if something still waits, SecretError if the login cannot be used, OSError.
    """
    if not queue.waiting():
        return
    refusal = ""
    with _connection(settings, timeout) as server:
        for path in queue.waiting():
            try:
                mail = Mail.from_bytes(path.read_bytes())
            except FileNotFoundError:
                # Dropped meanwhile.
                continue
            except (ValueError, TypeError):
                raise AlertError(f"{path} holds no mail: remove it") from None
            dropped = queue.dropped
            try:
                _hand_over(server, settings, _message(settings, mail, dropped))
            except AlertError as error:
                # It stays, but holds up no other.
                refusal = str(error)
                continue
            queue.remove(path)
            queue.clear_dropped(dropped)
    if refusal:
        raise AlertError(refusal)


def send(settings: MailSettings, mail: Mail, *, timeout: float = TIMEOUT) -> None:
    """Given where to send and one mail, send it now. Raise AlertError, SecretError."""
    with _connection(settings, timeout) as server:
        _hand_over(server, settings, _message(settings, mail, 0))


@contextlib.contextmanager
def _connection(settings: MailSettings, timeout: float) -> Iterator[SMTP]:
    """Given where to send, log in there. Raise AlertError, SecretError."""
    import smtplib
    import ssl

    login = _login(settings)
    where = f"{settings.host}:{settings.port}"
    try:
        context = ssl.create_default_context(cafile=settings.ca_file) if settings.tls is not Tls.NONE else None
        # Without a name smtplib asks the name service for ours, which may take long.
        ours = socket.gethostname()
        server: SMTP
        if settings.tls is Tls.TLS:
            server = smtplib.SMTP_SSL(settings.host, settings.port, ours, timeout=timeout, context=context)
        else:
            server = smtplib.SMTP(settings.host, settings.port, ours, timeout=timeout)
        try:
            if settings.tls is Tls.STARTTLS:
                server.starttls(context=context)
            if login is not None:
                server.login(*login)
            yield server
        finally:
            with contextlib.suppress(OSError, smtplib.SMTPException):
                server.quit()
            server.close()
    except smtplib.SMTPResponseException as error:
        raise AlertError(f"the mail server {where} refuses: {_answer(error.smtp_code, error.smtp_error)}") from None
    except (OSError, smtplib.SMTPException) as error:
        raise AlertError(f"the mail server {where}: {_words(error)}") from error


def _login(settings: MailSettings) -> tuple[str, str] | None:
    if settings.login_file is None:
        return None
    lines = read_private(settings.login_file)
    if len(lines) < 2 or not lines[0] or not lines[1]:
        raise SecretError(f"{settings.login_file} must hold two lines: the user's name and the password")
    return lines[0], lines[1]


def _hand_over(server: SMTP, settings: MailSettings, message: EmailMessage) -> None:
    """Raise AlertError if the server refuses this mail; what ends the connection comes out as it is."""
    import smtplib

    try:
        refused = server.send_message(message, to_addrs=settings.recipients)
    except smtplib.SMTPRecipientsRefused as error:
        raise AlertError(f"every recipient is refused: {_refused(error.recipients)}") from None
    except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
        raise AlertError(f"the mail is refused: {_answer(error.smtp_code, error.smtp_error)}") from None
    if refused:
        logger.error("some recipients are refused, the others have it: %s", _refused(refused))


def _words(error: Exception) -> str:
    """What a person calls the error; an answer in time that did not come has no words of its own."""
    # smtplib turns it into a connection that was closed.
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _refused(recipients: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{address}: {_answer(code, words)}" for address, (code, words) in recipients.items())


def _answer(code: int, words: bytes | str) -> str:
    raw = words if isinstance(words, bytes) else words.encode("utf-8", "surrogateescape")
    return f"{code} {display(raw[:300])}"


def _message(settings: MailSettings, mail: Mail, dropped: int) -> EmailMessage:
    from email.message import EmailMessage
    from email.utils import formatdate

    message = EmailMessage()
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.recipients)
    subject = f"{settings.subject}: {mail.subject}" if settings.subject else mail.subject
    message["Subject"] = display(subject.encode("utf-8", "surrogateescape"))[:_LONGEST_SUBJECT]
    message["Date"] = formatdate(mail.created, localtime=True)
    message["Message-ID"] = f"<{mail.id}@{socket.gethostname()}>"
    # So that no vacation program answers.
    message["Auto-Submitted"] = "auto-generated"
    body = mail.body
    if dropped:
        body += (
            f"\nBefore this mail {dropped} could not be kept and were dropped: mail could not be sent for too long.\n"
        )
    message.set_content(body.encode("utf-8", "backslashreplace").decode())
    return message

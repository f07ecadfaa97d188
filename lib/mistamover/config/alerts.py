"""From checked values of [email] and [notify] to the settings of alerts.

Looks at the file system only to see whether a private file is private.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from mistamover.config import check
from mistamover.config.access import Tls
from mistamover.config.amqp import build_amqp
from mistamover.config.files import private, there
from mistamover.config.settings import AlertSettings, MailSettings, NotifySettings
from mistamover.config.values import Values, quoted

EVENTS = ("delivered", "quarantined", "incident")

_MAIL, _NOTIFY = "email", "notify"
_SMTP, _SMTPS = 25, 465


def build_alerts(values: Values) -> AlertSettings | None:
    """Given the values of the service, return who is told what; None if nobody is told anything."""
    events = _events(values)
    mail, notify, amqp = _mail(values), _notify(values, events), build_amqp(values, events)
    if mail is None and notify is None and amqp is None:
        return None
    return AlertSettings(
        after=values.amount(_MAIL, "after"),
        remind_interval=values.amount(_MAIL, "remind_interval"),
        gather_time=values.amount(_MAIL, "gather_time"),
        threshold=values.text(_MAIL, "threshold") or "ERROR",
        collect_time=values.amount("logging", "email_timer"),
        mail=mail,
        notify=notify,
        amqp=amqp,
    )


def _mail(values: Values) -> MailSettings | None:
    recipients = values.words(_MAIL, "recipient")
    if not recipients:
        return None
    sender = values.text(_MAIL, "from") or f"mistamover@{socket.gethostname()}"
    _check_addresses(values, sender, recipients)
    tls = Tls(values.text(_MAIL, "tls"))
    host, port = _server(values, _SMTPS if tls is Tls.TLS else _SMTP)
    login_file = private(values, _MAIL, "login_file")
    if login_file is not None and tls is Tls.NONE and host not in ("localhost", "127.0.0.1", "::1"):
        message = "a password would travel in the clear, expected tls = starttls or tls = tls with login_file"
        values.problem(_MAIL, "tls", message, "set tls, or take login_file out")
    return MailSettings(
        sender=sender,
        recipients=recipients,
        subject=values.text(_MAIL, "subject") or "",
        host=host,
        port=port,
        tls=tls,
        ca_file=there(values, _MAIL, "ca_file"),
        login_file=login_file,
    )


def _check_addresses(values: Values, sender: str, recipients: tuple[str, ...]) -> None:
    for key, address in (("from", sender), *(("recipient", one) for one in recipients)):
        if not address.isascii() or address.startswith("-"):
            values.problem(_MAIL, key, f"{quoted(address)} is not a mail address, expected one such as me@example.org")


def _server(values: Values, usual: int) -> tuple[str, int]:
    """Return the mail server and its port, from `smarthost` as HOST or HOST:PORT and the key `port`."""
    written, own = values.text(_MAIL, "smarthost") or "localhost", values.whole(_MAIL, "port")
    host, colon, after = written.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        # No port, or an IPv6 address without one.
        host, after = written, ""
    host = host.strip("[]")
    try:
        check.host(host)
        port = check.integer(after, "1", "65535") if after else None
    except check.CheckError as error:
        values.problem(_MAIL, "smarthost", f"{quoted(written)} {error.what}, expected a host name, or host:port")
        return host, usual
    if own and port and own != port:
        values.problem(_MAIL, "port", f"is {own}, but smarthost says {port}, expected both to agree", "remove one")
    return host, own or port or usual


def _events(values: Values) -> tuple[str, ...]:
    if not any(values.text(_NOTIFY, key) for key in ("url", "amqp_url")):
        return ()
    events = values.words(_NOTIFY, "events")
    for event in events:
        if event not in EVENTS:
            hint = check.did_you_mean(event, EVENTS)
            values.problem(
                _NOTIFY, "events", f"{quoted(event)} is not known, expected some of {', '.join(EVENTS)}", hint
            )
    return tuple(event for event in EVENTS if event in events)


def _notify(values: Values, events: tuple[str, ...]) -> NotifySettings | None:
    url = values.text(_NOTIFY, "url")
    if not url:
        return None
    _check_url(values, url)
    return NotifySettings(
        url=url,
        secret_file=private(values, _NOTIFY, "secret_file"),
        ca_file=there(values, _NOTIFY, "ca_file"),
        events=events,
    )


def _check_url(values: Values, url: str) -> None:
    expected = "expected http://HOST/... or https://HOST/..."
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        values.problem(_NOTIFY, "url", f"is not a URL, {expected}")
        return
    if parts.username is not None or parts.password is not None:
        # The value is not repeated: it may hold a password.
        values.problem(_NOTIFY, "url", f"holds a login, {expected}", "let the receiver check the signature instead")
    elif not good or not url.isascii() or " " in url:
        values.problem(_NOTIFY, "url", f"{quoted(url)} is not a URL that can be posted to, {expected}")

"""`mistamover alert test`: sends one mail and one notification each way now, and tells what became of them."""

from __future__ import annotations

import argparse
import os
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mistamover.alerts.poster import Poster
from mistamover.alerts.ways import ways
from mistamover.cli.common import add_config_option, emit, load_settings, printable
from mistamover.config.settings import MailSettings, Settings
from mistamover.errors import AlertError, SecretError, UsageError

NAME = "alert"
HELP = "try whether mail and notifications arrive"

_EPILOG = """\
The mail goes to [email] recipient by [email] smarthost. The notification, an event "test", is posted to [notify] url
and signed as all are, and published to [notify] amqp_exchange, where a queue must take it. Nothing waits in a queue of
ours, and the service need not run.

Exit status: 0 what is configured was handed over; 1 something was not; 2 wrong words or configuration, also: none of
[email] recipient, [notify] url and [notify] amqp_url is set.

Examples:
  mistamover alert test conf/global.ini
  mistamover alert test -c conf/global.ini
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Send one mail and one notification each way now, to see whether they arrive."
    parser.epilog = _EPILOG
    parser.add_argument("action", metavar="test", choices=("test",), help="what to do; there is only this")
    parser.add_argument("file", metavar="GLOBAL_INI", nargs="?", type=Path, help="the global configuration file")
    add_config_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, send all; return 1 if not all was handed over. Raise ConfigError, UsageError."""
    if arguments.file is not None and arguments.config is not None:
        raise UsageError("the global configuration file is named twice: leave out one of them")
    arguments.config = arguments.file or arguments.config
    settings = load_settings(arguments)
    if settings.alerts is None:
        raise UsageError(
            "nobody is to be told anything: set [email] recipient, [notify] url or [notify] amqp_url in "
            f"{printable(settings.file)}"
        )
    outcomes = []
    if (mail := settings.alerts.mail) is not None:
        where = f"mail to {', '.join(mail.recipients)} by {mail.host}:{mail.port}"
        outcomes.append(_try(where, lambda: _mail(mail, settings)))
    for way in ways(settings.alerts):
        outcomes.append(_try(f"notification to {way.poster.where}", partial(_notify, way.poster)))
    return 0 if all(outcomes) else 1


def _try(what: str, send: Callable[[], None]) -> bool:
    try:
        send()
    except (AlertError, SecretError) as error:
        emit(f"{printable(what)}: FAILED: {printable(str(error))}")
        return False
    emit(f"{printable(what)}: handed over")
    return True


def _mail(mail: MailSettings, settings: Settings) -> None:
    from mistamover.alerts.mail import Mail, send

    host = socket.gethostname()
    body = f"This is a test: MiStaMover on {host} can send mail.\nConfiguration: {printable(settings.file)}\n"
    send(mail, Mail(id=os.urandom(12).hex(), subject=f"test from {host}", body=body, created=time.time()))


def _notify(poster: Poster) -> None:
    event = {"id": f"test-{os.urandom(8).hex()}", "event": "test", "host": socket.gethostname()}
    poster.post([event], time.time())

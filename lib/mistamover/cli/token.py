"""`mistamover token`: let clients of the job front in, and out again."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mistamover.cli.common import (
    add_config_option,
    emit,
    human_age,
    human_time,
    iso_time,
    note,
    print_json,
    printable,
    table,
)
from mistamover.cli.stores import store_of
from mistamover.errors import MistamoverError, UsageError
from mistamover.jobs.model import Scope, Token

NAME = "token"
HELP = "let clients of the job front in, and out again"

_DAY = 86400.0
_MOST_DAYS = 36500.0

_EPILOG = """\
A token is a name and a secret. Clients show the secret (`Authorization: Bearer SECRET`, or HTTP basic: the name as
user, the secret as password). It is shown once: the store has only its hash. Scopes: read, to look; submit, also to ask
for jobs and cancel them; admin, also to change endpoints. The service need not be restarted.

Exit status: 0 done; 1 it could not be done, as for a name that is taken or unknown; 2 wrong words or configuration.

Examples:
  mistamover token create portal --scope submit                     print the secret
  mistamover token create portal --scope submit --file portal.key   write it into a new file that only you can read
  mistamover token create guest --scope read --expires 30           it ends in thirty days
  mistamover token list
  mistamover token revoke guest                                     at once
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Let clients of the job front in, and out again."
    parser.epilog = _EPILOG
    verbs = parser.add_subparsers(metavar="create|list|revoke", required=True)

    create = verbs.add_parser("create", help="make a token, and show its secret once")
    create.add_argument("name", metavar="NAME", help="who the client is; jobs belong to this name")
    scopes = [scope.value for scope in Scope if scope is not Scope.NONE]
    create.add_argument("--scope", metavar="|".join(scopes), choices=scopes, required=True, help="what it allows")
    create.add_argument("--expires", metavar="DAYS", type=_days, help="when it ends (default: never)")
    create.add_argument("--file", metavar="FILE", type=Path, help="write the secret into this new file, mode 600")
    create.set_defaults(act=_create)

    verbs.add_parser("list", help="list the tokens, without their secrets").set_defaults(act=_list)

    revoke = verbs.add_parser("revoke", help="let nobody in by a token any more")
    revoke.add_argument("name", metavar="NAME", help="the token's name")
    revoke.set_defaults(act=_revoke)
    for verb in verbs.choices.values():
        add_config_option(verb)
        verb.add_argument("--json", action="store_true", help="print a JSON object, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, do what it says; return the exit status. Raise MistamoverError."""
    status: int = arguments.act(arguments)
    return status


def _create(arguments: argparse.Namespace) -> int:
    expires = None if arguments.expires is None else time.time() + arguments.expires * _DAY
    with store_of(arguments) as store:
        if arguments.file is None:
            secret = store.tokens.create(arguments.name, Scope(arguments.scope), expires)
        else:
            # First the file: a secret that nobody has could not be shown again.
            with _new_file(arguments.file) as descriptor:
                secret = store.tokens.create(arguments.name, Scope(arguments.scope), expires)
                os.write(descriptor, secret.encode() + b"\n")
    if arguments.json:
        shown = {"secret": secret} if arguments.file is None else {"file": printable(arguments.file)}
        print_json({"name": arguments.name, "scope": arguments.scope, **shown, **_end(expires)})
        return 0
    if arguments.file is None:
        emit(secret)
        note("The secret is shown this once.")
    else:
        emit(f"The secret of {arguments.name} is in {printable(arguments.file)}.")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    with store_of(arguments) as store:
        tokens = store.tokens.list()
    if arguments.json:
        print_json({"tokens": [_words(token) for token in tokens]})
        return 0
    now = time.time()
    rows = [
        (
            token.name,
            token.scope.value,
            human_time(token.created),
            "never" if token.last_used is None else f"{human_age(now - token.last_used)} ago",
            _until(token, now),
        )
        for token in tokens
    ]
    emit(*(table(("TOKEN", "SCOPE", "MADE", "LAST USED", "ENDS"), rows, left=range(5)) if rows else ["no tokens"]))
    return 0


def _revoke(arguments: argparse.Namespace) -> int:
    with store_of(arguments) as store:
        gone = store.tokens.revoke(arguments.name)
    name = printable(arguments.name)
    if not gone:
        raise MistamoverError(f'there is no token called "{name}": see mistamover token list')
    if arguments.json:
        print_json({"name": name, "revoked": True})
    else:
        emit(f"{name}: revoked")
    return 0


@contextmanager
def _new_file(path: Path) -> Iterator[int]:
    """Given a path, give a new private file there, open for writing; it is removed again if what follows fails."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"{printable(path)} cannot be made: {error.strerror}") from error
    try:
        yield descriptor
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def _words(token: Token) -> dict[str, object]:
    used = None if token.last_used is None else iso_time(token.last_used)
    start = {"name": token.name, "scope": token.scope.value, "created": iso_time(token.created), "last_used": used}
    return start | _end(token.expires)


def _end(expires: float | None) -> dict[str, object]:
    return {"expires": None if expires is None else iso_time(expires)}


def _until(token: Token, now: float) -> str:
    if token.expires is None:
        return "never"
    return human_time(token.expires) if token.expires > now else f"ended {human_age(now - token.expires)} ago"


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"{text} is no number of days between 0 and {_MOST_DAYS:.0f}")
    return days

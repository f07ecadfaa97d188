"""`mistamover db`: bring the tables of the store of jobs up to date, or look whether they are."""

from __future__ import annotations

import argparse

from mistamover.cli.common import add_config_option, emit, print_json, printable
from mistamover.cli.stores import database_of

NAME = "db"
HELP = "bring the store of jobs up to date, or look whether it is"

_EPILOG = """\
The store is the database of [engine] database_url. One in a file (SQLite) is brought up to date by the service itself
when it starts; PostgreSQL only by `upgrade`, which needs a user who may change tables. Make a backup first, and stop
the service: an older version does not work with newer tables, and there is no way back but the backup. All is done in
one transaction: if it fails, nothing was changed.

Exit status: 0 the store is as this version needs it, and sound; 1 it is not, or cannot be reached; 2 wrong words or
configuration.

Examples:
  mistamover db check                        is it up to date, and, in a file, undamaged?
  mistamover db upgrade -c conf/global.ini   make the tables, or bring them up to date
  mistamover db check --json                 the same, for programs
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Bring the store of jobs up to date, or look whether it is."
    parser.epilog = _EPILOG
    parser.add_argument("action", metavar="upgrade|check", choices=("upgrade", "check"), help="what to do")
    add_config_option(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, do what it says; return 0. Raise MistamoverError."""
    with database_of(arguments) as database:
        from mistamover.jobs.store.schema import HEAD

        changed = False
        if arguments.action == "upgrade":
            before = database.upgrade()
            changed = before != HEAD
        database.check()
        database.examine()
        name = printable(database.name)
        if arguments.json:
            print_json({"store": name, "step": HEAD, "changed": changed})
        elif not changed:
            emit(f"{name}: up to date (step {HEAD})")
        elif before is None:
            emit(f"{name}: made (step {HEAD})")
        else:
            emit(f"{name}: brought from step {before} to {HEAD}")
    return 0

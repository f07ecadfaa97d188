"""`mistamover import-machines`: the registry of machines of a VESTEC data manager, as endpoints."""

from __future__ import annotations

import argparse

from mistamover.cli import importing_registries as registries
from mistamover.jobs.legacy_registries import machines

NAME = "import-machines"
HELP = "turn the machines of a VESTEC data manager into endpoints"

_EPILOG = """\
The file is machines.yaml of the older service, with `host`, `username`, `SSHkey` and `basedir` of each machine. Each
becomes an endpoint of the same name, whose jobs never leave that basedir. The endpoints are printed as they stand in
an INI file, or put into one.

Exit status: 0 done; 1 a file cannot be read or written; 2 it does not hold what was expected: nothing was done.

Examples:
  mistamover import-machines machines.yaml
  mistamover import-machines machines.yaml --into conf/global.ini
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    registries.configure(parser, "Turn the machines of a VESTEC data manager into endpoints.", _EPILOG)


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, print or write the endpoints; return 0. Raise MistamoverError."""
    return registries.give(machines(registries.content(arguments.file)), arguments.into)

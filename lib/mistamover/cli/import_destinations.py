"""`mistamover import-destinations`: the registry of destinations of a BCCVL data mover, as endpoints."""

from __future__ import annotations

import argparse

from mistamover.cli import importing_registries as registries
from mistamover.jobs.legacy_registries import destinations

NAME = "import-destinations"
HELP = "turn the destinations of a BCCVL data mover into endpoints"

_EPILOG = """\
The file is the one that the older service read its destinations from: a JSON array. Each destination becomes an
endpoint of the same name; of two with one name the first counts. The endpoints are printed as they stand in an INI
file, or put into one.

The older service put files anywhere that its login was allowed to; an endpoint has a directory that no job leaves. Say
by --base which one that is.

Exit status: 0 done; 1 a file cannot be read or written; 2 it does not hold what was expected: nothing was done.

Examples:
  mistamover import-destinations destinations.json --base /data
  mistamover import-destinations destinations.json --local-base /data --into conf/global.ini
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    registries.configure(parser, "Turn the destinations of a BCCVL data mover into endpoints.", _EPILOG)
    parser.add_argument("--base", metavar="DIRECTORY", default="/", help="the directory at every host (default: /)")
    parser.add_argument("--local-base", metavar="DIRECTORY", default="", help="the directory on this host")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, print or write the endpoints; return 0. Raise MistamoverError."""
    found = destinations(
        registries.content(arguments.file), base=arguments.base, local_base=arguments.local_base.rstrip("/")
    )
    return registries.give(found, arguments.into)

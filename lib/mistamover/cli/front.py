"""`mistamover front`: listens for what programs ask for; the master starts it where `[front] enabled` says so."""

from __future__ import annotations

import argparse

from mistamover.cli.common import add_config_option
from mistamover.cli.job_settings import add_debug_option, load_job_settings

NAME = "front"
HELP = "listen for jobs (the master starts it by itself)"

_EPILOG = """\
It listens on [front] host and port, keeps jobs in the database of [engine], and moves nothing: that is done by
"mistamover worker". It runs until SIGTERM or Ctrl-C, and logs to front.log and to the terminal. The service starts both
where [front] enabled = True; by hand they are of use on a machine of their own, with PostgreSQL as database.

Exit status: 0 it was told to stop; 1 it cannot listen, or an error ended it; 2 wrong words or configuration.

Example:
  mistamover front -c conf/global.ini
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Listen for jobs until told to stop."
    parser.epilog = _EPILOG
    add_config_option(parser)
    add_debug_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, listen until told to stop; return the exit status. Raise MistamoverError."""
    settings = load_job_settings(arguments)
    # Late: --help must be instant, and the libraries of the front are many.
    from mistamover.front import process

    return process.run(settings)

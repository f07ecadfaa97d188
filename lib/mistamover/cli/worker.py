"""`mistamover worker`: does the jobs that wait; the master starts it where `[front] enabled` says so."""

from __future__ import annotations

import argparse

from mistamover.cli.common import add_config_option
from mistamover.cli.job_settings import add_debug_option, load_job_settings

NAME = "worker"
HELP = "do the jobs that wait (the master starts it by itself)"

_EPILOG = """\
It takes jobs from the database of [engine], and does [engine] threads of them at a time. It runs until SIGTERM or
Ctrl-C: jobs that have not ended within [global] stop_timeout are put back, and go on at the next start. It logs to
worker.log and to the terminal. One worker may run for each state directory.

Exit status: 0 it was told to stop; 1 another one runs already, or an error ended it; 2 wrong words or configuration.

Example:
  mistamover worker -c conf/global.ini
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Do the jobs that wait until told to stop."
    parser.epilog = _EPILOG
    add_config_option(parser)
    add_debug_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, do jobs until told to stop; return the exit status. Raise MistamoverError."""
    settings = load_job_settings(arguments)
    from mistamover.jobs.work import worker

    return worker.run(settings)

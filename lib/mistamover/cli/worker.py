"""`mistamover worker`: does the jobs that wait; the master starts it where `[front] enabled` says so."""

from __future__ import annotations

import argparse
from dataclasses import replace

from mistamover.cli.common import add_config_option, printable
from mistamover.cli.job_settings import add_debug_option, load_job_settings
from mistamover.config.endpoints import is_name
from mistamover.config.settings import Settings
from mistamover.errors import UsageError

NAME = "worker"
HELP = "do the jobs that wait (the master starts it by itself)"

_EPILOG = """\
It takes jobs from the database of [engine], and does [engine] threads of them at a time. It runs until SIGTERM or
Ctrl-C: jobs that have not ended within [global] stop_timeout are put back, and go on at the next start. It logs to
worker.log and to the terminal. One worker may run for each state directory; workers with others, on this machine or on
more of them, share the database, and with [engine] kind = celery the broker.

Exit status: 0 it was told to stop; 1 another one runs already, or an error ended it; 2 wrong words or configuration.

Example:
  mistamover worker -c conf/global.ini
  mistamover worker -c conf/global.ini --groups hpc1     also the jobs of endpoints with workers = hpc1
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Do the jobs that wait until told to stop."
    parser.epilog = _EPILOG
    add_config_option(parser)
    parser.add_argument(
        "--groups", metavar="NAME,...", help="be of these groups of workers, in place of [engine] groups"
    )
    add_debug_option(parser)


def of_groups(settings: Settings, written: str) -> Settings:
    """Given settings with jobs, and names of groups, return settings of a worker of these. Raise UsageError."""
    groups = tuple(dict.fromkeys(name for name in written.replace(",", " ").split()))
    for name in groups:
        if not is_name(name):
            raise UsageError(f"{printable(name)} is no name of a group of workers")
    jobs = settings.jobs
    assert jobs is not None
    return replace(settings, jobs=replace(jobs, engine=replace(jobs.engine, groups=groups)))


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, do jobs until told to stop; return the exit status. Raise MistamoverError."""
    settings = load_job_settings(arguments)
    if arguments.groups is not None:
        settings = of_groups(settings, arguments.groups)
    from mistamover.jobs.work import worker

    return worker.run(settings)

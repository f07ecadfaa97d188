"""`mistamover quarantine`: what lies in quarantine, and how it ends."""

from __future__ import annotations

import argparse

from mistamover.cli import quarantine_end, quarantine_list

NAME = "quarantine"
HELP = "list what lies in quarantine, have it tried again, or take it out of the stream"

_EPILOG = """\
Exit status: 0 all that was asked is done; 1 something could not be done, and is named; 2 wrong words or configuration.
`mistamover quarantine VERB --help` says more.

Examples:
  mistamover quarantine list                         what lies in quarantine, of all streams
  mistamover quarantine retry --all                  have everything tried again
  mistamover quarantine retry demo run7.nc           one unit of the stream demo
  mistamover quarantine release demo run7.nc         it stays out of the stream for good, where it lies
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    verbs = parser.add_subparsers(metavar="list|retry|release", required=True)
    quarantine_list.configure(verbs)
    quarantine_end.configure(verbs)


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, do what it says; return the exit status. Raise MistamoverError."""
    status: int = arguments.act(arguments)
    return status

"""What the commands of the job front share: a configuration that says something of jobs."""

from __future__ import annotations

import argparse
from dataclasses import replace

from mistamover.cli.common import load_settings, printable
from mistamover.config.settings import Settings
from mistamover.errors import UsageError


def add_debug_option(parser: argparse.ArgumentParser) -> None:
    """Given a command's parser, add the option that logs all there is."""
    parser.add_argument("--debug", action="store_true", help="log debugging messages too")


def load_job_settings(arguments: argparse.Namespace) -> Settings:
    """Given the parsed command line, return settings with jobs. Raise ConfigError, UsageError."""
    settings = load_settings(arguments)
    if settings.jobs is None:
        raise UsageError(
            f"{printable(settings.file)} says nothing of jobs: write [front], and [endpoints] with the places that they"
            " may use"
        )
    return replace(settings, debug=True) if getattr(arguments, "debug", False) else settings

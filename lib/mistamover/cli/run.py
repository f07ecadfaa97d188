"""Running the agent: one-off, as a daemon, or in the foreground."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from pathlib import Path

from mistamover import __version__
from mistamover.config.settings import Settings
from mistamover.errors import MistamoverError, UsageError

DEFAULT_INI = "conf/global.ini"


def configure(parser: argparse.ArgumentParser) -> None:
    """Given a parser, add the options of the agent."""
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--one-off", action="store_true", help="deliver what is there, wait for every stream, then end")
    mode.add_argument("--daemon", action="store_true", help="leave the terminal and run in the background")
    parser.add_argument("--debug", action="store_true", help="log at level DEBUG")
    parser.add_argument("--version", action="store_true", help="print the version and end")
    parser.add_argument(
        "config",
        metavar="GLOBAL_INI",
        nargs="?",
        help="global configuration file (default: the environment variable MISTAMOVER_CONFIG, else conf/global.ini)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, run the agent to its end; return the exit status. Raise MistamoverError."""
    if arguments.version:
        print(f"mistamover {__version__}")
        return 0
    settings = _settings(arguments)
    for warning in settings.warnings:
        print(f"mistamover: warning: {warning}", file=sys.stderr)
    from mistamover.master.daemon import ownership

    _check_log_directory(settings)
    with ownership(settings) as lock:
        if arguments.one_off:
            return _one_off(settings)
        return _serve(settings, lock, detach=arguments.daemon)


def _settings(arguments: argparse.Namespace) -> Settings:
    from dataclasses import replace

    from mistamover.config.load import load

    path = Path(arguments.config or os.environ.get("MISTAMOVER_CONFIG") or _default_ini())
    settings = load(path.absolute(), os.environ)
    return replace(settings, debug=True) if arguments.debug else settings


def _default_ini() -> Path:
    """conf/global.ini here, else the one of the checkout that bin/mistamover.py was called from."""
    here = Path(DEFAULT_INI)
    beside = Path(sys.argv[0]).absolute().parent.parent / DEFAULT_INI
    return beside if not here.exists() and beside.exists() else here


def _check_log_directory(settings: Settings) -> None:
    directory = settings.log.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make base_log_dir {directory}: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write to base_log_dir {directory}: mend its permissions, or set another one")


def _serve(settings: Settings, lock: int, *, detach: bool) -> int:
    from mistamover.master import daemon
    from mistamover.master.service import Master, Mode
    from mistamover.report import logs

    with contextlib.ExitStack() as stack:
        if detach:
            stack.enter_context(daemon.detached(lock))
        stack.enter_context(daemon.pid_file(settings.pid_file))
        logs.start(settings.log, "mistamover_ctl", to_stderr=not detach, debug=settings.debug)
        log = logging.getLogger("mistamover")
        for warning in settings.warnings:
            log.warning("%s", warning)
        log.info("started with %s: %d streams", settings.file, len(settings.streams))
        try:
            Master(settings, os.environ, mode=Mode.DAEMON if detach else Mode.FOREGROUND).run()
        except Exception:
            log.exception("the master ends because of an error")
            return MistamoverError.exit_status
        log.info("stopped")
    return 0


def _one_off(settings: Settings) -> int:
    from mistamover.cli.progress import Progress, report
    from mistamover.master.service import Master, Mode
    from mistamover.report import logs

    started = time.time()
    logs.start(settings.log, "mistamover_ctl", to_stderr=settings.debug, debug=settings.debug)
    progress = Progress(sys.stderr) if sys.stderr.isatty() else None
    result = Master(settings, os.environ, mode=Mode.ONE_OFF, tick=progress.tick if progress else None).run()
    if progress is not None:
        progress.clear()
    everything = report(settings, result.failed, started, sys.stdout, sys.stderr)
    if result.stopped:
        print("mistamover: stopped by a signal before the end", file=sys.stderr)
    return 0 if everything and not result.stopped else 1

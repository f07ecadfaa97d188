"""The command `mistamover`: finds out what is wanted, and turns errors into words and exit statuses."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from mistamover.errors import MistamoverError

#: Sub-commands, each a module of this package with NAME, HELP, configure and run.
COMMANDS = (
    "status", "why", "history", "check", "quarantine", "pause", "resume", "receipts", "alert", "init", "watch-rate",
    "import-destinations", "import-machines", "front", "worker", "job", "cart", "db", "token",
)  # fmt: skip

_EPILOG = """\
examples:
  mistamover init                        make a configuration by answering questions
  mistamover --one-off conf/global.ini   deliver what is there, then end
  mistamover conf/global.ini             run in the foreground (this is what systemd wants)
  mistamover --daemon conf/global.ini    run in the background
  mistamover status --watch              see what every stream is doing
  mistamover why data/run7.nc            ask why a file has not left
  mistamover history --since 1d          list what was delivered
  mistamover check demo                  log in at the target of a stream and try what can be had there
  mistamover quarantine list             list what could not be delivered, and why
  mistamover quarantine retry --all      have all of that tried again
  mistamover pause demo                  let a stream send nothing, until: mistamover resume demo
  mistamover receipts verify             prove the receipts of other agents
  mistamover token create portal --scope submit   let a client of the job front in
  mistamover alert test                  send a mail and a notification to see whether they arrive

exit status:
  0  all well; a one-off run delivered everything
  1  something was not delivered, or could not be done; it is listed
  2  the configuration or the command line is wrong; nothing was done

The default transfer mode is MOVE: files are removed from the watched directory once they are proven to be at the
target. Set transfer_mode = mirror in [rsync_ssh] to keep them.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Given the words after the command's name (default: the process's), do what they say; return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        known = bool(words) and words[0] in COMMANDS
        status = _run_command(words[0], words[1:]) if known else _run_agent(words)
        sys.stdout.flush()
        return status
    except MistamoverError as error:
        print(f"mistamover: {error}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does: nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _run_command(name: str, words: Sequence[str]) -> int:
    module = _module(name)
    parser = argparse.ArgumentParser(
        prog=f"mistamover {name}", description=module.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.configure(parser)
    status: int = module.run(parser.parse_args(words))
    return status


def _run_agent(words: Sequence[str]) -> int:
    from mistamover.cli import run

    parser = _parser(with_commands=not {"-h", "--help"}.isdisjoint(words))
    run.configure(parser)
    return run.run(parser.parse_args(words))


def _parser(*, with_commands: bool) -> argparse.ArgumentParser:
    # Their modules are only imported for the one who reads this.
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:<{width}}{_help_of(name)}" for name in COMMANDS if with_commands)
    return argparse.ArgumentParser(
        prog="mistamover",
        usage="mistamover [--one-off | --daemon] [GLOBAL_INI]\n       mistamover COMMAND [-h] [...]",
        description="Move and mirror files out of watched directories, proven by hash before anything is removed.",
        epilog=f"commands:\n{commands}\n\n{_EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _help_of(name: str) -> str:
    help_line: str = _module(name).HELP
    return help_line


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"mistamover.cli.{name.replace('-', '_')}")

"""`mistamover init`: asks what a stream needs, tries the login, and writes its file and the global file."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mistamover.cli.common import CONFIG_VARIABLE, DEFAULT_CONFIG, emit, note, print_json, printable
from mistamover.config.expand import Place
from mistamover.errors import UsageError

if TYPE_CHECKING:
    from mistamover.cli.init_steps import Outcome, Wanted

NAME = "init"
HELP = "make a configuration, or add a stream to one"

_EPILOG = """\
DIR is the base directory (default: here): the files are DIR/conf/global.ini and DIR/conf/ds_NAME.ini, and
DIR/global.ini is used if it is there already. A path that ends in .ini is the global file itself; without any, the one
that MISTAMOVER_CONFIG names. An existing global file gets the stream added to its list, and is left as it is otherwise;
no existing stream file is ever touched.

Each answer is checked at once, and so is the login, unless --no-check says otherwise. Nothing is written before the
last question is answered. On a terminal what no option gives is asked; with --yes, or without a terminal, the default
of each counts. A password is asked without being shown. The file of --password-file is named in the configuration, or,
for a protocol that reads none, what it holds is written there; - is the standard input.

Exit status: 0 the files are written; 1 the login failed, or a file could not be written; 2 wrong words or
configuration.

Examples:
  mistamover init                                     ask for everything; files below conf/
  mistamover init /etc/mistamover/global.ini          add a stream to this configuration
  mistamover init ~/tour --yes --name camera --directory /data/camera --protocol rsync_ssh \\
      --target-host archive.example.org --target-dir /archive/camera --mode mirror
  mistamover init --set rsync_ssh.port=2222 --set outgoing.retry_count=5
  mistamover init --type rsync_ssh camera             the same questions, in the words of older versions
  mistamover init --type global                       only a global file, with no stream yet
"""

_OPTIONS = (
    ("name", "NAME", "the stream's name"),
    ("directory", "PATH", "the directory to watch"),
    ("protocol", "NAME", "how the data travel, or arrival_monitor to receive"),
    ("target_host", "HOST", "the host to deliver to"),
    ("target_dir", "PATH", "the directory there"),
    ("target_url", "URL", "the place to deliver to, for the protocols that take one"),
    ("username", "NAME", "the login name there"),
    ("password_file", "FILE", "a file with the password on its first line, that only you can read"),
    ("mode", "MODE", "move or mirror"),
    ("mail_to", "ADDRESS", "who is told by mail when something needs a hand"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Make a configuration, or add a stream to one: asks what is needed, checks it, and writes it."
    parser.epilog = _EPILOG
    parser.add_argument("words", metavar="DIR", nargs="*", help="the base directory, or the global file")
    for name, metavar, words in _OPTIONS:
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=words)
    parser.add_argument(
        "--set", metavar="SECTION.KEY=VALUE", action="append", default=[], help="any other key; may be repeated"
    )
    parser.add_argument("-t", "--type", metavar="TYPE", help='a protocol, or "global"; then NAME and DIR follow')
    parser.add_argument("--all", action="store_true", help="ask for every key of the protocol")
    parser.add_argument("--no-check", action="store_true", help="do not try the login")
    parser.add_argument("-y", "--yes", action="store_true", help="ask nothing: take the defaults")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, make the files; return 0, or 1 if it was broken off. Raise MistamoverError."""
    from mistamover.cli.init_steps import make
    from mistamover.cli.init_talk import terminal

    talk = None if arguments.yes else terminal(sys.stderr if arguments.json else sys.stdout)
    try:
        outcome = make(_wanted(arguments), talk)
    except (EOFError, KeyboardInterrupt) as end:
        note("mistamover: broken off; nothing was written")
        return 130 if isinstance(end, KeyboardInterrupt) else 1
    if arguments.json:
        print_json(_record(outcome))
    else:
        for warning in outcome.warnings if talk is None else ():
            note(f"mistamover: warning: {warning}")
        emit(*_lines(outcome))
    return 0


def _wanted(arguments: argparse.Namespace) -> Wanted:
    from mistamover.cli.init_steps import Wanted

    words: list[str] = list(arguments.words)
    given = {name: value for name, _, _ in _OPTIONS if (value := getattr(arguments, name)) is not None}
    only_global = arguments.type == "global"
    if arguments.type is not None and not only_global:
        if "name" not in given and words:
            given["name"] = words.pop(0)
        given.setdefault("protocol", arguments.type)
    if len(words) > 1:
        raise UsageError(f"one DIR is enough, expected nothing after {printable(words[0])}")
    return Wanted(
        file=_global_file(words[0] if words else os.environ.get(CONFIG_VARIABLE, ".")),
        given=given,
        sets=dict(_set(text) for text in arguments.set),
        only_global=only_global,
        everything=arguments.all,
        check=not arguments.no_check,
    )


def _global_file(word: str) -> Path:
    path = Path(word).expanduser()
    if path.suffix == ".ini" or path.is_file():
        return path
    return path / "global.ini" if (path / "global.ini").exists() else path / DEFAULT_CONFIG


def _set(text: str) -> tuple[Place, str]:
    from mistamover.config.schema import is_secret

    name, equals, value = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if is_secret(key):
        raise UsageError(f"--set {printable(name)}: others could see it in the list of processes: use --password-file")
    if not (equals and dot and section and key):
        raise UsageError(f"--set {printable(text)}: is not understood, expected SECTION.KEY=VALUE")
    return Place(section, key.lower()), value.strip()


def _record(outcome: Outcome) -> dict[str, Any]:
    return {
        "stream": outcome.stream or None,
        "global_file": str(outcome.file),
        "stream_file": str(outcome.stream_file) if outcome.stream_file else None,
        "written": [str(path) for path in outcome.written],
        "edited": [str(path) for path in outcome.edited],
        "directories": [str(path) for path in outcome.directories],
        "login": {"tried": outcome.tried, "allows": list(outcome.allows), "error": outcome.error or None},
        "warnings": list(outcome.warnings),
        "next": list(_next(outcome)),
    }


def _lines(outcome: Outcome) -> Iterator[str]:
    for words, paths in (("Made", outcome.directories), ("Wrote", outcome.written), ("Edited", outcome.edited)):
        for path in paths:
            yield f"{words} {printable(path)}"
    if os.geteuid() == 0:
        made = shlex.join(map(str, (*outcome.directories, *outcome.written)))
        yield "They belong to root. If the service runs as another user, give them to that one, and try its login:"
        yield f"  chown USER {made}"
    yield ""
    yield "Next:"
    yield from (f"  {command}" for command in _next(outcome))


def _next(outcome: Outcome) -> Iterator[str]:
    from mistamover.cli.main import COMMANDS

    file = shlex.quote(str(outcome.file))
    if not outcome.stream:
        yield f"mistamover init {file}"
        return
    if "check" in COMMANDS:
        yield f"mistamover check -c {file}"
    if outcome.sends:
        yield f"mistamover --one-off {file}"
    yield f"mistamover {file}"

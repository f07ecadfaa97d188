"""What `import-destinations` and `import-machines` have in common: reading one file, writing another."""

from __future__ import annotations

import argparse
import stat
from collections.abc import Sequence
from pathlib import Path

from mistamover.cli.common import emit, printable
from mistamover.errors import MistamoverError
from mistamover.files.durable import write_whole
from mistamover.jobs.legacy_registries import Found, added, as_ini


def configure(parser: argparse.ArgumentParser, description: str, epilog: str) -> None:
    """Given a command's parser and its words, add what both commands take."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description, parser.epilog = description, epilog
    parser.add_argument("file", metavar="FILE", type=Path, help="the registry")
    parser.add_argument("--into", metavar="INI", type=Path, help="put the endpoints into this file")


def content(path: Path) -> str:
    """Given a file, return its text. Raise MistamoverError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise MistamoverError(f"{printable(path)} cannot be read: {why}") from error


def give(found: Sequence[Found], into: Path | None) -> int:
    """Given endpoints, print them, or put them into a file; return 0. Raise MistamoverError."""
    if into is None:
        for line in as_ini(found).splitlines():
            emit(line)
        return 0
    text = added(content(into), found)
    try:
        write_whole(into, text.encode(), mode=stat.S_IMODE(into.stat().st_mode), owner_of=into)
    except OSError as error:
        raise MistamoverError(f"{printable(into)} cannot be written: {error.strerror or error}") from error
    emit(
        f"{printable(into)}: {len(found)} endpoints were added; `mistamover check` shows what is wrong, if anything is"
    )
    return 0

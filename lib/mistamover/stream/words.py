"""The words of a command that help is told in: in notes, in mails, in answers; a shell takes them as they are."""

from __future__ import annotations

import shlex
from pathlib import Path

from mistamover.files.names import display


def retry_command(stream: str, name: bytes | None, config: Path | None = None) -> str:
    """Given a stream, a unit in its quarantine (None for all of them) and, for words that are read elsewhere, the
    configuration file, return the command that has it tried again.
    """
    place = f" -c {shlex.quote(str(config))}" if config is not None else ""
    # A name that begins with a dash is no option.
    dashes = "-- " if name is not None and name.startswith(b"-") else ""
    what = quoted(name) if name is not None else "--all"
    return f"mistamover quarantine retry{place} {dashes}{shlex.quote(stream)} {what}"


def quoted(name: bytes) -> str:
    """Given a name, return it as a shell takes it; one that is no plain text is spelled out, byte by byte."""
    shown = display(name)
    return shlex.quote(shown) if shown.encode() == name else "$'" + "".join(f"\\x{byte:02x}" for byte in name) + "'"

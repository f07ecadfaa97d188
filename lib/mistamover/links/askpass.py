"""A password for ssh: it asks a program of ours, which reads it from the file where the operator keeps it.

So the password is on no command line and in no environment, and in no other file.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from mistamover.errors import LinkError, SecretError
from mistamover.files.durable import write_whole
from mistamover.files.private import read_private

#: Of the program's name, behind that of the socket of the connection.
SUFFIX = ".askpass"

#: ssh has other questions, too, such as whether an unknown host is to be trusted: to these the answer is no.
_SCRIPT = """#!/bin/sh
case $1 in
  *yes/no*) exit 1;;
  *[Pp]assword*) IFS= read -r line < {file} && printf '%s\\n' "$line";;
  *) exit 1;;
esac
"""


def environment(directory: Path, socket: str, file: str | None) -> Mapping[str, str]:
    """Given a private directory, the name of the connection's socket in it and the file with the password, return what
    ssh needs in its environment to ask for it; without a file nothing.

    Raise LinkError if the file cannot be used.
    """
    if file is None:
        return {}
    try:
        lines = read_private(Path(file))
    except SecretError as error:
        raise LinkError(str(error)) from None
    if not lines:
        raise LinkError(f"{file} is empty: its first line must be the password")
    program = directory.absolute() / f"{socket}{SUFFIX}"
    write_whole(program, os.fsencode(_SCRIPT.format(file=shlex.quote(file))), mode=0o700, durable=False)
    return {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}

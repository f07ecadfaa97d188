"""The password of a server's URL in [engine]: written in the URL, or on the first line of a private file beside it.

No message repeats the URL, or the password.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote

from mistamover.config.expand import Place
from mistamover.config.files import private
from mistamover.config.read import IniFile
from mistamover.config.values import Values
from mistamover.errors import SecretError
from mistamover.files.private import read_private

_ENGINE = "engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlKeys:
    """Where a URL and the file of its password are set, and how such a URL looks."""

    url: str
    password_file: str
    expected: str
    """What the URL is expected to be, for messages."""
    nameless: bool = False
    """Whether the server has a user that needs no name."""


def login_and_host(values: Values, ini: IniFile, keys: UrlKeys, parts: SplitResult) -> str:
    """Given the values of the service, the global file, the keys and the URL's parts, return `USER:PASSWORD@HOST:PORT`.

    Problems are reported to the values: two passwords, one that others can read, a file without one, or no user.
    """
    file = private(values, _ENGINE, keys.password_file)
    login, at, host = parts.netloc.rpartition("@")
    if parts.password is not None:
        _check_shown(values, ini, keys)
        if file is not None:
            message = f"is set, and {keys.url} holds a password as well, expected one of them"
            values.problem(_ENGINE, keys.password_file, message, f"take the password out of {keys.url}")
    elif file is not None:
        if not login and not keys.nameless:
            values.problem(_ENGINE, keys.url, f"names no user that {keys.password_file} is of", keys.expected)
        login, at = f"{login}:{quote(_password(values, keys, file), safe='')}", "@"
    return f"{login}{at}{host}"


def _check_shown(values: Values, ini: IniFile, keys: UrlKeys) -> None:
    """Report a password that others can read in our file."""
    entry = values.context.entry(Place(_ENGINE, keys.url))
    if ini.exposed and entry is not None and entry.file == str(ini.path):
        message = "holds a password, and others can read this file, expected a URL without one"
        hint = f"put the password into a private file, and name it in {keys.password_file}"
        values.problem(_ENGINE, keys.url, message, hint)


def _password(values: Values, keys: UrlKeys, file: Path) -> str:
    try:
        lines = read_private(file)
    except SecretError:
        # Said before: it is not private, or not there.
        return ""
    if not lines or not lines[0]:
        values.problem(_ENGINE, keys.password_file, f"{file} is empty, expected a password on its first line")
        return ""
    return lines[0]

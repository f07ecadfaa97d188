"""From checked values of [engine] to the URL of the database of jobs.

The URL may hold a password, so no message repeats it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from mistamover.config import check
from mistamover.config.read import IniFile
from mistamover.config.url_password import UrlKeys, login_and_host
from mistamover.config.values import Values, quoted

_ENGINE, _URL, _PASSWORD_FILE = "engine", "database_url", "database_password_file"
_SQLITE = "sqlite:///"
_SCHEMES = ("sqlite", "postgresql")
_DRIVER = "postgresql+psycopg"
_EXPECTED = "expected sqlite:///PATH or postgresql://USER@HOST/NAME"


def build_database_url(values: Values, ini: IniFile, directory: Path) -> str:
    """Given the values of the service, the global file and the directory of jobs, return the URL for SQLAlchemy."""
    default = f"{_SQLITE}{directory}/store.sqlite"
    url = values.text(_ENGINE, _URL)
    if url is None:
        return default
    try:
        parts = urlsplit(url)
        parts = parts._replace(scheme=parts.scheme.lower())
        good = parts.port != 0
    except ValueError:
        good = False
    if not good or "://" not in url:
        values.problem(_ENGINE, _URL, f"is not the URL of a database, {_EXPECTED}")
        return default
    if parts.scheme == "sqlite":
        return _sqlite(values, url) or default
    if parts.scheme in ("postgresql", "postgres", _DRIVER):
        return _postgresql(values, ini, parts)
    hint = check.did_you_mean(parts.scheme, _SCHEMES)
    values.problem(_ENGINE, _URL, f"the kind {quoted(parts.scheme)} of databases is not known, {_EXPECTED}", hint)
    return default


def _sqlite(values: Values, url: str) -> str | None:
    if values.is_set(_ENGINE, _PASSWORD_FILE):
        values.warn(_ENGINE, _PASSWORD_FILE, "has no effect: SQLite has no passwords", "take the key out")
    written = url[len(_SQLITE) :]
    if not url.lower().startswith(_SQLITE) or not written or "?" in url or "#" in url or written == ":memory:":
        message = "does not name a file that several processes can share, expected sqlite:///PATH"
        values.problem(_ENGINE, _URL, message)
        return None
    try:
        path = values.base / check.path(written)
    except check.CheckError as error:
        values.problem(_ENGINE, _URL, f"{error.what}, expected sqlite:///PATH")
        return None
    if not path.parent.is_dir():
        message = f"there is no directory {path.parent}, expected sqlite:///PATH with a directory that exists"
        values.problem(_ENGINE, _URL, message, "make the directory or correct the path")
    return f"{_SQLITE}{path}"


def _postgresql(values: Values, ini: IniFile, parts: SplitResult) -> str:
    if "psycopg" not in sys.modules and find_spec("psycopg") is None:
        message = "postgresql needs the package psycopg, which is not installed"
        values.problem(_ENGINE, _URL, message, "pip install mistamover[postgresql]")
    if not parts.path.strip("/"):
        values.problem(_ENGINE, _URL, f"names no database, {_EXPECTED}")
    netloc = login_and_host(values, ini, UrlKeys(url=_URL, password_file=_PASSWORD_FILE, expected=_EXPECTED), parts)
    query = f"?{parts.query}" if parts.query else ""
    return f"{_DRIVER}://{netloc}{parts.path}{query}"

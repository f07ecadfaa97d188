"""From checked values of [engine] to the URL of the message broker that tells workers of jobs.

The URL may hold a password, so no message repeats it.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from urllib.parse import SplitResult, urlsplit

from mistamover.config import check
from mistamover.config.read import IniFile
from mistamover.config.url_password import UrlKeys, login_and_host
from mistamover.config.values import Values, quoted

_ENGINE, _KIND, _URL, _PASSWORD_FILE = "engine", "kind", "broker_url", "broker_password_file"
#: Schemes, and whether they go by TLS.
SCHEMES = {"amqp": False, "amqps": True, "redis": False, "rediss": True}
_EXPECTED = "expected amqp://USER@HOST/VHOST or redis://HOST/NUMBER"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def build_broker_url(values: Values, ini: IniFile) -> str:
    """Given the values of the service and the global file, return the URL for Celery; empty without a broker."""
    url = values.text(_ENGINE, _URL) or ""
    if values.text(_ENGINE, _KIND) != "celery":
        if url:
            values.warn(_ENGINE, _URL, "has no effect: kind is embedded", "set kind = celery, or take the key out")
        return ""
    _check_installed(values)
    if not url:
        values.problem(_ENGINE, _URL, f"is not set, and kind is celery, {_EXPECTED}")
        return ""
    parts = _checked(values, url)
    return _with_password(values, ini, parts) if parts is not None else ""


def _check_installed(values: Values) -> None:
    """Report packages that are not there; they are not loaded here."""
    for package in ("celery", "redis"):
        if package not in sys.modules and find_spec(package) is None:
            message = f"celery needs the package {package}, which is not installed"
            values.problem(_ENGINE, _KIND, message, "pip install mistamover[celery]")
            return


def _checked(values: Values, url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        good = parts.port != 0 and bool(parts.hostname) and url.isascii() and " " not in url
        # Celery would take what stands behind a semicolon for another broker.
        good = good and not parts.query and not parts.fragment and ";" not in url
    except ValueError:
        good = False
    if "://" not in url or not good:
        values.problem(_ENGINE, _URL, f"is not the URL of a broker, {_EXPECTED}")
        return None
    if parts.scheme not in SCHEMES:
        hint = check.did_you_mean(parts.scheme, tuple(SCHEMES))
        values.problem(_ENGINE, _URL, f"the kind {quoted(parts.scheme)} of brokers is not known, {_EXPECTED}", hint)
        return None
    below = parts.path.strip("/")
    if parts.scheme.startswith("redis") and below and not below.isdigit():
        values.problem(_ENGINE, _URL, f"{quoted(below)} is no number of a database of Redis, {_EXPECTED}")
        return None
    return parts


def _with_password(values: Values, ini: IniFile, parts: SplitResult) -> str:
    redis = parts.scheme.startswith("redis")
    keys = UrlKeys(url=_URL, password_file=_PASSWORD_FILE, expected=_EXPECTED, nameless=redis)
    netloc = login_and_host(values, ini, keys, parts)
    secret = bool(parts.password) or values.path(_ENGINE, _PASSWORD_FILE) is not None
    if secret and not SCHEMES[parts.scheme] and parts.hostname not in _LOOPBACK:
        values.warn(_ENGINE, _URL, "the password travels in the clear", f"use {parts.scheme}s://")
    return f"{parts.scheme}://{netloc}{_path(parts)}"


def _path(parts: SplitResult) -> str:
    """Given the parts of the URL, return the path for Celery."""
    below = parts.path.strip("/")
    if parts.scheme.startswith("redis"):
        return f"/{below or 0}"
    # What stands behind the first slash is taken: `//` is the virtual host `/`.
    return parts.path if below else "//"

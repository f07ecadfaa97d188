"""The URL of an endpoint, taken apart: pure, and the same for what is written in an INI file and what comes by the API.

Never imports anything that does I/O.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

#: Schemes that all mean: by OpenSSH.
SSH = frozenset(("sftp", "scp", "ssh", "rsync"))

#: Schemes of Pacifica Archive Interfaces: behind the first word, what they are spoken to by.
PACIFICA = ("pacifica+http", "pacifica+https")

#: What is a host, and can be no option of a program.
_HOST = re.compile(r"[A-Za-z0-9_:\[][A-Za-z0-9._:%\]-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+\\$-]*")
_NETLOC = re.compile(r"(?P<scheme>[^/?#]*://)(?P<netloc>[^/?#]*)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")

#: Schemes of which the first part names no host that is connected to, but a bucket.
_WITHOUT_SERVER = re.compile(r"s3a?|gs|gcs|az|abfss?|oss|oci")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointUrl:
    """An endpoint's URL in its parts."""

    url: str
    """As written, without a password."""
    scheme: str
    """`file`, `sftp` for all that go by ssh, or the scheme itself."""
    host: str
    """Without brackets; of object stores the bucket."""
    port: int | None
    user: str
    base: str
    """Absolute, or relative to the login's home where the URL's path begins with `/~/`; of object stores what every key
    begins with, without slashes at the ends."""


def family(scheme: str) -> str:
    """Given a scheme, return the one that stands for all that mean the same."""
    scheme = scheme.lower()
    return "sftp" if scheme in SSH else scheme


def has_server(scheme: str) -> bool:
    """Given a scheme, tell whether the first part of its URLs is a host; otherwise it is a bucket."""
    return not _WITHOUT_SERVER.fullmatch(scheme)


def split(url: str) -> SplitResult:
    """Given any URL, return its parts as they are written. Raise ValueError, in words, if it is none.

    Nothing is taken away silently: what `urlsplit` would drop is refused.
    """
    if any(not character.isprintable() for character in url) or url != url.strip():
        raise ValueError("it holds blanks at its ends or characters that cannot be printed")
    parts = urlsplit(url)
    if not parts.scheme or not _SCHEME.fullmatch(parts.scheme):
        raise ValueError("it has no scheme, expected SCHEME://HOST/PATH")
    if not url[len(parts.scheme) :].startswith("://"):
        raise ValueError("expected :// behind the scheme")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("its port is no number from 1 to 65535") from None
    if port == 0:
        raise ValueError("its port is no number from 1 to 65535")
    if parts.hostname and not _HOST.fullmatch(parts.hostname):
        raise ValueError(f"{parts.hostname!r} is no host name")
    return parts


def bucket(parts: SplitResult) -> str:
    """Given the parts of an object store's URL, return the bucket: as it is written, where `hostname` is all small."""
    return parts.netloc.rpartition("@")[2]


def parsed(url: str) -> EndpointUrl:
    """Given what stands behind `url =`, return it taken apart. Raise ValueError, in words, if it can be no endpoint."""
    parts = split(url)
    if parts.query or parts.fragment:
        raise ValueError("an endpoint's URL has no ? and no # (write %3F and %23 where they belong to a name)")
    scheme, host = family(parts.scheme), parts.hostname or ""
    if not has_server(scheme):
        host = bucket(parts)
    user = os.fsdecode(unquote_to_bytes(parts.username or ""))
    if user and not _USER.fullmatch(user):
        raise ValueError(f"{user!r} is no user name")
    if scheme == "file" and host not in ("", "localhost"):
        raise ValueError("a file:// URL has no host: expected file:///DIRECTORY, with three slashes")
    if scheme != "file" and not host:
        raise ValueError("it names no host")
    return EndpointUrl(
        url=without_password(url),
        scheme=scheme,
        host="" if scheme == "file" else host,
        port=parts.port,
        user=user,
        base=_base(scheme, parts.path),
    )


def without_password(url: str) -> str:
    """Given a URL, return it without a password; the user stays."""
    return _with_login(url, lambda login: login.partition(":")[0])


def without_login(url: str) -> str:
    """Given a URL, return it without user and password."""
    return _with_login(url, lambda _: "")


def below(url: str, base: str, encoded: str) -> str:
    """Given an endpoint's URL and base, and an encoded path below that, return the URL of the path."""
    match = _NETLOC.match(url)
    home = match is not None and family(match["scheme"].partition(":")[0]) == "sftp" and not base.startswith("/")
    parts = ["~" if home else "", quote(os.fsencode(base)).strip("/").removeprefix("."), encoded]
    return "/".join([match[0] if match else "", *filter(None, parts)])


def _with_login(url: str, change: Callable[[str], str]) -> str:
    match = _NETLOC.match(url)
    if match is None:
        return url
    login, _, host = match["netloc"].rpartition("@")
    login = change(login)
    return f"{match['scheme']}{login}{'@' if login else ''}{host}{url[match.end() :]}"


def _base(scheme: str, written: str) -> str:
    path = os.fsdecode(unquote_to_bytes(written))
    if "\0" in path:
        raise ValueError("its path holds a zero byte")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("its path holds `..`: write where it leads to")
    if scheme == "file" and not path.startswith("/"):
        raise ValueError("expected an absolute directory: file:///DIRECTORY")
    if not has_server(scheme):
        return "/".join(parts)
    if scheme == "sftp" and parts[:1] == ["~"]:
        return "/".join(parts[1:]) or "."
    return "/" + "/".join(parts)

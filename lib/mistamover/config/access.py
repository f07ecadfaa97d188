"""How to get at a target: what only one protocol needs, frozen, a class for each.

As `settings`, which holds what all protocols have in common.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from pathlib import Path


class Tls(enum.Enum):
    """How the way to a server is encrypted."""

    NONE = "none"
    STARTTLS = "starttls"  # begins in the clear, and goes on encrypted or not at all
    TLS = "tls"  # from the first byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to get at a target, where that is not by ssh: each protocol that needs anything has a class of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FtpAccess(Access):
    """How to get in by ftp and ftps."""

    port: int
    tls: Tls
    """STARTTLS: it begins in the clear, and goes on encrypted (AUTH TLS) or not at all."""
    ca_file: Path | None
    username: str
    password: str | None = field(repr=False)
    password_file: Path | None
    passive: bool
    """The server opens a port for data; otherwise we do."""
    connect_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeAccess(Access):
    """How to get at an rsync daemon."""

    rsync: tuple[str, ...]
    host: str
    port: int | None
    username: str | None
    password: str = field(repr=False)
    """Empty where there is none, or it is in a file."""
    password_file: Path | None
    use_checksum: bool
    bandwidth_limit: str | None
    """As that of `SshSettings`."""
    connect_timeout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionAccess(Access):
    """What the protocol of another package is told."""

    options: tuple[tuple[str, str], ...]
    """Names and values, as written."""
    secret_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Access(Access):
    """How to get at a bucket of an S3 store."""

    bucket: str
    prefix: str
    """What every key begins with: empty, or it ends with `/`."""
    endpoint_url: str | None
    region: str | None
    profile: str | None
    secret_file: Path | None
    """The id of the key and the secret, a line each; None leaves it to what Amazon's own programs look at."""
    ca_file: Path | None
    addressing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlAccess(Access):
    """How to get at a filesystem of fsspec."""

    url: str
    """It holds no password."""
    renames: bool
    """A file can be renamed over another in one step; else what is written appears when it is complete."""
    parents: bool
    """Directories must be there before something is written into them; else names have theirs in them."""
    options_file: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFtpAccess(Access):
    """How globus-url-copy is called, and by what it logs in."""

    cmd: tuple[str, ...]
    port: int
    username: str | None
    proxy_server: str | None
    """The host of the MyProxy server; None makes a proxy of the user's own certificate."""
    password: str = field(repr=False)
    """Of the key, or at the MyProxy server; empty where there is none, or it is in a file."""
    password_file: Path | None

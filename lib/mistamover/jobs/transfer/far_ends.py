"""From an endpoint's settings to what holds its files: the far ends of the transports, each with what it needs.

Imports a transport only when an endpoint of its kind is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mistamover.config.access import FtpAccess, S3Access, Tls, UrlAccess
from mistamover.config.serving import EndpointSettings
from mistamover.config.settings import SshSettings, TargetSettings
from mistamover.errors import TargetError
from mistamover.links.link import Link
from mistamover.transport.calls import Calls
from mistamover.transport.far import FarFiles
from mistamover.transport.sftp_link import SftpLink

#: Seconds for a connection, and for a login with all that belongs to it.
CONNECT = 20.0
_LOGIN = 120.0

_FTP_PORT, _FTPS_PORT = 21, 990

#: Schemes of fsspec whose filesystems rename in one step, and those whose objects appear when they are whole.
_RENAMING = frozenset(("ssh", "hdfs", "webhdfs", "smb"))
_WHOLE = frozenset(("s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "oci"))


@dataclass(frozen=True, slots=True, kw_only=True)
class FarEnd:
    """How an endpoint is opened."""

    make: Callable[[], FarFiles]
    """Returns an object that is not connected yet."""
    target: TargetSettings
    link: SftpLink | None = None
    """The way there, where that is by ssh."""
    close: Callable[[], None] = lambda: None
    """Ends what all connections have in common."""


def far_end(endpoint: EndpointSettings, run_dir: Path, links_dir: Path) -> FarEnd:
    """Given an endpoint, a private directory of its own here, and that of shared connections, return how it is opened.

    Raise TargetError if nothing can be written to and read from such an endpoint.
    """
    target = _target(endpoint)
    match endpoint.scheme:
        case "file":
            from mistamover.transport.local_streaming import StreamingLocal

            return FarEnd(make=lambda: StreamingLocal(endpoint.base), target=target)
        case "sftp":
            from mistamover.transport.sftp_streaming import StreamingSftp

            link = _KeptLink(target, run_dir, links_dir)
            return FarEnd(make=lambda: StreamingSftp(link, target), target=target, link=link, close=link.close)
        case "ftp" | "ftps":
            from mistamover.transport.ftp_files import FtpFiles

            access = _ftp(endpoint)
            return FarEnd(make=lambda: FtpFiles(target, access), target=target)
        case "s3":
            from mistamover.transport.s3 import S3Files, Store

            bucket = _s3(endpoint)
            store = Store(bucket)
            return FarEnd(make=lambda: S3Files(bucket, store), target=target)
        case "http" | "https" | "pacifica+http" | "pacifica+https":
            raise TargetError(f"the endpoint {endpoint.name} is read by {endpoint.scheme}, and only as a whole file")
        case _:
            from mistamover.transport.objects import FsspecFiles

            place = _url(endpoint)
            return FarEnd(make=lambda: FsspecFiles(place), target=target)


class _KeptLink(SftpLink):
    """An ssh connection that outlives the thread that needed it first.

    The kernel ends ssh with the thread that has started it; here that is one that waits for nothing else.
    """

    def __init__(self, target: TargetSettings, run_dir: Path, links_dir: Path) -> None:
        super().__init__(target, run_dir, links_dir)
        self._keeper = Calls(f"ssh {target.name}")

    def _open(self) -> Link:
        return self._keeper.run(_LOGIN, super()._open)

    def close(self) -> None:
        """Make no connection any more."""
        self._keeper.close()


def _target(endpoint: EndpointSettings) -> TargetSettings:
    trusting = ("-o", "StrictHostKeyChecking=accept-new") if endpoint.accept_new_host_keys else ()
    return TargetSettings(
        name=endpoint.name,
        protocol=endpoint.scheme,
        host=endpoint.host,
        directory=endpoint.base or "/",
        stop_file="",
        stop_file_poll_interval=0.0,
        required=True,
        hash="sha256",
        ssh=SshSettings(
            rsync=("rsync",),
            ssh=("ssh", *trusting),
            username=endpoint.user or None,
            port=endpoint.port,
            identity_file=endpoint.identity_file,
            ssh_config=endpoint.ssh_config,
            use_checksum=False,
            bandwidth_limit=None,
            ciphers=None,
            compress=False,
            connect_timeout=CONNECT,
            express=False,
            password_file=endpoint.password_file,
        ),
    )


def _ftp(endpoint: EndpointSettings) -> FtpAccess:
    implicit = endpoint.scheme == "ftps" and endpoint.options.get("implicit", "").lower() in ("true", "yes", "1")
    secure = Tls.TLS if implicit else Tls.STARTTLS
    return FtpAccess(
        port=endpoint.port or (_FTPS_PORT if implicit else _FTP_PORT),
        tls=secure if endpoint.scheme == "ftps" else Tls.NONE,
        ca_file=_path(endpoint, "ca_file"),
        username=endpoint.user or "anonymous",
        password=None,
        password_file=endpoint.password_file,
        passive=endpoint.options.get("passive", "").lower() not in ("false", "no", "0"),
        connect_timeout=CONNECT,
    )


def _s3(endpoint: EndpointSettings) -> S3Access:
    store = endpoint.options.get("endpoint_url")
    return S3Access(
        bucket=endpoint.host,
        prefix=f"{endpoint.base}/" if endpoint.base else "",
        endpoint_url=store,
        region=endpoint.options.get("region"),
        profile=endpoint.options.get("profile"),
        secret_file=endpoint.password_file,
        ca_file=_path(endpoint, "ca_file"),
        addressing=endpoint.options.get("addressing") or ("path" if store else "auto"),
    )


def _url(endpoint: EndpointSettings) -> UrlAccess:
    atomic = endpoint.options.get("atomic") or ("rename" if endpoint.scheme in _RENAMING else "")
    if not atomic and endpoint.scheme not in _WHOLE:
        words = (
            f"the endpoint {endpoint.name} has the scheme {endpoint.scheme}: it is not known how a file appears there"
        )
        raise TargetError(f"{words}, set options = atomic=rename or atomic=whole")
    return UrlAccess(
        url=endpoint.url.rstrip("/"),
        renames=atomic == "rename",
        parents=endpoint.scheme not in _WHOLE,
        options_file=endpoint.password_file,
    )


def _path(endpoint: EndpointSettings, option: str) -> Path | None:
    value = endpoint.options.get(option)
    return Path(value) if value else None

"""How to get in at a target that only keeps files: the settings of sftp, ftp and ftps from checked values."""

from __future__ import annotations

import ipaddress

from mistamover.config.access import FtpAccess, Tls
from mistamover.config.files import private, there
from mistamover.config.settings import SshSettings
from mistamover.config.values import Values

_OUT, _SFTP, _FTP, _FTPS = "outgoing", "sftp", "ftp", "ftps"
_PORT, _IMPLICIT_PORT = 21, 990


def sftp(values: Values) -> SshSettings:
    """Given the values of a stream, return how ssh is called for sftp."""
    return SshSettings(
        rsync=("rsync",),
        ssh=("ssh",),
        username=values.text(_SFTP, "username"),
        port=values.whole(_SFTP, "port"),
        identity_file=there(values, _SFTP, "identity_file"),
        ssh_config=there(values, _SFTP, "ssh_config"),
        use_checksum=False,
        bandwidth_limit=None,
        ciphers=None,
        compress=False,
        connect_timeout=values.amount(_SFTP, "connect_timeout"),
        express=False,
        password_file=private(values, _SFTP, "password_file"),
    )


def ftp(values: Values) -> FtpAccess:
    """Given the values of a stream, return how to get in by ftp."""
    if values.has(_FTP, "cmd"):
        values.warn(_FTP, "cmd", "has no effect: no program is run for ftp", "take the key out")
    access = _access(values, _FTP, Tls.NONE)
    host = values.text(_OUT, "target_host") or ""
    if (access.password or access.password_file) and host and not _is_here(host):
        key = "password" if access.password else "password_file"
        message = f"the password and all data travel to {host} in the clear, where others may read them"
        values.warn(_FTP, key, message, "use ftps or sftp if the server has it")
    return access


def ftps(values: Values) -> FtpAccess:
    """Given the values of a stream, return how to get in by ftps."""
    return _access(values, _FTPS, Tls.TLS if values.flag(_FTPS, "implicit") else Tls.STARTTLS)


def _access(values: Values, section: str, tls: Tls) -> FtpAccess:
    password, file = values.text(section, "password"), private(values, section, "password_file")
    if password and file:
        values.problem(section, "password_file", "and password are both set, expected one of them", "take one out")
    return FtpAccess(
        port=values.whole(section, "port") or (_IMPLICIT_PORT if tls is Tls.TLS else _PORT),
        tls=tls,
        ca_file=there(values, section, "ca_file") if tls is not Tls.NONE else None,
        username=values.text(section, "username") or "anonymous",
        password=password,
        password_file=file,
        passive=values.flag(section, "passive"),
        connect_timeout=values.amount(section, "connect_timeout"),
    )


def _is_here(host: str) -> bool:
    """Whether a host is this one, whose wires nobody taps."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

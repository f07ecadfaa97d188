"""From checked values of [gridftp_certificate] and [gridftp_myproxy] to the settings of targets by GridFTP."""

from __future__ import annotations

import os
import shutil

from mistamover.config.access import GridFtpAccess
from mistamover.config.files import private
from mistamover.config.values import Values

_CERTIFICATE, _MYPROXY = "gridftp_certificate", "gridftp_myproxy"
_PORT = 2811

#: What carries content, and what does the rest.
_COPY, _OTHERS = "globus-url-copy", "gfal-rename"


def certificate(values: Values) -> GridFtpAccess:
    """Given the values of a stream, return how to get in by a certificate of one's own."""
    return _access(values, _CERTIFICATE, username=None, server=None)


def myproxy(values: Values) -> GridFtpAccess:
    """Given the values of a stream, return how to get in by a MyProxy server."""
    values.require(_MYPROXY, "proxy", "the host of the MyProxy server")
    values.require(_MYPROXY, "username", "the name to log in with at the MyProxy server")
    if not values.is_set(_MYPROXY, "password_file"):
        values.require(_MYPROXY, "password", "the password at the MyProxy server, here or in password_file")
    return _access(
        values,
        _MYPROXY,
        username=values.text(_MYPROXY, "username"),
        server=values.text(_MYPROXY, "proxy"),
    )


def _access(values: Values, section: str, *, username: str | None, server: str | None) -> GridFtpAccess:
    password, file = values.text(section, "password") or "", private(values, section, "password_file")
    if password and file is not None:
        values.problem(section, "password_file", "and password are both set, expected one of them", "take one out")
    cmd = values.words(section, "cmd") or (_COPY,)
    needed = [cmd[0], _OTHERS]
    if password or file is not None:
        needed.append("myproxy-logon" if section == _MYPROXY else "grid-proxy-init")
    for program in needed:
        if _found(program) is None:
            message = f"{program} is not installed, expected the programs of the Grid Community Toolkit and gfal2-util"
            hint = "install them, or use another protocol: sftp, rsync_ssh, or s3"
            values.problem("outgoing", "transfer_protocol", message, hint)
    return GridFtpAccess(
        cmd=cmd,
        port=values.whole(section, "port") or _PORT,
        username=username,
        proxy_server=server,
        password=password,
        password_file=file,
    )


def _found(program: str) -> str | None:
    home = os.environ.get("GLOBUS_LOCATION")
    return shutil.which(program) or (shutil.which(program, path=f"{home}/bin") if home else None)

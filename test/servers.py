"""Sites whose streams deliver to servers that only keep files: how each protocol is configured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import laws
from mistamover.testing.ftpd import PASSWORD, USER, PrivateFtpd
from mistamover.testing.sshd import PrivateSshd
from support import Site, Stream, merged

#: A server, and its protocol is known by it.
Server = PrivateSshd | PrivateFtpd


def protocol(server: Server) -> str:
    """Return the protocol by which a server is delivered to."""
    if isinstance(server, PrivateSshd):
        return "sftp"
    return "ftps" if server.certificate else "ftp"


def sections(server: Server, **more: object) -> dict[str, dict[str, object]]:
    """Given a server and keys of its protocol's section, return the sections that deliver to it."""
    name = protocol(server)
    keys: dict[str, object] = {"connect_timeout": 5}
    if isinstance(server, PrivateSshd):
        keys |= {"ssh_config": server.ssh_config, "username": server.user}
    else:
        keys |= {"port": server.port, "username": USER, "password": PASSWORD, "ca_file": server.certificate}
        if name == "ftp":
            del keys["ca_file"]
    return {"outgoing": {"transfer_protocol": name, "target_host": server.host}, name: {**keys, **more}}


def make(scratch: Path, server: Server, *, keys: dict[str, object] | None = None, **more: Any) -> tuple[Site, Stream]:
    """Given a directory, a server, keys of its protocol's section and other sections, return a site with one stream."""
    return laws.make(scratch, None, **merged(sections(server, **(keys or {})), more))  # type: ignore[arg-type]

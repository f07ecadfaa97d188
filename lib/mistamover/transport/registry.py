"""Which transport serves which protocol: by name, imported when a stream that uses it starts.

A package of somebody else's adds one by an entry point of the group `mistamover.transports`: its name is that of the
protocol, its value a function like those named here (see `Maker`).
"""

from __future__ import annotations

import importlib
from typing import Protocol

from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.config.targets import GROUP
from mistamover.transport.base import Transport

#: Module and function, by the name of the protocol.
_MAKERS = {
    "rsync_ssh": "mistamover.transport.rsync_bridge:make",
    "rsync_native": "mistamover.transport.rsync_only:make",
    "sftp": "mistamover.transport.sftp_files:make",
    "ftp": "mistamover.transport.ftp_files:make",
    "ftps": "mistamover.transport.ftp_files:make",
    "local": "mistamover.transport.local:make",
    "s3": "mistamover.transport.s3:make",
    "url": "mistamover.transport.objects:make",
    "gridftp_certificate": "mistamover.transport.gridftp:make",
    "gridftp_myproxy": "mistamover.transport.gridftp:make",
}


class Maker(Protocol):
    """Makes the transport for one target of one stream; connects to nothing yet."""

    def __call__(self, stream: StreamSettings, target: TargetSettings, owner: str) -> Transport:
        """Given a stream, one of its targets, and a name at the target that is this stream's alone, return it."""


def maker(protocol: str) -> Maker:
    """Given a protocol's name, return what makes its transports. Raise LookupError if there is none."""
    if protocol not in _MAKERS:
        from importlib.metadata import entry_points

        for point in entry_points(group=GROUP, name=protocol):
            found: Maker = point.load()
            return found
        raise LookupError(f"no transport serves the protocol {protocol}")
    module, _, function = _MAKERS[protocol].partition(":")
    found = getattr(importlib.import_module(module), function)
    return found


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> Transport:
    """Given a stream, one of its targets, and a name that is the stream's alone, return the transport for it."""
    return maker(target.protocol)(stream, target, owner)

"""Telling systemd how the service is; see sd_notify(3)."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger(__name__)


def notify(message: str) -> None:
    """Given a message such as `READY=1`, send it to the service manager, if one asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.sendto(message.encode(), address)
    except OSError as error:
        logger.warning("cannot notify the service manager: %s", error)

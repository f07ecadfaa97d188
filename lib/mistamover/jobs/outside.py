"""The world outside: which hosts may be connected to, and the connections themselves, to an address that was checked.

A name is looked up once, all its addresses are judged, and the connection goes to one of these: a name server that
gives another answer a moment later changes nothing.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any

from mistamover.errors import JobRefused
from mistamover.jobs import lines

#: Seconds for a connection, and for each answer.
CONNECT = 20.0
ANSWER = 60.0

#: What carries an address of the old kind in its last part: see RFC 6052, RFC 4291 (2.5.5.1), RFC 2765.
_CARRYING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")))

#: Where the addresses of hosts of the Internet are, see RFC 4291 (2.4); what else there is leads somewhere near.
_WORLD = ipaddress.IPv6Network("2000::/3")

#: Of those that the library, depending on its version, takes for addresses of the Internet: protocols' own, relays that
#: are given up, documentation.
_SPECIAL = tuple(map(ipaddress.ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "3fff::/20")))

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where a request goes."""

    scheme: str
    """`http` or `https`."""
    host: str
    port: int | None = None

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a login is good for, and no other."""
        return self.scheme, self.host.lower(), self.port or _PORTS[self.scheme]


def is_public(address: str) -> bool:
    """Given an IP address, tell whether it is one of the Internet, and not of a private network or this host."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and any(found in network for network in _CARRYING):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
        elif found not in _WORLD:
            return False
    special = any(found in network for network in _SPECIAL if network.version == found.version)
    return found.is_global and not found.is_multicast and not special


def addresses(host: str, port: int, *, private: bool) -> list[tuple[Any, ...]]:
    """Given a host and a port, and whether private addresses are allowed, return what `getaddrinfo` says of it.

    Raise OSError if it has no address, JobRefused (`private-address`) if one of them is not allowed.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, address in found:
        if not private and not is_public(str(address[0])):
            words = f"{host} has an address of a private network or of this host: see [front] allow_private_addresses"
            raise JobRefused("private-address", words)
    return list(found)


def connection(server: Server, *, private: bool, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """Given a server, and whether private addresses are allowed, return a connection to it that is open.

    Certificates are checked by the system's authorities, unless a context says by which.  Raise OSError, JobRefused.
    """
    port = server.port or _PORTS[server.scheme]
    sock = _connected(addresses(server.host, port, private=private))
    try:
        sock.settimeout(ANSWER)
        if server.scheme == "https":
            context = context or ssl.create_default_context()
            # It cannot be cut in between: that is short, and its time is limited.
            sock = context.wrap_socket(sock, server_hostname=server.host)
            lines.note(sock, lines.shut)
    except BaseException:
        sock.close()
        raise
    kind = http.client.HTTPSConnection if server.scheme == "https" else http.client.HTTPConnection
    made = kind(server.host, port, timeout=ANSWER)
    made.sock = sock
    # Never another one behind our back: that would look the name up again.
    made.auto_open = 0
    return made


def _connected(found: list[tuple[Any, ...]]) -> socket.socket:
    last: OSError | None = None
    deadline = time.monotonic() + CONNECT
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        lines.note(sock, lines.shut)
        try:
            sock.settimeout(max(1.0, deadline - time.monotonic()))
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
            if time.monotonic() >= deadline:
                break
        else:
            return sock
    raise last or OSError("it has no address")

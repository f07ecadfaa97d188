"""From checked values of [notify] amqp_... to the settings of a message broker."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from string import Formatter
from urllib.parse import SplitResult, unquote, urlsplit

from mistamover.config import check
from mistamover.config.files import private, there
from mistamover.config.settings import AmqpSettings
from mistamover.config.values import Values, quoted

_SECTION = "notify"
_PORTS = {"amqp": 5672, "amqps": 5671}
_GUEST = "guest"
_EXPECTED = "expected amqp://USER@HOST:PORT/VHOST or amqps://..."
_FIELDS = ("stream", "event")

#: Bytes that AMQP allows for a name, and what a routing key needs for the fields besides the name of the stream.
_LONGEST_NAME = 127
_LONGEST_KEY = 200


def build_amqp(values: Values, events: tuple[str, ...]) -> AmqpSettings | None:
    """Given the values of the service and the events that are wanted, return the settings; None without a broker."""
    url = values.text(_SECTION, "amqp_url")
    if not url:
        return None
    if not _installed():
        values.problem(
            _SECTION, "amqp_url", "needs the package kombu, which is not installed", "pip install mistamover[amqp]"
        )
    parts = _checked(values, url)
    if parts is None or parts.hostname is None:
        return None
    tls = parts.scheme == "amqps"
    password_file = private(values, _SECTION, "amqp_password_file")
    user = unquote(parts.username or "") or _GUEST
    if password_file is None and user != _GUEST:
        values.problem(_SECTION, "amqp_url", f"names the user {quoted(user)}, expected amqp_password_file as well")
    if password_file is not None and not tls and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        values.warn(_SECTION, "amqp_url", "the password travels in the clear", "use amqps://")
    return AmqpSettings(
        host=parts.hostname,
        port=parts.port or _PORTS[parts.scheme],
        tls=tls,
        vhost=unquote(parts.path[1:]) or "/",
        user=user,
        password_file=password_file,
        ca_file=there(values, _SECTION, "ca_file"),
        exchange=_exchange(values),
        routing_key=_routing_key(values),
        mandatory=values.flag(_SECTION, "amqp_mandatory"),
        events=events,
    )


def _installed() -> bool:
    """Whether the library is there; it is not loaded here.  Once it is loaded it has no spec to be found."""
    return "kombu" in sys.modules or find_spec("kombu") is not None


def _checked(values: Values, url: str) -> SplitResult | None:
    """Return the parts of the URL, or None; the value is not repeated in a report where it may hold a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        values.problem(_SECTION, "amqp_url", f"is not a URL, {_EXPECTED}")
        return None
    if parts.password is not None:
        message = f"holds a password, {_EXPECTED} without one"
        values.problem(_SECTION, "amqp_url", message, "put the password into amqp_password_file")
        return None
    good = parts.scheme in _PORTS and port != 0 and url.isascii() and " " not in url
    if not good or "/" in parts.path[1:] or parts.query or parts.fragment or not _is_host(parts.hostname):
        values.problem(_SECTION, "amqp_url", f"{quoted(url)} is not the URL of a broker, {_EXPECTED}")
        return None
    return parts


def _is_host(host: str | None) -> bool:
    try:
        return bool(check.host(host or ""))
    except check.CheckError:
        return False


def _exchange(values: Values) -> str:
    exchange = values.text(_SECTION, "amqp_exchange") or ""
    if not exchange or not exchange.isascii() or len(exchange) > _LONGEST_NAME:
        message = f"{quoted(exchange)} is no name of an exchange, expected up to {_LONGEST_NAME} ASCII characters"
        values.problem(_SECTION, "amqp_exchange", message)
    return exchange


def _routing_key(values: Values) -> str:
    key = values.text(_SECTION, "amqp_routing_key") or ""
    try:
        fields = [(name, specification, how) for _, name, specification, how in Formatter().parse(key)]
    except ValueError:
        fields = [("", None, None)]
    plain = all(
        name is None or (name in _FIELDS and not specification and not how) for name, specification, how in fields
    )
    if not key or not plain or not key.isascii() or len(key) > _LONGEST_KEY:
        message = (
            f"{quoted(key)} is no routing key, expected up to {_LONGEST_KEY} ASCII characters with no fields but "
            "{stream} and {event}"
        )
        values.problem(_SECTION, "amqp_routing_key", message)
    return key


def _plain(template: str) -> bool:
    """Whether nothing is to be filled in but our fields, as they are."""
    try:
        parsed = list(Formatter().parse(template))
    except ValueError:
        return False
    return all(name is None or (name in _FIELDS and not how and not kind) for _, name, how, kind in parsed)

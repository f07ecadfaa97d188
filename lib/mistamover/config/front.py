"""From checked values of [front], [engine], [carts] and [ala] to the settings of the job front.

Looks at the file system only to see whether a named file is there, and private where it must be.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from pathlib import Path

from mistamover.config import check, schema
from mistamover.config.broker import build_broker_url
from mistamover.config.carts import CARTS, build_carts
from mistamover.config.database import build_database_url
from mistamover.config.endpoints import build_endpoints, is_name
from mistamover.config.entries import ENDPOINTS_IN
from mistamover.config.expand import Place
from mistamover.config.files import private, there
from mistamover.config.read import IniFile
from mistamover.config.serving import EndpointSettings, EngineSettings, FrontSettings, JobSettings
from mistamover.config.values import Values, quoted

DIALECTS = ("rest", "xmlrpc", "dm", "msm", "cart")

_FRONT, _ENGINE, _ALA = "front", "engine", "ala"
_SECTIONS = (_FRONT, _ENGINE, ENDPOINTS_IN, CARTS, _ALA)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_MIB = 1 << 20


def build_jobs(values: Values, ini: IniFile, log_dir: Path) -> JobSettings | None:
    """Given the values of the service, the global file and the log directory, return the settings of the job front.

    None where neither the file nor the environment says anything of jobs.
    """
    if not _is_mentioned(values, ini):
        return None
    state_dir = values.path("global", "state_dir") or values.file.parent
    directory = state_dir / "jobs"
    own = (state_dir, log_dir, values.file)
    carts, endpoints = build_carts(values, directory, build_endpoints(values, ini, own), own)
    return JobSettings(
        enabled=values.flag(_FRONT, "enabled"),
        directory=directory,
        front=_front(values, endpoints),
        engine=EngineSettings(
            database_url=build_database_url(values, ini, directory),
            kind=values.text(_ENGINE, "kind") or "embedded",
            broker_url=build_broker_url(values, ini),
            broker_ca_file=there(values, _ENGINE, "broker_ca_file"),
            announce_again=values.amount(_ENGINE, "announce_again"),
            groups=_groups(values),
            groups_only=values.flag(_ENGINE, "groups_only"),
            threads=values.whole(_ENGINE, "threads") or 1,
            owner_max_running=values.whole(_ENGINE, "owner_max_running") or 0,
            lease=values.amount(_ENGINE, "lease"),
            retry_count=values.whole(_ENGINE, "retry_count") or 0,
            retry_pause=values.amount(_ENGINE, "retry_pause"),
            give_up_after=values.amount(_ENGINE, "give_up_after"),
            retention=values.amount(_ENGINE, "retention"),
            callback_secret_file=private(values, "notify", "secret_file"),
            callback_ca_file=there(values, "notify", "ca_file"),
        ),
        carts=carts,
        endpoints=endpoints,
    )


def is_loopback(host: str) -> bool:
    """Given a host to listen on, return whether nobody but this host's own programs can reach it."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _groups(values: Values) -> tuple[str, ...]:
    """Return the groups of workers that ours are of."""
    groups = tuple(dict.fromkeys(values.words(_ENGINE, "groups")))
    for group in groups:
        if not is_name(group):
            message = f"{quoted(group)} is no name of a group, expected letters, digits, dots, dashes and underscores"
            values.problem(_ENGINE, "groups", message)
    if not groups and values.flag(_ENGINE, "groups_only"):
        message = "is True, and no groups are set: only content that is put here would be moved, expected groups"
        values.problem(_ENGINE, "groups_only", message, "set groups, or take the key out")
    return groups


def _is_mentioned(values: Values, ini: IniFile) -> bool:
    places = (Place(section, key) for section in _SECTIONS for key in schema.keys(section))
    return any(section in ini.config for section in _SECTIONS) or any(map(values.context.own, places))


def _front(values: Values, endpoints: Sequence[EndpointSettings]) -> FrontSettings:
    host = values.text(_FRONT, "host") or "127.0.0.1"
    certificate, key = _certificate(values)
    _check_safety(values, host, certificate)
    return FrontSettings(
        host=host.strip("[]"),
        port=values.whole(_FRONT, "port") or 0,
        anonymous=values.text(_FRONT, "anonymous") or "none",
        certificate=certificate,
        certificate_key=key,
        behind_proxy=values.flag(_FRONT, "behind_proxy"),
        dialects=_dialects(values),
        carts_at_root=values.flag(_FRONT, "carts_at_root"),
        cart_dialect=values.text(_FRONT, "cart_dialect") or "seed",
        url_schemes=_schemes(values),
        url_hosts=tuple(pattern.lower() for pattern in values.words(_FRONT, "url_hosts")),
        allow_private_addresses=values.flag(_FRONT, "allow_private_addresses"),
        max_request=int(values.amount(_FRONT, "max_request") * _MIB),
        max_content=int(values.amount(_FRONT, "max_content") * _MIB),
        max_items=values.whole(_FRONT, "max_items") or 1,
        max_unfinished=values.whole(_FRONT, "max_unfinished") or 1,
        requests_per_second=values.amount(_FRONT, "requests_per_second"),
        sync_timeout=values.amount(_FRONT, "sync_timeout"),
        datamanager_dialect=values.text(_FRONT, "datamanager_dialect") or "seed",
        xmlrpc_forget_completed=values.flag(_FRONT, "xmlrpc_forget_completed"),
        ala_destination=_ala_destination(values, endpoints),
        ala_occurrence_url=_ala_url(values, "occurrence_url"),
        ala_metadata_url=_ala_url(values, "metadata_url"),
        ala_sleep_time=values.amount(_ALA, "sleep_time"),
    )


def _certificate(values: Values) -> tuple[Path | None, Path | None]:
    """Return the files of the certificate and of its key; the key is private, in whatever file it is."""
    if values.path(_FRONT, "certificate_key") is None:
        return private(values, _FRONT, "certificate"), None
    if values.path(_FRONT, "certificate") is None:
        message = "is set, and certificate is not, expected both"
        values.problem(_FRONT, "certificate_key", message, "set certificate to the file of the certificate")
    return there(values, _FRONT, "certificate"), private(values, _FRONT, "certificate_key")


def _check_safety(values: Values, host: str, certificate: Path | None) -> None:
    """Report what would let in others than those who may come in."""
    anonymous, proxied, here = values.text(_FRONT, "anonymous"), values.flag(_FRONT, "behind_proxy"), is_loopback(host)
    make_tokens = "set anonymous = none, and make tokens by: mistamover token create NAME --scope submit"
    if anonymous != "none" and not here:
        message = f"is {anonymous}, and host = {host} can be reached by others, expected none"
        values.problem(_FRONT, "anonymous", message, make_tokens)
    elif anonymous != "none" and proxied:
        message = f"is {anonymous}, and others can reach the front by the proxy (behind_proxy = True), expected none"
        values.problem(_FRONT, "anonymous", message, make_tokens)
    if not here and not proxied and not values.is_set(_FRONT, "certificate"):
        message = (
            f"{host} can be reached by others, and tokens and data would travel in the clear, expected certificate or "
            "behind_proxy = True with it"
        )
        hint = "set certificate, or let a proxy that speaks TLS stand before the front, or listen on 127.0.0.1"
        values.problem(_FRONT, "host", message, hint)


def _dialects(values: Values) -> tuple[str, ...]:
    written = tuple(word.lower() for word in values.words(_FRONT, "dialects"))
    for word in written:
        if word not in DIALECTS:
            hint = check.did_you_mean(word, DIALECTS)
            message = f"{quoted(word)} is not known, expected some of {', '.join(DIALECTS)}"
            values.problem(_FRONT, "dialects", message, hint)
    return tuple(dialect for dialect in DIALECTS if dialect in written)


def _schemes(values: Values) -> tuple[str, ...]:
    schemes = tuple(word.lower().removesuffix("://") for word in values.words(_FRONT, "url_schemes"))
    for scheme in schemes:
        if scheme in ("file", "local"):
            message = f"{scheme} would open every file of this host to clients, expected schemes of other hosts"
            values.problem(
                _FRONT, "url_schemes", message, "make the directory an endpoint with url = file:///DIRECTORY"
            )
        elif not _SCHEME.fullmatch(scheme):
            message = f"{quoted(scheme)} is not the scheme of a URL, expected words such as http https"
            values.problem(_FRONT, "url_schemes", message)
    return schemes


def _ala_destination(values: Values, endpoints: Sequence[EndpointSettings]) -> str:
    written = (values.text(_ALA, "destination") or "").strip("/")
    name = written.partition("/")[0]
    known = [endpoint.name for endpoint in endpoints]
    if name and name not in known:
        message = f"{quoted(name)} is not an endpoint of this file"
        hint = check.did_you_mean(name, known) or "the calls are refused until there is one of that name"
        values.warn(_ALA, "destination", message, hint)
    if ".." in written.split("/"):
        values.problem(_ALA, "destination", f"{quoted(written)} leads upwards, expected ENDPOINT/directory")
    return written


def _ala_url(values: Values, key: str) -> str:
    url = values.text(_ALA, key) or ""
    if url and not url.startswith(("http://", "https://")):
        message = f"{quoted(url)} is not a URL to load from, expected http://HOST/... or https://HOST/..."
        values.problem(_ALA, key, message)
    return url

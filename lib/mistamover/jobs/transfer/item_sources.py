"""Opening what an item comes from, wherever that is."""

from __future__ import annotations

import contextlib
import random
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from mistamover.config import endpoint_urls
from mistamover.config.serving import EndpointSettings
from mistamover.errors import LinkError, SecretError, TransportError
from mistamover.files.private import read_private
from mistamover.jobs import options, outside, paths, spool
from mistamover.jobs.model import Claim, Item, Location, Source
from mistamover.jobs.store.rows import host_key
from mistamover.jobs.transfer import origins
from mistamover.jobs.transfer.archive_interface import ArchiveInterface, ArchiveOrigin
from mistamover.jobs.transfer.context import Context
from mistamover.jobs.transfer.faults import Trouble, trouble
from mistamover.jobs.transfer.fetching import Login, Rules, WebOrigin
from mistamover.jobs.transfer.origins import Origin
from mistamover.jobs.transfer.places import Place, Visit
from mistamover.jobs.transfer.staging import next_look
from mistamover.model import FaultClass
from mistamover.transport.far import FarRefusal

WEB = ("http", "https")
_BY_HTTP = (*WEB, *endpoint_urls.PACIFICA)
_WEB = tuple(f"{scheme}://" for scheme in WEB)


@contextlib.contextmanager
def opened(item: Item, claim: Claim, context: Context) -> Iterator[tuple[Origin, str]]:
    """Given an item, yield what it comes from, and what that is called. Raise Trouble, OSError, JobRefused."""
    source = item.source
    if source.spool:
        if spool.is_elsewhere(context.settings.directory, source.spool):
            words = "what came with the request lies with another worker of this store, and waits for it"
            raise Trouble(FaultClass.HERE, words, elsewhere=True)
        with origins.own(spool.path_of(context.settings.directory, source.spool)) as origin:
            yield origin, ""
    elif source.location is not None and not is_web(source.location, context):
        with visited(source.location.endpoint, context) as visit, origins.at(visit, source.location.path) as origin:
            yield origin, paths.base_name(source.location.path)
    elif source.url and not source.url.lower().startswith(_WEB):
        with foreign(source.url, claim.secrets, context) as (visit, path), origins.at(visit, path) as origin:
            yield origin, paths.base_name(path)
    else:
        origin = web(source, claim, context)
        with contextlib.closing(origin):
            own_name = paths.base_name(source.location.path) if source.location is not None else ""
            yield origin, origin.name or own_name or f"item-{item.seq + 1}"


@contextlib.contextmanager
def visited(endpoint: str, context: Context) -> Iterator[Visit]:
    """Given an endpoint's name, lend a connection to it; what goes wrong with it is said to be its fault.

    Raise Trouble, and whatever else is raised inside of the block.
    """
    refused: Trouble | None = None
    try:
        with context.places.of(endpoint).lend() as visit:
            try:
                yield visit
            except FarRefusal as error:
                refused = trouble(error, endpoint)
                if visit.streamed:
                    raise
            except Trouble as error:
                refused = error
                if visit.streamed or error.fault not in (FaultClass.REFUSED, FaultClass.VANISHED):
                    raise
    except TransportError as error:
        raise trouble(error, endpoint) from error
    # Only now, so that the connection is kept: there is nothing wrong with it.
    if refused is not None:
        raise refused


def is_web(location: Location, context: Context) -> bool:
    """Given a location, tell whether it is read by http."""
    return context.endpoints.need(location.endpoint).scheme in _BY_HTTP


def rules(context: Context) -> Rules:
    """Return what may be fetched from hosts that are no endpoints."""
    front = context.settings.front
    schemes = tuple(scheme for scheme in front.url_schemes if scheme in WEB)
    return Rules(schemes=schemes, hosts=front.url_hosts, private=front.allow_private_addresses)


def web(source: Source, claim: Claim, context: Context) -> WebOrigin | ArchiveOrigin:
    """Given a source that is read by http, and the claim to its job, open it. Raise Trouble, JobRefused."""
    secrets = claim.secrets
    if source.location is None:
        user, _, password = secrets.get(f"login {source.url}", "").partition(":")
        login = Login(
            user=user or secrets.get("user", ""),
            password=password or secrets.get("password", ""),
            headers=options.headers(secrets),
        )
        return WebOrigin(source.url, rules(context), login)
    endpoint = context.endpoints.need(source.location.endpoint)
    url = context.endpoints.url_of(source.location)
    try:
        if endpoint.scheme in endpoint_urls.PACIFICA:
            with contextlib.closing(interface(endpoint)) as archive:
                return _staged(archive, url, claim, context)
        # Who wrote the endpoint down knows that it is in a private network.
        allowed = Rules(schemes=(endpoint.scheme, "https"), hosts=(endpoint.host,), private=True)
        return WebOrigin(url, allowed, _login(endpoint), _authorities(endpoint))
    except TransportError as error:
        raise trouble(error, endpoint.name) from error


def interface(endpoint: EndpointSettings) -> ArchiveInterface:
    """Given the endpoint of an archive interface, return that. Raise TransportError."""
    return ArchiveInterface(endpoint, _login(endpoint), _authorities(endpoint))


def _staged(archive: ArchiveInterface, url: str, claim: Claim, context: Context) -> ArchiveOrigin:
    """Open a file of an archive; raise Trouble, which has its job wait, while it is on tape."""
    archive.stage(url)
    seen = archive.look(url)
    if seen.on_disk:
        return archive.opened(url, seen)
    began, now = claim.job.started or claim.job.created, context.clock()
    waiting = Trouble(FaultClass.SOURCE, "the archive does not have it on disk yet")
    waiting.within = context.settings.carts.stage_timeout
    waiting.pause = (next_look(began, now, waiting.within, random.random()) or now) - now  # noqa: S311 (no secret)
    raise waiting


def _authorities(endpoint: EndpointSettings) -> ssl.SSLContext | None:
    trusted = endpoint.options.get("ca_file")
    return ssl.create_default_context(cafile=trusted) if trusted else None


@contextlib.contextmanager
def foreign(url: str, secrets: Mapping[str, str], context: Context) -> Iterator[tuple[Visit, str]]:
    """Given a URL of a scheme that is allowed beside those of the web, and the secrets of its job, yield a connection
    to its server, and the path there.  Raise Trouble, JobRefused, OSError.
    """
    parts = endpoint_urls.parsed(url)
    front = context.settings.front
    if endpoint_urls.has_server(parts.scheme) and not front.allow_private_addresses:
        outside.addresses(parts.host, parts.port or 0, private=False)
    user, _, password = secrets.get(f"login {url}", "").partition(":")
    with tempfile.TemporaryDirectory(prefix="mistamover-") as directory:
        secret = Path(directory, "secret")
        secret.touch(mode=0o600)
        secret.write_text(f"{password or secrets.get('password', '')}\n")
        top = f"{url.partition('://')[0]}://{urlsplit(url).netloc}"
        endpoint = EndpointSettings(
            name=host_key(url),
            url=top,
            scheme=parts.scheme,
            host=parts.host,
            port=parts.port,
            user=user or secrets.get("user", ""),
            base="/" if endpoint_urls.has_server(parts.scheme) else "",
            password_file=secret if parts.scheme in ("ftp", "ftps") and (password or "password" in secrets) else None,
            # Nothing is written there.
            options={"atomic": "whole"},
        )
        place = Place(endpoint, Path(directory), Path(directory, "none"))
        try:
            with place.lend() as visit:
                yield visit, paths.cleaned(parts.base.lstrip("/"))
        except TransportError as error:
            raise trouble(error, endpoint.name) from error
        finally:
            place.close()


def _login(endpoint: EndpointSettings) -> Login:
    if endpoint.password_file is None:
        return Login()
    try:
        lines = read_private(endpoint.password_file)
    except SecretError as error:
        raise LinkError(str(error)) from error
    return Login(user=endpoint.user, password=lines[0] if lines else "")

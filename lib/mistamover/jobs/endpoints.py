"""The endpoints that jobs know: those of the configuration, and those that were added over the API.

What is written in the configuration wins, and `shadowed` tells whom it hides.  Never opens a connection itself.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mistamover.config import endpoint_urls
from mistamover.config.serving import EndpointSettings, JobSettings
from mistamover.errors import JobRefused
from mistamover.files.durable import sync_directory, write_whole
from mistamover.jobs import paths
from mistamover.jobs.model import Location, Role

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: Bytes of a password or a private key.
_LONGEST_SECRET = 64 << 10

_FIELDS = frozenset(
    (
        "description", "role", "read_only", "enabled", "dry_run", "max_parallel", "options", "accept_new_host_keys",
        "workers",
    )
)  # fmt: skip


class Rows(Protocol):
    """Where endpoints are kept that were added over the API."""

    def all(self) -> Sequence[EndpointSettings]:
        """Return all of them."""

    def get(self, name: str) -> EndpointSettings | None:
        """Given a name, return its endpoint."""

    def put(self, endpoint: EndpointSettings) -> None:
        """Given an endpoint, keep it, instead of any other one of its name."""

    def delete(self, name: str) -> bool:
        """Given a name, forget its endpoint; tell whether there was one."""


class Endpoints:
    """All endpoints, by name and by URL."""

    def __init__(self, settings: JobSettings, rows: Rows) -> None:
        """Given the settings and where the others are kept, look at nothing yet."""
        self._written = {endpoint.name: endpoint for endpoint in settings.endpoints}
        self._rows = rows
        self._secrets = settings.directory / "secrets"
        self._volume = settings.carts.volume

    # -- finding ------------------------------------------------------------------------------

    def all(self) -> list[EndpointSettings]:
        """Return every endpoint, in the order of their names."""
        found = {endpoint.name: endpoint for endpoint in self._rows.all()} | self._written
        return [found[name] for name in sorted(found)]

    def shadowed(self) -> set[str]:
        """Return the names of endpoints of the API that are not used, because the configuration has the same ones."""
        return {endpoint.name for endpoint in self._rows.all()} & set(self._written)

    def get(self, name: str) -> EndpointSettings | None:
        """Given a name, return its endpoint, or None."""
        return self._written.get(name) or self._rows.get(name)

    def need(self, name: str, *, writing: bool = False) -> EndpointSettings:
        """Given a name, and whether something is going to be changed there, return its endpoint.

        Raise JobRefused (`unknown-endpoint`, `endpoint-disabled`, `read-only`).
        """
        endpoint = self.get(name)
        if endpoint is None:
            raise JobRefused("unknown-endpoint", f"there is no endpoint {name[:80]!r}{self._hint(name)}")
        if not endpoint.enabled:
            raise JobRefused("endpoint-disabled", f"the endpoint {name} is disabled: an administrator can enable it")
        if writing and endpoint.read_only:
            raise JobRefused("read-only", f"nothing can be changed at the endpoint {name}: it is read_only")
        return endpoint

    def resolve(self, name: str, path: str, *, empty: bool = False, writing: bool = False) -> Location:
        """Given an endpoint's name and a path as a client wrote it, return the location. Raise JobRefused.

        `empty`: the base itself is allowed.
        """
        endpoint = self.need(name, writing=writing)
        return Location(endpoint=name, path=paths.cleaned(path, endpoint.base, empty=empty))

    def resolve_url(self, url: str, *, empty: bool = False) -> Location | None:
        """Given a URL, return the location that it means, or None if it falls under no endpoint.

        Of several endpoints the one with the longest base counts.  Raise JobRefused (`bad-url`, `bad-path`).
        """
        try:
            parts = endpoint_urls.split(url)
        except ValueError as error:
            raise JobRefused("bad-url", f"the URL {shown_url(url)} cannot be taken: {error}") from None
        scheme = endpoint_urls.family(parts.scheme)
        known = [endpoint for endpoint in self.all() if endpoint.scheme == scheme]
        if not known:
            return None
        host = (parts.hostname or "") if endpoint_urls.has_server(scheme) else endpoint_urls.bucket(parts)
        if scheme == "file" and host == "localhost":
            host = ""
        user = paths.decoded(parts.username or "")
        known = [
            endpoint
            for endpoint in known
            if endpoint.host == (host.lower() if endpoint_urls.has_server(scheme) else host)
            and (not user or user == endpoint.user)
            and (parts.port is None or endpoint.port in (None, parts.port))
        ]
        if known and (parts.query or parts.fragment):
            words = "it holds ? or #: write %3F and %23 where they belong to a name"
            raise JobRefused("bad-url", f"the URL {shown_url(url)} cannot be taken: {words}")
        path = paths.decoded(parts.path)
        found = [(endpoint, inner) for endpoint in known if (inner := _below(path, endpoint)) is not None]
        if not found:
            return None
        endpoint, inner = max(found, key=lambda each: len(each[0].base))
        return Location(endpoint=endpoint.name, path=paths.cleaned(inner, empty=empty))

    def url_of(self, location: Location) -> str:
        """Given a location, return its URL, without any secret; the name of its endpoint stands in if that is gone."""
        endpoint = self.get(location.endpoint)
        if endpoint is None:
            return f"{location.endpoint}:{paths.shown(location.path)}"
        return endpoint_urls.below(endpoint.url, endpoint.base, paths.encoded(location.path))

    def archive(self, name: str = "") -> EndpointSettings:
        """Given a name, or none, return the endpoint that is an archive (without a name the first one).

        Raise JobRefused (`no-archive`).
        """
        if name:
            endpoint = self.need(name, writing=True)
            if endpoint.role != Role.ARCHIVE:
                raise JobRefused("no-archive", f"the endpoint {name} is no archive: its role is {endpoint.role}")
            return endpoint
        usable = [each for each in self.all() if each.role == Role.ARCHIVE and each.enabled and not each.read_only]
        if not usable:
            raise JobRefused("no-archive", "there is no endpoint with role = archive that can be written to")
        return usable[0]

    # -- changing -----------------------------------------------------------------------------

    def put(
        self, name: str, *, url: str, password: str | None = None, identity: str | None = None, **fields: Any
    ) -> EndpointSettings:
        """Given a name, a URL and the rest of its settings, keep an endpoint, instead of any other one of its name.

        `password` and `identity` (a private key) go into files of ours and cannot be read back; None leaves those
        that an older endpoint of the name has.  Raise JobRefused (`from-ini`, `bad-endpoint`).
        """
        self._changeable(name)
        return self._keep(name, self._rows.get(name), {"url": url, **fields}, password, identity)

    def patch(
        self, name: str, *, password: str | None = None, identity: str | None = None, **fields: Any
    ) -> EndpointSettings:
        """Given a name and what is to be another way, change the endpoint. Raise JobRefused as `put`."""
        self._changeable(name)
        before = self._rows.get(name)
        if before is None:
            raise JobRefused("unknown-endpoint", f"there is no endpoint {name[:80]!r}{self._hint(name)}")
        kept = {field: getattr(before, field) for field in _FIELDS}
        return self._keep(name, before, {"url": before.url, **kept, **fields}, password, identity)

    def delete(self, name: str) -> None:
        """Given a name, forget the endpoint and its secrets. Raise JobRefused (`from-ini`, `unknown-endpoint`)."""
        self._changeable(name)
        if not self._rows.delete(name):
            raise JobRefused("unknown-endpoint", f"there is no endpoint {name[:80]!r}{self._hint(name)}")
        for kind in ("password", "identity"):
            self._secret(name, kind).unlink(missing_ok=True)

    def _keep(
        self,
        name: str,
        before: EndpointSettings | None,
        fields: Mapping[str, Any],
        password: str | None,
        identity: str | None,
    ) -> EndpointSettings:
        if not _NAME.fullmatch(name):
            raise JobRefused("bad-endpoint", "a name has letters, digits, `.`, `_` and `-`, 64 at most, none in front")
        try:
            parts = endpoint_urls.parsed(str(fields["url"]))
        except ValueError as error:
            raise JobRefused("bad-endpoint", f"the URL cannot be taken: {error}") from None
        if unknown := set(fields) - _FIELDS - {"url"}:
            raise JobRefused("bad-endpoint", f"an endpoint has no {', '.join(sorted(unknown))}")
        if str(fields.get("role", "normal")) not in list(Role):
            raise JobRefused("bad-endpoint", f"role is one of {', '.join(Role)}")
        if int(fields.get("max_parallel", 1)) < 1:
            raise JobRefused("bad-endpoint", "max_parallel is at least 1")
        if (workers := str(fields.get("workers") or "")) and not _NAME.fullmatch(workers):
            raise JobRefused("bad-endpoint", "a group of workers has a name as endpoints have")
        self._check_territory(parts.scheme, parts.base)
        if parts.scheme in endpoint_urls.PACIFICA:
            fields = {**fields, "read_only": True}
        endpoint = EndpointSettings(
            name=name,
            url=parts.url,
            scheme=parts.scheme,
            host=parts.host,
            port=parts.port,
            user=parts.user,
            base=parts.base,
            password_file=self._kept(name, "password", password, before.password_file if before else None),
            identity_file=self._kept(name, "identity", identity, before.identity_file if before else None),
            from_ini=False,
            **{field: value for field, value in fields.items() if field != "url"},
        )
        self._rows.put(endpoint)
        return endpoint

    def _check_territory(self, scheme: str, base: str) -> None:
        """What is the service's own is nobody's data: its directory, the volume of carts, and all that is around."""
        there = os.path.realpath(base)
        for path in (self._secrets.parent.parent, self._volume):
            own = os.path.realpath(path)
            if scheme == "file" and os.path.commonpath([own, there]) in (own, there):
                raise JobRefused("bad-endpoint", f"{base} holds the service's own files, or lies among them")

    def _kept(self, name: str, kind: str, secret: str | None, before: Path | None) -> Path | None:
        if secret is None:
            return before
        path = self._secret(name, kind)
        if not secret:
            path.unlink(missing_ok=True)
            return None
        if len(secret) > _LONGEST_SECRET or "\0" in secret:
            raise JobRefused("bad-endpoint", f"the {kind} is too long, or holds a zero byte")
        new = not self._secrets.is_dir()
        self._secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, (secret.rstrip("\n") + "\n").encode())
        if new:
            sync_directory(self._secrets.parent)
        return path

    def _secret(self, name: str, kind: str) -> Path:
        return self._secrets / f"{name}.{kind}"

    def _changeable(self, name: str) -> None:
        if name in self._written:
            words = f"the endpoint {name} is written in the configuration, and can be changed only there"
            raise JobRefused("from-ini", words)

    def _hint(self, name: str) -> str:
        near = difflib.get_close_matches(name, [endpoint.name for endpoint in self.all()], n=1)
        return f"; did you mean {near[0]}?" if near else ""


def shown_url(url: str) -> str:
    """Given any URL, return it for people: printable, without a password, not longer than a line."""
    return paths.shown(endpoint_urls.without_login(url))[:200]


def _below(path: str, endpoint: EndpointSettings) -> str | None:
    """Given the path of a URL, return it relative to an endpoint's base, None if it does not begin with that."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if endpoint.scheme == "sftp" and not endpoint.base.startswith("/"):
        if parts[:1] != ["~"]:
            return None
        parts = parts[1:]
    top = [part for part in endpoint.base.split("/") if part not in ("", ".")]
    return "/".join(parts[len(top) :]) if parts[: len(top)] == top else None

"""Which things a job is made of: a client's sources and destination, turned into items. Nothing is looked at on a disk.

Names that two sources of one job would both have at the destination are refused here, as far as they are known.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mistamover.config import endpoint_urls
from mistamover.config.serving import FrontSettings
from mistamover.errors import JobRefused, ObjectLocked
from mistamover.jobs import importers, options, paths
from mistamover.jobs.endpoints import Endpoints, shown_url
from mistamover.jobs.model import DataObject, Location, NewItem, ObjectState, Source
from mistamover.jobs.requests import Destination, SourceSpec
from mistamover.jobs.store.catalogue import Objects

#: Schemes that only an endpoint can give a meaning.
_NEVER_OUTSIDE = frozenset(("file", "sftp"))


class Found(NamedTuple):
    """A source that is known and allowed."""

    source: Source
    hash_type: str
    hash_value: str
    object: DataObject | None
    login: str
    """User and password that stood in its URL."""
    name: str
    """What it will be called, as far as that is known; empty if it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """Checks what clients ask for against what there is, and what is allowed."""

    front: FrontSettings
    endpoints: Endpoints
    objects: Objects

    def source(self, spec: SourceSpec) -> Found:
        """Given a source as a client wrote it, return it checked. Raise JobRefused."""
        kind, value = options.checked_hash(spec.hash_type, spec.hash_value)
        given = [bool(spec.url), spec.location is not None, bool(spec.object_id)]
        if sum(given) != 1:
            raise JobRefused("bad-request", "a source is exactly one of: a URL, an endpoint with a path, an object")
        name = _plain_name(spec.name)
        if spec.object_id:
            found = self.object(spec.object_id)
            if not value:
                kind, value = found.algorithm, found.digest
            source, login, last = Source(location=found.location), "", paths.base_name(found.location.path)
            return Found(source, kind, value, found, login, name or last)
        if spec.location is not None:
            location = self.endpoints.resolve(spec.location.endpoint, spec.location.path, empty=True)
            last = "" if paths.has_wildcards(location.path) else paths.base_name(location.path)
            return Found(Source(location=location), kind, value, None, "", name or last)
        inside = self.endpoints.resolve_url(spec.url, empty=True)
        if inside is not None:
            self.endpoints.need(inside.endpoint)
            last = "" if paths.has_wildcards(inside.path) else paths.base_name(inside.path)
            return Found(Source(location=inside), kind, value, None, "", name or last)
        url, login = self._outside(spec.url)
        return Found(Source(url=url), kind, value, None, login, name)

    def object(self, id: str, *states: ObjectState) -> DataObject:
        """Given an object's id and the states that it may be in (none: active), return it.

        Raise JobRefused (`unknown-object`, `object-state`), ObjectLocked.
        """
        found = self.objects.get(id)
        if found is None or found.state is ObjectState.RESERVED:
            raise JobRefused("unknown-object", f"there is no object {paths.shown(id)[:80]}")
        if found.state not in (states or (ObjectState.ACTIVE,)):
            raise JobRefused("object-state", f"the object {id} is {found.state}")
        if found.lock:
            raise ObjectLocked(id, found.lock)
        self.endpoints.need(found.location.endpoint)
        return found

    def target(self, destination: Destination, *, several: bool) -> tuple[Location, bool]:
        """Given a destination, and whether several things go there, return it, and whether it is a directory.

        Raise JobRefused.
        """
        if bool(destination.url) == (destination.location is not None):
            raise JobRefused("bad-request", "a destination is either a URL or an endpoint with a path")
        if destination.location is not None:
            written = destination.location.path
            into = _is_directory(written, destination.into, several=several)
            empty = into or destination.into is None
            location = self.endpoints.resolve(destination.location.endpoint, written, empty=empty, writing=True)
            return location, into or not location.path
        into = _is_directory(destination.url, destination.into, several=several)
        inside = self.endpoints.resolve_url(destination.url, empty=into or destination.into is None)
        if inside is None:
            where = shown_url(destination.url)
            words = f"no endpoint has the place {where}: it falls under the URL of none of them"
            raise JobRefused("unknown-endpoint", words)
        self.endpoints.need(inside.endpoint, writing=True)
        # The base of an endpoint is a directory, whether or not a slash ends it.
        return inside, into or not inside.path

    def items(self, found: Sequence[Found], target: Location, *, into: bool) -> list[NewItem]:
        """Given checked sources and where they go, return the items. Raise JobRefused (`same-target`)."""
        items: list[NewItem] = []
        taken: dict[str, int] = {}
        for number, each in enumerate(found, 1):
            path = paths.joined(target.path, each.name) if into and each.name else target.path
            if each.name or not into:
                if path in taken:
                    words = f"sources {taken[path]} and {number} would both be {paths.shown(path)} at the destination"
                    raise JobRefused("same-target", words)
                taken[path] = number
            location = replace(target, path=path)
            if each.source.location == location:
                raise JobRefused("same-target", f"source {number} is its own destination: {paths.shown(path)}")
            items.append(
                NewItem(
                    source=each.source,
                    # What is called anew is not looked for under its own name.
                    target=target if into and not _renamed(each) else location,
                    into=into and not _renamed(each),
                    hash_type=each.hash_type,
                    hash_value=each.hash_value,
                    object_id=each.object.id if each.object is not None else "",
                )
            )
        return items

    def _outside(self, written: str) -> tuple[str, str]:
        """Given a URL that falls under no endpoint, return it without user and password, and these two."""
        try:
            parts = endpoint_urls.split(written)
        except ValueError as error:
            raise JobRefused("bad-url", f"the URL {shown_url(written)} cannot be taken: {error}") from None
        importer = importers.find(parts.scheme)
        if importer is not None:
            importer.check(written)
            return written, ""
        scheme = endpoint_urls.family(parts.scheme)
        if scheme in _NEVER_OUTSIDE or scheme not in self.front.url_schemes:
            if scheme in {each.scheme for each in self.endpoints.all()}:
                words = f"the URL {shown_url(written)} falls under no endpoint"
                raise JobRefused("unknown-endpoint", f"{words}, and {parts.scheme}:// is not allowed otherwise")
            allowed = ", ".join(self.front.url_schemes) or "none"
            words = f"URLs of {parts.scheme}:// are not allowed (allowed outside of endpoints: {allowed})"
            raise JobRefused("scheme-not-allowed", words)
        if scheme not in ("http", "https"):
            try:
                endpoint_urls.parsed(written)
            except ValueError as error:
                raise JobRefused("bad-url", f"the URL {shown_url(written)} cannot be taken: {error}") from None
        if not parts.hostname:
            raise JobRefused("bad-url", f"the URL {shown_url(written)} names no host")
        if not host_allowed(parts.hostname, self.front.url_hosts):
            raise JobRefused("host-not-allowed", f"nothing is fetched from {parts.hostname}: see [front] url_hosts")
        login = ""
        if parts.username or parts.password:
            login = f"{paths.decoded(parts.username or '')}:{paths.decoded(parts.password or '')}"
        return endpoint_urls.without_login(written), login


def host_allowed(host: str, patterns: Sequence[str]) -> bool:
    """Given a host and the patterns of those that are allowed (none: all), tell whether it is."""
    return not patterns or any(fnmatch.fnmatchcase(host.lower(), pattern.lower()) for pattern in patterns)


def logins(found: Sequence[Found]) -> Mapping[str, str]:
    """Given checked sources, return the secrets that stood in their URLs, as a job keeps them."""
    return {f"login {each.source.url}": each.login for each in found if each.login}


def _renamed(found: Found) -> bool:
    """Whether a client chose the name that it is to have."""
    location = found.source.location
    return bool(found.name) and (location is None or found.name != paths.base_name(location.path))


def _is_directory(written: str, into: bool | None, *, several: bool) -> bool:
    return several or written in ("", ".") or written.endswith("/") if into is None else into


def _plain_name(name: str) -> str:
    if name and ("/" in name or paths.cleaned(name) != name):
        raise JobRefused("bad-path", f"{paths.shown(name)!r} is no name of a file")
    return name

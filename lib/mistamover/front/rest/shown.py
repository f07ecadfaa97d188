"""From values of the job room to the JSON of the REST API: plain dictionaries, not checked again. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from mistamover.config.serving import EndpointSettings
from mistamover.front import words
from mistamover.jobs.cart_model import Cart
from mistamover.jobs.model import DataObject, Event, Item, Job, Location, Scope
from mistamover.jobs.requests import Caller


class Shown:
    """Makes the answers for one client.

    An administrator is shown whole paths, and nobody else a part of one; what stands behind the `?` of a URL, which may
    be what opens it, only to the owner of the job and to an administrator.
    """

    def __init__(self, endpoints: Mapping[str, EndpointSettings], instead: Mapping[str, str], who: Caller) -> None:
        """Given the endpoints by name, what stands for which directory, and who asks."""
        self._endpoints = endpoints
        self._instead = instead
        self._who = who.name
        self._admin = who.scope.includes(Scope.ADMIN)

    def text(self, text: str) -> str:
        """Given a text that may hold anything, return what of it is for this client."""
        return words.line(text if self._admin or not text else words.masked(text, self._instead))

    def place(self, location: Location | None) -> dict[str, str] | None:
        """Given a location, return it."""
        if location is None:
            return None
        shown = {"endpoint": location.endpoint, **words.name(location.path)}
        endpoint = self._endpoints.get(location.endpoint) if self._admin else None
        if endpoint is not None:
            shown["absolute"] = words.name(f"{endpoint.base.rstrip('/')}/{location.path}")["path"]
        return shown

    def job(self, job: Job, items: Sequence[Item] | None = None) -> dict[str, Any]:
        """Given a job, and some of its items or None, return it."""
        shown: dict[str, Any] = {
            "id": job.id,
            "op": job.op.value,
            "state": job.state.value,
            "owner": job.owner,
            "label": words.line(job.label),
            "origin": job.origin,
            "packaging": job.packaging.value,
            "package": self.place(job.package),
            "priority": job.priority,
            "overwrite": job.overwrite,
            "cancelling": job.cancelling,
            "attempts": job.attempts,
            "not_before": moment(job.not_before),
            "deadline": moment(job.deadline),
            "created": moment(job.created),
            "started": moment(job.started),
            "ended": moment(job.ended),
            "reason": self.text(job.reason),
            "waits_for": "",
            "result": self._clean(job.result),
            "progress": {
                "items": job.progress.items,
                "items_done": job.progress.items_done,
                "bytes": job.progress.bytes,
                "bytes_done": job.progress.bytes_done,
            },
        }
        if items is not None:
            shown["items"] = [self.item(item, job.owner) for item in items]
        return shown

    def item(self, item: Item, owner: str) -> dict[str, Any]:
        """Given an item and the owner of its job, return it."""
        source: dict[str, Any]
        if item.source.location is not None:
            source = {"place": self.place(item.source.location)}
        else:
            source = {"url": self._url(item.source.url, owner)} if item.source.url else {"content": True}
        return {
            "seq": item.seq,
            "state": item.state.value,
            "source": source,
            "target": self.place(item.target),
            "landed": self.place(item.landed),
            "size": item.size,
            "bytes_done": item.bytes_done,
            "attempts": item.attempts,
            "not_before": moment(item.not_before),
            "started": moment(item.started),
            "ended": moment(item.ended),
            "hashtype": item.algorithm,
            "hashsum": item.digest,
            "fault": item.fault,
            "reason": self.text(item.reason),
        }

    def cart(self, cart: Cart, now: float) -> dict[str, Any]:
        """Given a cart and the time, return it."""
        job, form = cart.job, cart.form
        seconds = (job.ended or now) - job.started if job.started is not None else 0.0
        return {
            "uid": cart.uid,
            "job": job.id,
            "state": cart.state.value,
            "message": self.text(cart.message),
            "owner": job.owner,
            "bundle": form.stored,
            "format": form.format.value,
            "layout": form.layout.value,
            "manifest": form.manifest,
            "hashtype": form.algorithm,
            "created": moment(job.created),
            "started": moment(job.started),
            "ended": moment(job.ended),
            "last_used": moment(cart.last_used),
            "reserved": cart.reserved,
            "progress": {
                "files": job.progress.items,
                "files_done": job.progress.items_done,
                "bytes": job.progress.bytes,
                "bytes_done": job.progress.bytes_done,
                "bytes_per_second": round(job.progress.bytes_done / seconds, 1) if seconds > 0 else None,
            },
        }

    def event(self, event: Event) -> dict[str, Any]:
        """Given an event, return it."""
        return {
            "number": event.number,
            "job": event.job,
            "seq": event.seq,
            "time": moment(event.time),
            "kind": event.kind,
            "data": self._clean(event.data),
        }

    def object(self, found: DataObject) -> dict[str, Any]:
        """Given an object, return it."""
        return {
            "id": found.id,
            "place": self.place(found.location),
            "state": found.state.value,
            "size": found.size,
            "hashtype": found.algorithm,
            "hashsum": found.digest,
            "description": found.description,
            "originator": found.originator,
            "group": found.group,
            "type": found.type,
            "storage_technology": found.storage_technology,
            "metadata": dict(found.metadata),
            "registered": moment(found.registered),
            "modified": moment(found.modified),
            "lock": found.lock,
            "owner": found.owner,
        }

    def _url(self, url: str, owner: str) -> str:
        if not self._admin and self._who != owner:
            begin, mark, _ = url.partition("?")
            url = f"{begin}{mark}..." if mark else begin
        return words.line(url, 8_192)

    def _clean(self, value: Any) -> Any:
        """Given a value of JSON that a worker wrote, return it with every text in it fit for this client."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {str(key): self._clean(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        return value


def endpoint(found: EndpointSettings, *, admin: bool) -> dict[str, Any]:
    """Given an endpoint and whether an administrator asks, return it; its place on this host is for him alone."""
    hidden = found.scheme == "file" and not admin
    return {
        "name": found.name,
        "url": "file:" if hidden else words.line(found.url, 8_192),
        "description": words.line(found.description, 4_000),
        "role": found.role,
        "read_only": found.read_only,
        "enabled": found.enabled,
        "dry_run": found.dry_run,
        "max_parallel": found.max_parallel,
        "workers": found.workers,
        "accept_new_host_keys": found.accept_new_host_keys,
        "options": dict(found.options) if admin else {},
        "from_ini": found.from_ini,
        "has_password": found.password_file is not None,
        "has_identity": found.identity_file is not None,
    }


def moment(seconds: float | None) -> str | None:
    """Given seconds since the epoch, return them for programs: ISO 8601 in UTC."""
    if seconds is None:
        return None
    when = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""The desk: the one way in for jobs, whatever dialect they are asked for in.

Everything that can be known without looking at a disk is checked here, and what is refused is a `JobRefused`.  Nothing
here waits for anything but the store.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from mistamover.config.serving import JobSettings
from mistamover.errors import JobRefused
from mistamover.jobs import groups, importers, options, paths, spool
from mistamover.jobs.cart_model import BundleForm
from mistamover.jobs.endpoints import Endpoints
from mistamover.jobs.installation import identity
from mistamover.jobs.model import (
    DataObject,
    Job,
    Location,
    NewItem,
    NewJob,
    ObjectState,
    Op,
    Packaging,
    Scope,
    Source,
)
from mistamover.jobs.requests import Caller, Destination, ObjectFields, Request, SourceSpec
from mistamover.jobs.sources import Checker, logins
from mistamover.jobs.store.rows import reaches
from mistamover.jobs.store.store import Store

__all__ = ["Caller", "Desk", "Destination", "ObjectFields", "Request", "SourceSpec"]


class Desk:
    """Takes requests; see the module. Used by several threads."""

    def __init__(
        self, settings: JobSettings, store: Store, endpoints: Endpoints, ring: Callable[[], None] = lambda: None
    ) -> None:
        """Given the settings, where jobs are kept, the endpoints, and what tells the worker that there is a new job."""
        self.settings = settings
        self.store = store
        self.endpoints = endpoints
        self._ring = ring
        self._checker = Checker(front=settings.front, endpoints=endpoints, objects=store.objects)

    # -- files --------------------------------------------------------------------------------

    def copy(
        self,
        request: Request,
        sources: Sequence[SourceSpec],
        destination: Destination,
        *,
        op: Op = Op.COPY,
        packaging: Packaging = Packaging.NONE,
        overwrite: bool = False,
        options: Mapping[str, object] | None = None,
        register: ObjectFields | None = None,
    ) -> tuple[Job, bool]:
        """Given sources and a destination, submit a job that copies, moves, fetches or imports them.

        Return it, and whether it is a new one.  `register`: the one source becomes an object of the catalogue.
        Raise JobRefused, and what the store refuses.
        """
        self._may(request)
        self._count(sources)
        plain, secrets = _split(options or {})
        found = [self._checker.source(spec) for spec in sources]
        if op is Op.MOVE:
            for each in found:
                if each.source.location is None:
                    raise JobRefused(
                        "bad-request", "only what lies at an endpoint can be moved: copy or fetch the rest"
                    )
                self.endpoints.need(each.source.location.endpoint, writing=True)
                if each.object is not None:
                    raise JobRefused("bad-request", "an object of the catalogue is moved by its own call")
        elif all(each.source.url and importers.scheme_of(each.source.url) for each in found):
            op = Op.IMPORT
        package = None
        if packaging is not Packaging.NONE:
            if op is Op.MOVE or register is not None:
                raise JobRefused("not-packable", "what is packed is copied, and is no object of the catalogue")
            # The package has a name of its own, whatever is in it.
            package, _ = self._checker.target(replace(destination, into=True), several=True)
            items = [self._plain(each.source, each.hash_type, each.hash_value) for each in found]
        else:
            several = len(found) > 1 or op is Op.IMPORT
            target, into = self._checker.target(destination, several=several)
            if len(found) > 1 and not into:
                raise JobRefused("same-target", "several sources need a directory as their destination")
            items = self._checker.items(found, target, into=into)
        new = self._new(request, op, items, plain, {**logins(found), **secrets}, overwrite=overwrite)
        new = replace(new, packaging=packaging, package=package)
        if register is None:
            return self._submit(new)
        return self._submit_registering(new, register)

    def put(
        self,
        request: Request,
        name: str,
        to: Destination,
        *,
        size: int,
        digest: str = "",
        algorithm: str = "sha256",
        register: ObjectFields | None = None,
        object_id: str = "",
        overwrite: bool = False,
        hash_type: str = "",
        hash_value: str = "",
    ) -> tuple[Job, bool]:
        """Given the name of a file in the spool, its size and what is known of its hash, submit a job that takes it to
        where it belongs.  `object_id`: it becomes the content of that object, which is there already.

        Whatever becomes of this call, the file is not the caller's any more.  Raise JobRefused.
        """
        created = False
        try:
            self._may(request)
            kind, value = options.checked_hash(hash_type, hash_value)
            if kind == algorithm and value and digest and value != digest:
                raise JobRefused("bad-hash", f"the content that came has another {kind} than was said")
            target, into = self._checker.target(to, several=False)
            if into:
                raise JobRefused("bad-path", "content needs the name of a file: the path ends with a slash")
            item = NewItem(
                source=Source(spool=name),
                target=target,
                hash_type=kind or (algorithm if digest else ""),
                hash_value=value or ("" if kind and kind != algorithm else digest),
                object_id=object_id,
            )
            new = self._new(request, Op.PUT, [item], {}, {}, overwrite=overwrite, content=f"{size} {digest}")
            if register is None:
                job, created = self._submit(new, locks=[object_id] if object_id else ())
            else:
                job, created = self._submit_registering(new, register, size=size)
            return job, created
        finally:
            if not created:
                spool.remove(self.settings.directory, name)

    def delete(self, request: Request, location: Location, *, recursive: bool = False) -> tuple[Job, bool]:
        """Given a place, submit a job that removes what is there; a directory only if `recursive`. Raise JobRefused."""
        self._may(request)
        where = self.endpoints.resolve(location.endpoint, location.path, writing=True)
        plain: dict[str, object] = {"recursive": True} if recursive else {}
        return self._submit(self._new(request, Op.DELETE, [self._plain(Source(location=where))], plain, {}))

    def bundle(self, request: Request, items: Sequence[NewItem], form: BundleForm) -> tuple[Job, bool]:
        """Given files that have been checked, and how they are to be bundled, submit the job of a cart.

        The label of the request is the uid of the cart. Raise JobRefused.
        """
        self._may(request)
        return self._submit(self._new(request, Op.BUNDLE, items, form.options(), {}))

    # -- objects of the catalogue -------------------------------------------------------------

    def register(
        self,
        request: Request,
        location: Location,
        *,
        size: int,
        fields: ObjectFields,
        algorithm: str = "",
        digest: str = "",
    ) -> DataObject:
        """Given what is at a place already, make it an object of the catalogue, without looking. Raise JobRefused."""
        self._may(request)
        if size < 0:
            raise JobRefused("bad-request", "a size is not negative")
        kind, value = options.checked_hash(algorithm, digest)
        where = self.endpoints.resolve(location.endpoint, location.path)
        new = _object(where, fields, request, size=size)
        return self.store.objects.register(replace(new, state=ObjectState.ACTIVE, algorithm=kind, digest=value))

    def copy_object(
        self,
        request: Request,
        object_id: str,
        to: Destination,
        *,
        overwrite: bool = False,
        register: ObjectFields | None = None,
    ) -> tuple[Job, bool]:
        """Given an object and a place, submit a job that makes another object of it there. Raise JobRefused."""
        self._may(request)
        found = self._checker.object(object_id)
        fields = register or ObjectFields(
            description=found.description,
            originator=found.originator,
            group=found.group,
            type=found.type,
            storage_technology=found.storage_technology,
            metadata=found.metadata,
        )
        new = self._of_object(request, Op.COPY, found, to, overwrite=overwrite)
        return self._submit_registering(new, fields, size=found.size)

    def move_object(
        self, request: Request, object_id: str, to: Destination, *, overwrite: bool = False
    ) -> tuple[Job, bool]:
        """Given an object and a place, submit a job that takes it there; it stays the same object. Raise JobRefused."""
        self._may(request)
        found = self._checker.object(object_id)
        self.endpoints.need(found.location.endpoint, writing=True)
        new = self._of_object(request, Op.MOVE, found, to, overwrite=overwrite)
        return self._submit_relocating(new, found)

    def delete_object(self, request: Request, object_id: str) -> tuple[Job, bool]:
        """Given an object, submit a job that removes it; the catalogue remembers it as deleted. Raise JobRefused."""
        self._may(request)
        states = (ObjectState.ACTIVE, ObjectState.ARCHIVED, ObjectState.UNKNOWN)
        found = self._checker.object(object_id, *states)
        self.endpoints.need(found.location.endpoint, writing=True)
        item = NewItem(source=Source(location=found.location), object_id=found.id)
        # What an object is made of goes with it.
        return self._submit(self._new(request, Op.DELETE, [item], {"recursive": True}, {}), locks=[found.id])

    def archive_object(self, request: Request, object_id: str, *, endpoint: str = "") -> tuple[Job, bool]:
        """Given an object, submit a job that moves it to an archive (by name, or the first). Raise JobRefused."""
        self._may(request)
        found = self._checker.object(object_id)
        archive = self.endpoints.archive(endpoint)
        self.endpoints.need(found.location.endpoint, writing=True)
        if found.location.endpoint == archive.name:
            raise JobRefused("object-state", f"the object {found.id} is at {archive.name} already")
        place = Location(endpoint=archive.name, path=f"{found.id}/{paths.base_name(found.location.path)}")
        new = self._of_object(request, Op.ARCHIVE, found, Destination(location=place, into=False))
        return self._submit_relocating(new, found)

    def activate_object(self, request: Request, object_id: str) -> tuple[Job, bool]:
        """Given an archived object, submit a job that takes it back to where it was. Raise JobRefused."""
        self._may(request)
        found = self._checker.object(object_id, ObjectState.ARCHIVED)
        if found.home is None:
            raise JobRefused("object-state", f"nothing is known of where the object {found.id} was before")
        self.endpoints.need(found.location.endpoint, writing=True)
        new = self._of_object(request, Op.ACTIVATE, found, Destination(location=found.home, into=False))
        return self._submit_relocating(new, found)

    # -- inside -------------------------------------------------------------------------------

    def _may(self, request: Request) -> None:
        if not request.who.scope.includes(Scope.SUBMIT):
            raise JobRefused("forbidden", "this needs the scope submit")

    def _count(self, sources: Sequence[SourceSpec]) -> None:
        if not sources:
            raise JobRefused("no-sources", "there is no source")
        if len(sources) > self.settings.front.max_items:
            words = (
                f"there are {len(sources)} sources, and {self.settings.front.max_items} are allowed: make several jobs"
            )
            raise JobRefused("too-many-items", words)

    def _plain(self, source: Source, hash_type: str = "", hash_value: str = "") -> NewItem:
        return NewItem(source=source, hash_type=hash_type, hash_value=hash_value)

    def _of_object(
        self, request: Request, op: Op, found: DataObject, to: Destination, *, overwrite: bool = False
    ) -> NewJob:
        target, into = self._checker.target(to, several=False)
        if into:
            target = replace(target, path=paths.joined(target.path, paths.base_name(found.location.path)))
        if target == found.location:
            raise JobRefused("same-target", f"the object {found.id} is there already")
        item = NewItem(
            source=Source(location=found.location),
            target=target,
            hash_type=found.algorithm,
            hash_value=found.digest,
            object_id=found.id,
        )
        return self._new(request, op, [item], {}, {}, overwrite=overwrite)

    def _new(
        self,
        request: Request,
        op: Op,
        items: Sequence[NewItem],
        plain: Mapping[str, object],
        secrets: Mapping[str, str],
        *,
        overwrite: bool = False,
        content: str = "",
    ) -> NewJob:
        shown = repr((op, content or items, plain, overwrite))
        return NewJob(
            op=op,
            items=items,
            owner=request.who.name,
            label=request.label,
            key=request.key,
            request_hash=request.request_hash or hashlib.sha256(shown.encode(errors="surrogatepass")).hexdigest(),
            origin=request.origin,
            overwrite=overwrite,
            priority=request.priority,
            deadline=request.deadline,
            options=plain,
            secrets=secrets,
            callback=request.callback,
        )

    def _submit(
        self, new: NewJob, *, objects: Sequence[DataObject] = (), locks: Sequence[str] = ()
    ) -> tuple[Job, bool]:
        most = self.settings.front.max_unfinished
        new = replace(new, workers=self._group(new))
        job, created = self.store.jobs.submit(new, objects=objects, locks=locks, max_unfinished=most)
        if created:
            self._ring()
        return job, created

    def _group(self, new: NewJob) -> str:
        """Given a job, return the group of workers that can do it. Raise JobRefused."""
        reached = [found for name in reaches(new) if "://" not in name and (found := self.endpoints.get(name))]
        if new.op is not Op.PUT:
            return groups.group_of(reached)
        return groups.group_of_content(reached, self.settings.engine.groups, identity(self.settings.directory))

    def _submit_registering(self, new: NewJob, fields: ObjectFields, *, size: int = 0) -> tuple[Job, bool]:
        """Submit a job of one item that becomes an object of the catalogue, whose place is taken from now on."""
        if len(new.items) != 1:
            raise JobRefused("bad-request", "one source at a time becomes an object of the catalogue")
        (item,) = new.items
        if item.target is None or item.into:
            raise JobRefused("bad-path", "an object needs the name of a file: say where it goes, with its name")
        reserved = _object(item.target, fields, Request(who=Caller(name=new.owner, scope=Scope.SUBMIT)), size=size)
        item = replace(item, result_id=reserved.id)
        return self._submit(replace(new, items=[item]), objects=[reserved])

    def _submit_relocating(self, new: NewJob, found: DataObject) -> tuple[Job, bool]:
        """Submit a job after which an object is elsewhere."""
        (item,) = new.items
        assert item.target is not None
        # So that nobody else takes the place meanwhile; it is forgotten when the job has ended.
        holding = _object(item.target, ObjectFields(), Request(who=Caller(name=new.owner, scope=Scope.SUBMIT)), size=0)
        return self._submit(new, objects=[holding], locks=[found.id])


def _object(location: Location, fields: ObjectFields, request: Request, *, size: int) -> DataObject:
    return DataObject(
        id=str(uuid.uuid4()),
        location=location,
        given_path=fields.given_path,
        size=size,
        state=ObjectState.RESERVED,
        type=fields.type,
        storage_technology=fields.storage_technology,
        description=fields.description,
        originator=fields.originator,
        group=fields.group,
        metadata=fields.metadata,
        registered=time.time(),
        owner=request.who.name,
    )


def _split(given: Mapping[str, object]) -> tuple[dict[str, object], dict[str, str]]:
    return options.split(given)

"""What a request of the data manager's dialect asks for: its fields checked, and taken to the desk.

Each function that submits returns the job and does not wait.  They block on the store: call them in threads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from mistamover.errors import JobError
from mistamover.front.context import Front
from mistamover.front.legacy import dm_records as records
from mistamover.front.legacy import dm_words as words
from mistamover.front.legacy.form_readers import BadBody
from mistamover.front.legacy.forms import ALGORITHM, Form
from mistamover.jobs.model import Callback, DataObject, Job, Location, ObjectState, Op, Scope
from mistamover.jobs.submission import Caller, Destination, ObjectFields, Request, SourceSpec

ORIGIN = "dm"

_ALWAYS = ("filename", "machine", "description", "originator", "group")
_HTTP = frozenset({"http", "https"})
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
#: A URL that begins with its host: `HOST/..`, or `HOST:PORT/..`.
_BARE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?(/|$)")
_LONGEST_SIZE = 18


def need(form: Form, *names: str) -> None:
    """Given the fields of a request and those that it must have, return if it has them. Raise Told (400)."""
    lacking = [name for name in names if name not in form]
    if lacking:
        raise words.missing(*lacking)


def object_id(written: str) -> str:
    """Given an id as a client wrote it, return it with its dashes; empty if it cannot be one."""
    text = written.strip().lower()
    return records.task_id(records.job_id(text)) if _UUID.fullmatch(text) else ""


def found(front: Front, written: str) -> DataObject | None:
    """Given an id as a client wrote it, return the object that has it, if clients may know of it."""
    identity = object_id(written)
    thing = front.store.objects.get(identity) if identity else None
    return None if thing is None or thing.state is ObjectState.RESERVED else thing


def where(front: Front, form: Form) -> Location:
    """Given the fields of a request for a new object, return its place. Raise Told (400) if one is missing."""
    # The clients that were released leave the path out for what lies at the top.
    always = _ALWAYS if front.settings.front.datamanager_dialect == "released" else (*_ALWAYS, "path")
    need(form, *always)
    name = form.path("filename")
    if not name or "/" in name:
        raise words.Told(400, "filename is the name of a file, without a slash")
    return Location(endpoint=form.text("machine"), path=records.joined(form.path("path"), name))


def fields(form: Form) -> ObjectFields:
    """Given the fields of a request, return what the catalogue is to know. Raise Told (501)."""
    technology = form.text("storage_technology") or records.STORAGE_TECHNOLOGIES[0]
    if technology not in records.STORAGE_TECHNOLOGIES:
        raise words.Told(501, f"'{technology}' storage not supported (yet?)")
    return ObjectFields(
        description=form.text("description"),
        originator=form.text("originator"),
        group=form.text("group"),
        type=form.text("type"),
        storage_technology=technology,
        given_path=form.path("path"),
    )


def register(front: Front, who: Caller, form: Form) -> DataObject:
    """Given who asks and the fields, register what is there already. Raise Told, JobError."""
    place = where(front, form)
    size = form.text("size").strip()
    if not size:
        raise words.Told(400, words.NO_SIZE)
    if not (size.isascii() and size.isdigit() and len(size) <= _LONGEST_SIZE):
        raise words.Told(400, "size is a number of bytes")
    return front.desk.register(request_of(who), place, size=int(size), fields=fields(form))


def put(front: Front, who: Caller, form: Form) -> Job:
    """Given who asks and the fields, one of which was content, submit its way to its place. Raise Told, JobError."""
    place = where(front, form)
    if form.content is None:
        raise words.missing("payload")
    content = form.content
    job, _ = front.desk.put(
        request_of(who),
        content.name,
        Destination(location=place, into=False),
        size=content.size,
        digest=content.digest,
        algorithm=ALGORITHM,
        register=fields(form),
    )
    return job


def copy(front: Front, who: Caller, identity: str, form: Form) -> Job:
    """Given who asks, an object's id and the fields, submit its copy. Raise Told, JobError."""
    thing = _existing(front, identity)
    job, _ = front.desk.copy_object(request_of(who), thing.id, _destination(form))
    return job


def move(front: Front, who: Caller, identity: str, form: Form) -> Job:
    """Given who asks, an object's id and the fields, submit its move. Raise Told, JobError."""
    thing = _changeable(front, who, identity)
    job, _ = front.desk.move_object(request_of(who), thing.id, _destination(form))
    return job


def archive(front: Front, who: Caller, identity: str, form: Form) -> Job:
    """Given who asks and an object's id, submit its way to an archive (`machine` may name it). Raise Told, JobError."""
    thing = _changeable(front, who, identity)
    job, _ = front.desk.archive_object(request_of(who), thing.id, endpoint=form.text("machine"))
    return job


def activate(front: Front, who: Caller, identity: str, form: Form) -> Job:
    """Given who asks and an object's id, submit its way back from the archive. Raise Told, JobError."""
    thing = _changeable(front, who, identity)
    job, _ = front.desk.activate_object(request_of(who), thing.id)
    return job


def get_external(front: Front, who: Caller, form: Form) -> Job:
    """Given who asks and the fields, submit a download. Raise Told, JobError, BadBody."""
    place = where(front, form)
    need(form, "url", "protocol")
    protocol = form.text("protocol").strip().lower()
    url = _whole(form.text("url"), protocol)
    _check_protocol(url, protocol)
    options = form.json("options")
    if options is not None and not isinstance(options, Mapping):
        raise BadBody("options is a JSON dictionary")
    try:
        job, _ = front.desk.copy(
            request_of(who, _callback(form)),
            [SourceSpec(url=url)],
            Destination(location=place, into=False),
            op=Op.FETCH,
            options=options,
            register=fields(form),
        )
    except JobError as error:
        outside = error.code == "unknown-endpoint" and front.known.endpoints().get(place.endpoint) is not None
        if error.code == "scheme-not-allowed" or (outside and protocol not in _HTTP):
            raise words.unsupported(protocol) from error
        raise
    return job


def _whole(url: str, protocol: str) -> str:
    """Given a URL as a client writes it, return it with its scheme, which may be left to the field beside it."""
    return f"{protocol}://{url}" if protocol in _HTTP and _BARE.match(url) else url


def _check_protocol(url: str, protocol: str) -> None:
    """A URL is fetched by its own scheme, and by none that another field denies; http stands for https as well."""
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise words.Told(400, "url is no URL") from error
    if any(character.isspace() for character in url):
        raise words.Told(400, "url holds a blank: write it as %20")
    if not scheme:
        raise words.Told(400, "url is no URL, expected http://HOST/PATH")
    if scheme == protocol or {scheme, protocol} <= _HTTP:
        return
    raise words.unsupported(protocol if protocol not in _HTTP else scheme)


def _callback(form: Form) -> Callback | None:
    callback = form.text("callback")
    if not callback:
        return None
    extra = {"originator": form.text("originator")}
    if "incidentId" in form:
        extra["IncidentID"] = form.text("incidentId")
    if urlsplit(callback).scheme in _HTTP:
        return Callback(url=callback, extra=extra)
    return Callback(queue=callback, extra=extra)


def _destination(form: Form) -> Destination:
    need(form, "machine", "dest")
    technology = form.text("storage_technology")
    if technology and technology not in records.STORAGE_TECHNOLOGIES:
        raise words.Told(501, f"'{technology}' storage not supported (yet?)")
    dest = records.below(form.path("dest"))
    if not dest:
        raise words.Told(400, "dest is empty, expected the path of the new file, with its name")
    return Destination(location=Location(endpoint=form.text("machine"), path=dest))


def _existing(front: Front, identity: str) -> DataObject:
    thing = found(front, identity)
    if thing is None or thing.state is ObjectState.DELETED:
        raise words.no_object(identity)
    return thing


def _changeable(front: Front, who: Caller, identity: str) -> DataObject:
    thing = _existing(front, identity)
    may_change(who, thing)
    return thing


def may_change(who: Caller, thing: DataObject) -> None:
    """Given who asks and an object, return if it is his, or he is an administrator. Raise Told (403)."""
    if thing.owner != who.name and not who.scope.includes(Scope.ADMIN):
        raise words.Told(403, "this object belongs to another owner: only he or an administrator changes it")


def request_of(who: Caller, callback: Callback | None = None) -> Request:
    """Given who asks, and whom to tell of the end, return what all requests of this dialect have."""
    return Request(who=who, origin=ORIGIN, callback=callback)

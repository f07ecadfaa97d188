"""The records of the data manager: an object of the catalogue as its clients read it; pure."""

from __future__ import annotations

import json
from email.utils import formatdate

from mistamover.errors import JobRefused
from mistamover.front.words import line
from mistamover.jobs.model import DataObject
from mistamover.jobs.paths import cleaned

#: What a client may say about how bytes are kept; all of it lies in files, or in an object store's.
STORAGE_TECHNOLOGIES = ("FILESYSTEM", "OBJECTSTORE")


def record(thing: DataObject, *, base: str = "", full: bool = False) -> dict[str, object]:
    """Given an object and the base of its endpoint, return its record; `full`: with its absolute path."""
    name = thing.location.path.rpartition("/")[2]
    shown: dict[str, object] = {
        "id": thing.id,
        "machine": thing.location.endpoint,
        "filename": printed(name),
        "path": printed(directory_of(thing, base, full=full)),
        "type": thing.type,
        "storage_technology": thing.storage_technology,
        "description": thing.description,
        "size": thing.size,
        "metadata": json.dumps(dict(thing.metadata)) if thing.metadata else "",
        "date_registered": http_date(thing.registered),
        "date_modified": http_date(thing.modified),
        "status": thing.state.value,
        "originator": thing.originator,
        "group": thing.group,
        "modifylock": bool(thing.lock),
    }
    if full:
        shown["absolute_path"] = printed(f"{base.rstrip('/')}/{thing.location.path}")
    return shown


def directory_of(thing: DataObject, base: str, *, full: bool) -> str:
    """Given an object and the base of its endpoint, return its directory: as it was written, if it is still there.

    A whole path of the host is given only with `full`.
    """
    directory = thing.location.path.rpartition("/")[0]
    try:
        written = cleaned(below(thing.given_path), base, empty=True)
    except JobRefused:
        return directory
    shown = full or below(thing.given_path) == "." or not thing.given_path.startswith("/")
    return thing.given_path if written == directory and shown else directory


def is_in(thing: DataObject, path: str, base: str) -> bool:
    """Given an object, a directory as a client writes it and the base of the endpoint, tell whether it is there."""
    try:
        return cleaned(below(path), base, empty=True) == thing.location.path.rpartition("/")[0]
    except JobRefused:
        return False


def http_date(seconds: float | None) -> str | None:
    """Given seconds since the epoch, return the date as HTTP writes it, in GMT; None for none."""
    return None if seconds is None else formatdate(seconds, usegmt=True)


def below(path: str) -> str:
    """Given a path as a client writes it, return it; a slash alone stands for the top of the endpoint."""
    return path if path.strip("/") else "." * bool(path)


def joined(path: str, filename: str) -> str:
    """Given a directory as a client writes it, and a file's name, return the path of the file."""
    return f"{path.rstrip('/')}/{filename}" if path.strip("/") else filename


def printed(path: str) -> str:
    """Given a path, return it as JSON and people can read it: what is no text is spelled out."""
    return line(path, longest=10_000)


def task_id(job: str) -> str:
    """Given a job's id, return it in the form of a task's, with dashes."""
    return "-".join((job[:8], job[8:12], job[12:16], job[16:20], job[20:]))


def job_id(task: str) -> str:
    """Given a task's id, with or without dashes, return that of its job."""
    return task.replace("-", "").lower()

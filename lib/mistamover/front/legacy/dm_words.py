"""The words of the data manager's dialect: statuses and texts, as its clients compare them; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mistamover.errors import JobError
from mistamover.jobs.model import Item, ItemState, Job, JobState
from mistamover.model import FaultClass

FILE_EXISTS: Final = "File already exists"
SCHEDULED: Final = "Scheduled"
MOVED: Final = "Move successful"
MOVE_COMPLETED: Final = "Move completed"
ARCHIVED: Final = "Archive successful"
ACTIVATED: Final = "Activate successful"
NO_TASK: Final = "Async task not found"
NO_DATA: Final = "Data not found"
NOTHING_TO_DELETE: Final = "Data object not found"
NO_TRANSFERS: Final = "No matching data transfers between machines"
NOT_REGISTERED: Final = "No such data object registered"
SEVERAL_FOUND: Final = "Multiple search results found"
SEARCH_NEEDS: Final = "Need filename and machine"
NO_SIZE: Final = "No size provided"
CANCELLED: Final = "cancelled"

#: How the state of a job is called where it runs in the background.
TASK_STATUS: Mapping[JobState, str] = {
    JobState.QUEUED: "QUEUED",
    JobState.RUNNING: "RUNNING",
    JobState.PACKAGING: "RUNNING",
    JobState.DONE: "COMPLETE",
    JobState.FAILED: "ERROR",
    JobState.CANCELLED: "ERROR",
}

#: Statuses of what the desk and the store refuse, by the error's code; any other one is 400.
_STATUS = {
    "forbidden": 403,
    "read-only": 403,
    "unknown-object": 404,
    "place-taken": 406,
    "object-locked": 409,
    "object-state": 409,
    "endpoint-disabled": 409,
    "too-large": 413,
    "too-many-jobs": 429,
    "scheme-not-allowed": 501,
    "unsupported-hash": 501,
    "no-archive": 501,
    "disabled": 501,
}


class Told(Exception):
    """A request that is answered with this status and this text; never leaves the front."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)


def missing(*names: str) -> Told:
    """Given the fields that a request lacks, return the answer."""
    return Told(400, f"Missing: {', '.join(names)}")


def no_object(identity: str) -> Told:
    """Given an id that no object has, return the answer to copying or moving it."""
    return Told(404, f"Object {identity} does not exist")


def unsupported(protocol: str) -> Told:
    """Given a protocol, return the answer to fetching by it."""
    return Told(501, f"'{protocol}' protocol not supported (yet?)")


def refusal(error: JobError, identity: str = "") -> Told:
    """Given what the desk or the store refuses, and the object that it is about, return the answer."""
    if error.code == "unknown-object":
        return no_object(identity)
    if error.code in ("place-taken", "same-target"):
        return Told(406, FILE_EXISTS)
    return Told(_STATUS.get(error.code, 400), str(error))


def failure(job: Job, items: tuple[Item, ...]) -> Told:
    """Given a job that did not get done, and its items, return the answer to whoever waited for it."""
    failed = [item for item in items if item.state is ItemState.FAILED]
    if any(item.fault == FaultClass.REFUSED.value and _is_taken(item.reason) for item in failed):
        return Told(406, FILE_EXISTS)
    return Told(500, why(job))


def why(job: Job) -> str:
    """Given a job that did not get done, return why."""
    return CANCELLED if job.state is JobState.CANCELLED else job.reason or "it failed"


def outcome(job: Job) -> str:
    """Given a job of the background, return its result: empty until it has ended."""
    if not job.state.final:
        return ""
    if job.state is not JobState.DONE:
        return why(job)
    return _DONE.get(job.op.value) or first_object(job)


def first_object(job: Job) -> str:
    """Given a job that is done, return the id of the object that came of it; empty if none did."""
    objects = job.result.get("objects")
    return str(objects[0]) if isinstance(objects, list | tuple) and objects else ""


#: What the copying of a file says when another one has its place on the disk.
_TAKEN = "is there already, and is not the same"

_DONE = {"move": MOVE_COMPLETED, "archive": "Archive completed", "activate": "Activate completed"}


def _is_taken(reason: str) -> bool:
    return _TAKEN in reason

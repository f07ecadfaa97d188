"""The words of the XML-RPC dialect: how a job's state is called, and why something is refused; pure.

Clients compare these texts: each stands as it has always been.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

from mistamover.errors import JobError, JobRefused
from mistamover.front.words import LONGEST
from mistamover.jobs.model import Item, ItemState, Job, JobState
from mistamover.model import FaultClass

PENDING: Final = "PENDING"
IN_PROGRESS: Final = "IN_PROGRESS"
DOWNLOADING: Final = "DOWNLOADING"
COMPLETED: Final = "COMPLETED"
FAILED: Final = "FAILED"
REJECTED: Final = "REJECTED"

NO_SUCH_JOB = "Job does not exist"

#: What it takes to serve such URLs.
NO_SWIFT: Final = (
    "no endpoint has this URL; pip install mistamover[url] swiftspec, add the store as an endpoint, and write"
    " swift://ENDPOINT/CONTAINER/OBJECT"
)

#: What a job that came in structs has as its origin: its failures have words of their own.
STRUCT_ORIGIN = "xmlrpc-struct"
ORIGIN = "xmlrpc"

_STATUS = {
    JobState.QUEUED: PENDING,
    JobState.RUNNING: IN_PROGRESS,
    JobState.PACKAGING: IN_PROGRESS,
    JobState.DONE: COMPLETED,
    JobState.FAILED: FAILED,
    JobState.CANCELLED: FAILED,
}

#: What the desk refuses, in the words of old; what is not here keeps the desk's own words.
_REFUSALS = {
    "bad-path": "Invalid parameter '{}'",
    "bad-url": "Invalid parameter '{}'",
    "bad-option": "Invalid parameter '{}'",
    "too-many-items": "Invalid parameter '{}'",
    "no-sources": "Invalid parameter 'no sources selected'",
}

_SOURCE_FAULTS = frozenset({FaultClass.SOURCE.value, FaultClass.CHANGED.value, FaultClass.VANISHED.value})
_TARGET_FAULTS = frozenset({FaultClass.TARGET.value, FaultClass.REFUSED.value})


class Rejected(Exception):
    """A call is answered with a REJECTED struct, and this reason; never leaves the front."""


def status(job: Job, items: Sequence[Item] = (), *, downloading: bool = False) -> dict[str, str]:
    """Given a job, the items of a failed one, and whether the client knows DOWNLOADING, return its struct."""
    word = _STATUS[job.state]
    if downloading and word == IN_PROGRESS:
        word = DOWNLOADING
    struct = {"status": word, "id": job.id}
    if word == FAILED:
        struct["reason"] = _failure(job, items)
    return struct


def rejection(reason: str) -> dict[str, str]:
    """Given why a call is refused, return its struct."""
    return {"status": REJECTED, "reason": reason if len(reason) <= LONGEST else reason[: LONGEST - 1] + "…"}


def refusal(error: JobError) -> str:
    """Given what the desk or the store says, return the reason."""
    form = _REFUSALS.get(error.code, "{}") if isinstance(error, JobRefused) else "{}"
    return form.format(error)


def _failure(job: Job, items: Sequence[Item]) -> str:
    why = "cancelled" if job.state is JobState.CANCELLED else job.reason or "unknown"
    failed = [item for item in items if item.state is ItemState.FAILED]
    if job.origin == STRUCT_ORIGIN and failed:
        return f"{_end_that_failed(failed[0])}. Reason: {failed[0].reason or why}"
    return f"Move has failed for job with id {job.id}. Reason: {why}"


def _end_that_failed(item: Item) -> str:
    if item.fault in _TARGET_FAULTS:
        return "Unable to send to destination"
    if item.source.location is not None:
        if item.fault in _SOURCE_FAULTS:
            return f"Could not download from remote SCP source {item.source.location.endpoint}"
        return "Unable to send to destination"
    parts = urlsplit(item.source.url)
    if parts.scheme == "ala":
        return f"Could not download LSID {parse_qs(parts.query).get('lsid', ['?'])[0]} from ALA"
    return f"Could not download from URL {item.source.url}"

"""What the dialects hand over when they ask for a job: frozen, and not yet checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mistamover.jobs.model import Callback, Location, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks."""

    name: str
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What every call has, whatever it asks for."""

    who: Caller
    origin: str = "rest"
    """The dialect."""
    label: str = ""
    key: str = ""
    """For idempotency; empty: every call is a new job."""
    request_hash: str = ""
    """Of what was asked for; empty: made of it."""
    priority: int = 0
    deadline: float | None = None
    callback: Callback | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """One source: exactly one of `url`, `location` and `object_id` is set."""

    url: str = ""
    location: Location | None = None
    object_id: str = ""
    name: str = ""
    """What it is to be called where it goes into a directory; empty: what it is called already."""
    hash_type: str = ""
    hash_value: str = ""
    """Empty: computed and recorded, and compared with nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where to: one of `url` and `location` is set."""

    url: str = ""
    location: Location | None = None
    into: bool | None = None
    """It is a directory; None: as its last character and the number of sources say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectFields:
    """What the catalogue is to know of an object, as far as whoever registers it says."""

    description: str = ""
    originator: str = ""
    group: str = ""
    type: str = ""
    storage_technology: str = "FILESYSTEM"
    metadata: Mapping[str, object] = field(default_factory=dict)
    given_path: str = ""

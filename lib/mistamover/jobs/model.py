"""The values of the job front: endpoints, objects, jobs, items and events, frozen.

Nothing here does any I/O.  Times are seconds since the epoch (None: not yet), sizes are bytes.  Paths are text relative
to the base of their endpoint, with `/` between the parts, never with a leading one and never with `..`; bytes that are
no UTF-8 stand in them as surrogates (`os.fsdecode`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Op(enum.StrEnum):
    """What a job does."""

    COPY = "copy"  # from sources to a destination; the sources stay
    MOVE = "move"  # a copy; each source is removed behind its confirmed copy
    PUT = "put"  # content that came with the request
    DELETE = "delete"
    FETCH = "fetch"  # a copy from a URL of the world outside
    ARCHIVE = "archive"  # to an endpoint with the role of an archive
    ACTIVATE = "activate"  # back from there
    IMPORT = "import"  # a source that an importer turns into several files
    BUNDLE = "bundle"  # files of an archive, gathered as a cart for one download; see `cart_model`


class JobState(enum.StrEnum):
    """Where a job stands; the last three are final, except for a retry that a client asks for."""

    QUEUED = "queued"
    RUNNING = "running"
    PACKAGING = "packaging"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class ItemState(enum.StrEnum):
    """Where one item of a job stands."""

    QUEUED = "queued"
    STAGING = "staging"  # the archive is asked for it
    TRANSFERRING = "transferring"
    VERIFYING = "verifying"
    REMOVING = "removing"  # a move: its copy is confirmed and flushed, its source is about to go
    RETRY = "retry"  # it failed, and is tried again at `not_before`
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ObjectState(enum.StrEnum):
    """What the catalogue knows about an object."""

    RESERVED = "RESERVED"  # a job is making it; not shown to clients, but its place is taken
    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"
    DELETED = "DELETED"
    UNKNOWN = "UNKNOWN"  # removing it failed


class Packaging(enum.StrEnum):
    """In what form the items of a job arrive."""

    NONE = "none"
    ZIP = "zip"
    TAR = "tar"


class Role(enum.StrEnum):
    """What an endpoint is for."""

    NORMAL = "normal"
    ARCHIVE = "archive"


class Scope(enum.StrEnum):
    """What a client may do; each includes those before it."""

    NONE = "none"
    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        """Given another scope, tell whether this one allows all that it does."""
        order = list(Scope)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A path below the base of an endpoint."""

    endpoint: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an item comes from: exactly one of the three is set."""

    location: Location | None = None
    url: str = ""
    """Of the world outside, without user and password."""
    spool: str = ""
    """The name of a file in the spool directory: content that came with the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """One thing to be done, as a client asks for it."""

    source: Source
    target: Location | None = None
    """None for a deletion."""
    into: bool = False
    """The target is a directory, and the item goes into it under the source's own name; otherwise it is the new name,
    unless a directory of that name is there."""
    hash_type: str = ""
    hash_value: str = ""
    """What the client expects; lower case; empty: computed and recorded."""
    object_id: str = ""
    """The catalogue's object that this is about; empty if of none."""
    result_id: str = ""
    """The reserved object that becomes active when this is done."""
    size: int | None = None
    """If that is known beforehand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Whom to tell that a job has ended."""

    url: str = ""
    """A JSON POST goes there (http or https)."""
    queue: str = ""
    """A message with this routing key goes to the broker of [notify_amqp]."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Sent along as it came, such as a client's own id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job, as a client asks for it; its paths and URLs have been checked."""

    op: Op
    items: Sequence[NewItem]
    owner: str = "anonymous"
    label: str = ""
    """The client's own name for it."""
    key: str = ""
    """An idempotency key: the same owner's same key is the same job."""
    request_hash: str = ""
    """Tells whether a repeated key comes with the same request."""
    origin: str = ""
    """The dialect that it came by: rest, xmlrpc, dm, cli."""
    packaging: Packaging = Packaging.NONE
    package: Location | None = None
    """Where the package goes; set exactly with a packaging."""
    overwrite: bool = False
    """Replace what has a target's name already; otherwise only the same content is no failure."""
    priority: int = 0
    """The higher, the sooner."""
    deadline: float | None = None
    """It fails, with words, when it has not ended by then."""
    options: Mapping[str, object] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    """What the sources are opened with (user, password, cookies); kept apart, never shown, forgotten when it ends."""
    callback: Callback | None = None
    workers: str = ""
    """The group of workers that does it; empty: those of no group."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing to be done, as the store has it."""

    job: str
    seq: int
    source: Source
    target: Location | None
    into: bool
    hash_type: str
    hash_value: str
    object_id: str
    result_id: str
    state: ItemState
    size: int | None
    bytes_done: int
    attempts: int
    not_before: float | None
    started: float | None
    ended: float | None
    algorithm: str
    digest: str
    """What was confirmed, once it is."""
    landed: Location | None
    """Where it is, once that is known: with its final name."""
    fault: str
    """A `model.FaultClass`, in its word; empty while nothing failed."""
    reason: str
    parent: int | None = None
    """The item that turned out to be several, of which this is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is."""

    items: int
    items_done: int
    bytes: int
    """Of all items whose size is known."""
    bytes_done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job, as the store has it; without its items."""

    id: str
    """32 hexadecimal characters."""
    op: Op
    state: JobState
    owner: str
    label: str
    origin: str
    packaging: Packaging
    package: Location | None
    overwrite: bool
    priority: int
    deadline: float | None
    options: Mapping[str, object]
    callback: Callback | None
    reason: str
    """Why it failed, in one line; empty if it did not."""
    result: Mapping[str, object]
    """What came of it: `objects` (ids), `files`, for instance."""
    cancelling: bool
    """Somebody wants it to end."""
    attempts: int
    """How often a worker has begun with it."""
    not_before: float | None
    created: float
    started: float | None
    ended: float | None
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker's right to a job, for as long as it renews it."""

    job: Job
    items: Sequence[Item]
    worker: str
    token: str
    """Unlike that of any claim before: an update with an old one changes nothing."""
    secrets: Mapping[str, str]
    expires: float


class Standing(enum.StrEnum):
    """What a worker learns when it renews a claim."""

    OK = "ok"
    CANCELLING = "cancelling"  # somebody wants the job to end
    LOST = "lost"  # it took too long: the job may be another worker's


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """An endpoint that could not be used lately: its jobs wait until `until`, then one of them tries."""

    until: float
    failures: int
    """In a row."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DueCallback:
    """Somebody who is to be told now that a job has ended."""

    job: Job
    attempts: int
    """How often that was tried in vain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataObject:
    """One object of the catalogue."""

    id: str
    """A UUID with dashes."""
    location: Location
    given_path: str
    """The directory, as whoever registered it wrote it."""
    size: int
    state: ObjectState
    algorithm: str = ""
    digest: str = ""
    type: str = ""
    storage_technology: str = "FILESYSTEM"
    description: str = ""
    originator: str = ""
    group: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)
    registered: float = 0.0
    modified: float | None = None
    lock: str = ""
    """The job that changes it; empty if none does."""
    home: Location | None = None
    """Of an archived object: where it was, and is to be again."""
    owner: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of the log of what happened; the numbers grow, and none is used twice."""

    number: int
    job: str
    seq: int | None
    """The item, or None for the job as a whole."""
    time: float
    kind: str
    """A word: `submitted`, `started`, `progress`, `item`, `retry`, `done`, `failed`, `cancelled`, `requeued`."""
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A client's right, without its secret."""

    name: str
    scope: Scope
    created: float
    last_used: float | None
    expires: float | None

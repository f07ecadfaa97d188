"""What the REST API answers, for its OpenAPI document.

These models only describe; `shown` makes the answers, and a test sees to it that both agree.
"""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from mistamover.jobs.cart_model import BundleFormat, BundleLayout, CartState
from mistamover.jobs.model import ItemState, JobState, ObjectState, Op, Packaging
from mistamover.model import StreamState


class View(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(View):
    """What is wrong."""

    code: str = Field(description="A word for programs.", examples=["unknown-endpoint"])
    message: str = Field(description="A sentence for people.")


class ErrorView(View):
    """Every error."""

    error: ErrorDetail


class PlaceView(View):
    """A place below the base of an endpoint."""

    endpoint: str
    path: str
    path_hex: str | None = Field(None, description="The bytes of the path, where `path` does not show all of them.")
    absolute: str | None = Field(None, description="The whole path; for administrators only.")


class SourceView(View):
    """Where an item comes from."""

    url: str | None = None
    place: PlaceView | None = None
    content: bool | None = Field(None, description="It came with the request.")


class ItemView(View):
    """One file of a job, or what is to become several."""

    seq: int
    state: ItemState
    source: SourceView
    target: PlaceView | None = Field(description="Where it goes; a directory, where that is known only later.")
    landed: PlaceView | None = Field(description="Where it is, with its final name.")
    size: int | None
    bytes_done: int
    attempts: int
    not_before: datetime.datetime | None
    started: datetime.datetime | None
    ended: datetime.datetime | None
    hashtype: str
    hashsum: str = Field(description="Of what was delivered; empty while nothing was.")
    fault: str
    reason: str


class ProgressView(View):
    """How far a job is."""

    items: int
    items_done: int
    bytes: int = Field(description="Of all items whose size is known.")
    bytes_done: int


class JobView(View):
    """A job."""

    id: str
    op: Op
    state: JobState
    owner: str
    label: str
    origin: str
    packaging: Packaging
    package: PlaceView | None
    priority: int
    overwrite: bool
    cancelling: bool = Field(description="It was asked to end, and will.")
    attempts: int
    not_before: datetime.datetime | None
    deadline: datetime.datetime | None
    created: datetime.datetime
    started: datetime.datetime | None
    ended: datetime.datetime | None
    reason: str
    waits_for: str = Field("", description="The workers that it waits for, where none of them runs.")
    result: dict[str, JsonValue]
    progress: ProgressView
    items: list[ItemView] | None = Field(None, description="The first ones; all of them: /jobs/{id}/items.")


class JobPage(View):
    """Some of the jobs, the newest first."""

    jobs: list[JobView]
    next: int | None = Field(description="The cursor of the next page; null after the last one.")


class ItemPage(View):
    """Some of the items of a job."""

    items: list[ItemView]
    next: int | None = Field(description="The offset of the next page; null after the last one.")


class EventView(View):
    """Something that happened."""

    number: int
    job: str
    seq: int | None
    time: datetime.datetime
    kind: str
    data: dict[str, JsonValue]


class EventPage(View):
    """Some of the events of a job, the oldest first."""

    events: list[EventView]
    last: int = Field(description="Ask for what comes after this number.")


class CartProgressView(View):
    """How far a cart is."""

    files: int
    files_done: int
    bytes: int = Field(description="Of all files whose size is known.")
    bytes_done: int
    bytes_per_second: float | None = Field(description="Since it was begun with, or on the whole; null before.")


class CartView(View):
    """A cart."""

    uid: str
    job: str = Field(description="The job that gathers its files; see /jobs/{id}, also for each of them.")
    state: CartState
    message: str = Field(description="Why it is in error; empty if it is not.")
    owner: str
    bundle: bool = Field(description="Its bundle is made once, and stored.")
    format: BundleFormat
    layout: BundleLayout
    manifest: bool
    hashtype: str = Field(description="Of the hashes in the manifest.")
    created: datetime.datetime
    started: datetime.datetime | None
    ended: datetime.datetime | None
    last_used: datetime.datetime
    reserved: int = Field(description="Bytes of the volume that are kept for it.")
    progress: CartProgressView


class CartPage(View):
    """Some of the carts, the newest first."""

    carts: list[CartView]
    next: int | None = Field(description="The cursor of the next page; null after the last one.")


class PurgedView(View):
    """What was removed."""

    deleted: int = Field(description="How many carts.")


class ObjectView(View):
    """An object of the catalogue."""

    id: str
    place: PlaceView
    state: ObjectState
    size: int
    hashtype: str
    hashsum: str
    description: str
    originator: str
    group: str
    type: str
    storage_technology: str
    metadata: dict[str, JsonValue]
    registered: datetime.datetime
    modified: datetime.datetime | None
    lock: str = Field(description="The job that is changing it; empty if none is.")
    owner: str


class ObjectPage(View):
    """Some of the objects."""

    objects: list[ObjectView]
    next: int | None = Field(description="The cursor of the next page; null after the last one.")


class EndpointView(View):
    """An endpoint, without its secrets."""

    name: str
    url: str
    description: str
    role: Literal["normal", "archive"]
    read_only: bool
    enabled: bool
    dry_run: bool
    max_parallel: int
    workers: str = Field(description="The group of workers that alone can reach it; empty: all can.")
    accept_new_host_keys: bool
    options: dict[str, str]
    from_ini: bool = Field(description="Written in the configuration: only there can it be changed.")
    has_password: bool
    has_identity: bool


class EndpointList(View):
    """All endpoints."""

    endpoints: list[EndpointView]
    shadowed: list[str] = Field(description="Added over the API, and not used: the configuration has the same name.")


class CheckView(View):
    """What was found out about an endpoint by using it."""

    name: str
    ok: bool
    message: str
    description: str
    ways: dict[str, str]
    free: int | None = Field(description="Bytes; null where that cannot be known.")
    seconds: float


class StreamView(View):
    """A stream, as its process last told of itself."""

    name: str
    state: StreamState = Field(description="DOWN: no process serves it.")
    since: datetime.datetime | None = Field(description="When its process was started; what is counted, is since then.")
    updated: datetime.datetime | None = Field(description="When it told this.")
    seen: int
    delivered: int
    quarantined: int
    waiting: int
    bytes_delivered: int
    bytes_per_second: float


class StreamList(View):
    """All streams that ever ran here."""

    streams: list[StreamView]


class EstimateView(View):
    """How long a transfer will take, as far as earlier ones tell."""

    seconds: float
    bytes_per_second: float


class GroupView(View):
    """A group of workers."""

    name: str
    threads: int = Field(description="How many jobs its workers do at a time; 0: none runs.")
    workers: list[str]
    waiting: int = Field(description="Jobs that wait for them.")


class HealthView(View):
    """Whether all is well; more than the status needs the scope read."""

    status: Literal["ok", "failing"]
    version: str | None = None
    store: bool | None = None
    jobs: dict[str, int] | None = Field(None, description="How many there are in each state.")
    workers: dict[str, int] | None = Field(None, description="Those that run, and how many jobs each does at a time.")
    groups: list[GroupView] | None = Field(None, description="Of workers; the nameless one does jobs of no group.")

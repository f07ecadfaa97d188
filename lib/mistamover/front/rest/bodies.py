"""The bodies of requests to the REST API, checked; unknown keys are refused, with what was probably meant.

Values only: what they mean is the desk's to say.
"""

from __future__ import annotations

import difflib
import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from mistamover.jobs.model import Packaging

#: How deep JSON of a client's own may be.
_DEEPEST = 32


def _no_zero(text: str) -> str:
    if "\0" in text:
        raise ValueError("holds a zero byte")
    return text


def _plain(value: JsonValue, depth: int = 0) -> JsonValue:
    """Given JSON of a client's own, return it if it can be kept, and given back, as it is."""
    if depth > _DEEPEST:
        raise ValueError(f"is nested more than {_DEEPEST} times")
    match value:
        case str():
            _no_zero(value).encode()
        case float() if not math.isfinite(value):
            raise ValueError("holds a number that is none")
        case dict():
            for key, each in value.items():
                _plain(key, depth)
                _plain(each, depth + 1)
        case list():
            for each in value:
                _plain(each, depth + 1)
        case _:
            pass
    return value


Text = Annotated[str, AfterValidator(_no_zero)]
Words = Annotated[Text, Field(max_length=4_000)]
Name = Annotated[Text, Field(max_length=255)]
Path = Annotated[Text, Field(max_length=4_096)]
Url = Annotated[Text, Field(max_length=8_192)]
Identity = (
    Annotated[Text, Field(min_length=1, max_length=4_000)]
    | Annotated[int, Field(strict=True, ge=-(2**63), le=2**63 - 1)]
)
Json = Annotated[JsonValue, AfterValidator(_plain)]

_SECONDS_OF_A_YEAR = 366 * 86_400


class Body(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        if isinstance(given, dict):
            known = list(cls.model_fields)
            unknown = [key for key in given if key not in known]
            if unknown:
                raise ValueError(unknown_words("key", str(unknown[0]), known))
        return given


def unknown_words(noun: str, name: str, known: list[str]) -> str:
    """Given what kind of name is not known, the name and those that are, return the words for people."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"there is no {noun} {name[:60]!r}; did you mean {near[0]}?"
    return f"there is no {noun} {name[:60]!r}; there {'is' if len(known) == 1 else 'are'} {', '.join(known) or 'none'}"


class SourceBody(Body):
    """One source: exactly one of `url`, `object`, and `endpoint` with `path`."""

    url: Url = Field("", examples=["https://data.example.org/run7.nc"])
    object: Name = Field("", description="The id of an object of the catalogue.")
    endpoint: Name = ""
    path: Path = Field("", description="Below the base of the endpoint; `*`, `?` and `[` stand for several files.")
    name: Name = Field("", description="What it is to be called where it goes into a directory.")
    hashtype: Name = Field("", description="Of the hash in `hashsum`: sha256, md5 and so on.")
    hashsum: Name = Field("", description="What the content must have; the job fails otherwise.")

    @model_validator(mode="after")
    def _one(self) -> SourceBody:
        if sum(map(bool, (self.url, self.object, self.endpoint))) != 1 or (self.path and not self.endpoint):
            raise ValueError("a source is exactly one of: url; object; endpoint with path")
        return self


class PlaceBody(Body):
    """Where to: exactly one of `url`, and `endpoint` with `path`."""

    url: Url = Field("", examples=["sftp://user@hpc1.example.org/scratch/data/run7.nc"])
    endpoint: Name = ""
    path: Path = Field("", description="Below the base of the endpoint; with a slash at its end, a directory.")
    directory: bool | None = Field(None, description="It is a directory; otherwise a slash at the path's end says so.")

    @model_validator(mode="after")
    def _one(self) -> PlaceBody:
        if bool(self.url) == bool(self.endpoint) or (self.path and not self.endpoint):
            raise ValueError("a destination is exactly one of: url; endpoint with path")
        return self


class CallbackBody(Body):
    """Whom to tell that the job has ended: exactly one of `url` and `queue`."""

    url: Url = Field("", description="A JSON POST goes there.")
    queue: Name = Field("", description="The routing key of a message to the broker of [notify_amqp].")
    extra: dict[Name, Words] = Field({}, max_length=32, description="Sent along as it came.")

    @model_validator(mode="after")
    def _one(self) -> CallbackBody:
        if bool(self.url) == bool(self.queue):
            raise ValueError("a callback is exactly one of: url; queue")
        return self


class AskBody(Body):
    """What can be said of every job."""

    label: Name = Field("", description="Your own name for the job; the list can be filtered by it.")
    label_is_key: bool = Field(
        False, description="The label is an idempotency key as well: a second job of it is the first one."
    )
    priority: int = Field(0, ge=-100, le=100, description="The higher, the sooner.")
    timeout: float | None = Field(
        None, gt=0, le=_SECONDS_OF_A_YEAR, description="Seconds after which the job fails if it has not ended."
    )
    callback: CallbackBody | None = None

    @model_validator(mode="after")
    def _key(self) -> AskBody:
        if self.label_is_key and not self.label:
            raise ValueError("label_is_key needs a label")
        return self


#: What a request says of its job whose body is something else.
NOTHING_SAID = AskBody.model_validate({})


class CatalogueBody(Body):
    """What the catalogue is to know of an object."""

    description: Words = ""
    originator: Name = ""
    group: Name = ""
    type: Name = ""
    storage_technology: Name = "FILESYSTEM"
    metadata: dict[Name, Json] = Field({}, max_length=1_000)


class JobBody(AskBody):
    """A job."""

    op: Literal["copy", "move", "fetch", "import", "delete"] = "copy"
    sources: list[SourceBody] = Field(min_length=1)
    destination: PlaceBody | None = Field(None, description="Needed by all but `delete`.")
    packaging: Packaging = Packaging.NONE
    overwrite: bool = Field(False, description="Replace what is there; otherwise only the same content is no failure.")
    options: dict[Name, Json] = Field(
        {},
        max_length=32,
        description="For the sources: user, password, token, cookies, headers (kept secret); recursive for `delete`.",
    )
    register_as: CatalogueBody | None = Field(None, description="Make the one target an object of the catalogue.")

    @field_validator("op", mode="before")
    @classmethod
    def _no_cart(cls, given: Any) -> Any:
        if given == "bundle":
            raise ValueError("a bundle of files of an archive is a cart: ask for it at /api/v1/carts")
        return given

    @model_validator(mode="after")
    def _whole(self) -> JobBody:
        if (self.op == "delete") != (self.destination is None):
            raise ValueError("a job has a destination, unless its op is delete")
        if self.op == "delete" and (len(self.sources) > 1 or not self.sources[0].endpoint):
            raise ValueError("delete takes one source: endpoint and path")
        return self


class CartFileBody(Body):
    """A file of an archive, and where it is to be in the bundle."""

    id: Identity = Field(description="What the archive calls it.", examples=["foo.txt"])
    path: Path = Field(min_length=1, description="Where it is in the bundle.", examples=["1/2/3/foo.txt"])
    hashtype: Name | None = Field(None, description="Of the hash in `hashsum`: md5, sha256, sha3_256 and so on.")
    hashsum: Name | None = Field(None, description="What the content must have; nothing: it is computed, and told.")


class CartBody(Body):
    """A cart."""

    uid: Name | None = Field(None, description="Its name: letters, digits, `.`, `_`, `-`; a new one if none is given.")
    fileids: list[CartFileBody] = Field(min_length=1)
    bundle: bool | None = Field(None, description="Made once, and stored; as [carts] bundle says where it is not said.")
    format: Literal["tar", "zip", "tar.zst"] = "tar"
    layout: Literal["plain", "bagit"] = Field("plain", description="bagit: a bag as RFC 8493 describes it.")
    manifest: bool | None = Field(None, description="A member tells the hashes of all others.")
    archive: Name = Field("", description="The endpoint that the files come from; else that of [carts] archive.")


class ObjectBody(CatalogueBody):
    """An object whose data is at its place already."""

    endpoint: Name = Field(min_length=1)
    path: Path = Field(min_length=1)
    size: int | None = Field(None, ge=0, le=2**63 - 1, description="In bytes; it is looked up when it is not given.")
    hashtype: Name = ""
    hashsum: Name = ""


class ObjectChange(Body):
    """What is to be another way about an object; what is not given stays."""

    description: Words | None = None
    originator: Name | None = None
    group: Name | None = None
    type: Name | None = None
    metadata: dict[Name, Json] | None = Field(None, max_length=1_000)


class CopyBody(AskBody):
    """Where a copy of an object, or the object itself, is to go."""

    destination: PlaceBody
    overwrite: bool = False


class ArchiveBody(AskBody):
    """An archiving."""

    endpoint: Name = Field("", description="An endpoint whose role is archive; the first one if none is named.")


class ActivateBody(AskBody):
    """An object that is to come back from the archive."""


Workers = Annotated[
    str,
    Field(
        max_length=64,
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$",
        description="The group of workers that alone can reach it; empty: all can.",
    ),
]


class EndpointBody(Body):
    """An endpoint; its secrets can be written, and never read."""

    url: Url = Field(examples=["sftp://user@hpc1.example.org/scratch/data"])
    description: Words = ""
    role: Literal["normal", "archive"] = "normal"
    read_only: bool = False
    enabled: bool = True
    dry_run: bool = Field(False, description="Every job is answered as if done, and nothing is.")
    max_parallel: int = Field(4, ge=1, le=1_000)
    workers: Workers = ""
    accept_new_host_keys: bool = Field(False, description="Trust a host that is not known yet, from then on.")
    options: dict[Name, Words] = Field({}, max_length=100)
    password: Words | None = Field(None, json_schema_extra={"writeOnly": True}, description="Kept in a private file.")
    identity: Annotated[Text, Field(max_length=65_536)] | None = Field(
        None, json_schema_extra={"writeOnly": True}, description="A private key; kept in a private file."
    )


class EndpointChange(Body):
    """What is to be another way about an endpoint; what is not given stays."""

    url: Url | None = None
    description: Words | None = None
    role: Literal["normal", "archive"] | None = None
    read_only: bool | None = None
    enabled: bool | None = None
    dry_run: bool | None = None
    max_parallel: int | None = Field(None, ge=1, le=1_000)
    workers: Workers | None = None
    accept_new_host_keys: bool | None = None
    options: dict[Name, Words] | None = Field(None, max_length=100)
    password: Words | None = Field(None, json_schema_extra={"writeOnly": True})
    identity: Annotated[Text, Field(max_length=65_536)] | None = Field(None, json_schema_extra={"writeOnly": True})

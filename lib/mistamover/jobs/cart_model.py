"""The values of carts: files of an archive that are gathered in the volume of carts, and fetched as one bundle; frozen.

A cart is a job of bundling whose label is the cart's uid, and beside it what only carts have.  Nothing here does any
I/O.  The paths of files in a bundle are text as in `model`; sizes are bytes, times are seconds since the epoch.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from mistamover.jobs.model import Job, JobState

#: The endpoint of the target of a cart's items: the volume, which is none that a client could name.
VOLUME: Final = "cart:"


class CartState(enum.StrEnum):
    """What a client is told of a cart."""

    WAITING = "waiting"  # nobody has begun with it
    STAGING = "staging"  # the archive is asked for its files, and they come
    BUNDLING = "bundling"  # they are here, and the bundle is made of them
    READY = "ready"
    ERROR = "error"


class Kept(enum.StrEnum):
    """Whether the volume has what belongs to a cart."""

    LIVE = "live"
    EVICTED = "evicted"  # others needed the room, and nobody had used it for longest
    DELETED = "deleted"


class BundleFormat(enum.StrEnum):
    """What a bundle is, by the ending of its name."""

    TAR = "tar"
    ZIP = "zip"
    TAR_ZST = "tar.zst"


class BundleLayout(enum.StrEnum):
    """How its members are arranged."""

    PLAIN = "plain"  # each at its path
    BAGIT = "bagit"  # RFC 8493: below `data`, with the files that make it a bag


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleForm:
    """How a bundle is to be."""

    stored: bool = False
    """Made once, and kept in the volume; otherwise made anew for each download."""
    format: BundleFormat = BundleFormat.TAR
    layout: BundleLayout = BundleLayout.PLAIN
    manifest: bool = True
    """A member tells the hashes of all others. A bag always has one."""
    algorithm: str = "sha256"
    """The hash of the manifest."""

    def options(self) -> dict[str, object]:
        """Return it as the options of a job."""
        return {
            "stored": self.stored,
            "format": self.format.value,
            "layout": self.layout.value,
            "manifest": self.manifest,
            "algorithm": self.algorithm,
        }

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> BundleForm:
        """Given the options of a job of bundling, return how its bundle is to be."""
        return cls(
            stored=bool(options["stored"]),
            format=BundleFormat(options["format"]),
            layout=BundleLayout(options["layout"]),
            manifest=bool(options["manifest"]),
            algorithm=str(options["algorithm"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CartFile:
    """One file that a cart is to hold, as a client asks for it; not checked yet."""

    id: str
    """What the archive calls it; at an endpoint that is no archive interface its path there."""
    path: str
    """Where it is in the bundle."""
    hash_type: str = ""
    hash_value: str = ""
    """Empty: computed and recorded, and compared with nothing."""


class HeldFile(NamedTuple):
    """One file that a cart holds: no more than bundles are made of, as there are thousands."""

    path: bytes
    """Where it is in the bundle."""
    size: int | None
    digest: str
    """In the hash of the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCart:
    """A cart, as a client asks for it; not checked yet."""

    uid: str
    files: Sequence[CartFile]
    stored: bool | None = None
    """None: as [carts] bundle says."""
    format: str = "tar"
    layout: str = "plain"
    manifest: bool | None = None
    """None: as [carts] manifest says."""
    any_hash: bool = False
    """Also a hash that nobody knows, or that cannot be one, is taken: the cart is made, and comes to nothing."""
    archive: str = ""
    """The name of the endpoint that the files come from; empty: that of [carts] archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cart:
    """A cart, as the store has it."""

    uid: str
    job: Job
    kept: Kept
    reserved: int
    """Bytes of the volume that are kept for it."""
    last_used: float

    @property
    def form(self) -> BundleForm:
        """How its bundle is, or is to be."""
        return BundleForm.of(self.job.options)

    @property
    def state(self) -> CartState:
        """What its clients are told."""
        if self.job.state is JobState.QUEUED and self.job.started is not None:
            # Put back until the archive has it, or for another try.
            return CartState.STAGING
        return _STATES[self.job.state]

    @property
    def message(self) -> str:
        """Why it is in error, in one line; empty if it is not."""
        if self.job.state is JobState.CANCELLED:
            return self.job.reason or "cancelled"
        return self.job.reason if self.job.state is JobState.FAILED else ""


_STATES: Mapping[JobState, CartState] = {
    JobState.QUEUED: CartState.WAITING,
    JobState.RUNNING: CartState.STAGING,
    JobState.PACKAGING: CartState.BUNDLING,
    JobState.DONE: CartState.READY,
    JobState.FAILED: CartState.ERROR,
    JobState.CANCELLED: CartState.ERROR,
}

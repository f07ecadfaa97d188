"""A transport whose directory units travel as zips: it wraps another one, which carries everything.

A zip is made in a private place of ours, on our side, when the unit's turn has come; one at a time,
because directory units ride alone.  After a failure that says nothing about the unit the
zip is kept for the next attempt, as long as the unit is what it was.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mistamover.errors import TransportBug
from mistamover.files.identity import identity_of
from mistamover.files.names import ZIP, display, zip_names
from mistamover.model import Batch, Confirmed, Failed, FaultClass, Identity, Kind, TreeEntry, Unit, Verdict
from mistamover.transport.base import Capabilities, Guard, Transport, Zip
from mistamover.transport.zip_making import NotMade, make, unchanged
from mistamover.transport.zips_shown import ZipsShown

logger = logging.getLogger(__name__)

#: What is said of our own zip, by a transport that takes it for a source like any other.
_OUR_OWN = frozenset({FaultClass.SOURCE, FaultClass.VANISHED})

#: Failures after which the same zip is wanted again, most likely.
_WANTED_AGAIN = frozenset({FaultClass.LINK, FaultClass.TARGET, FaultClass.ABANDONED, FaultClass.BUG})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """What the zip in our place was made of."""

    name: bytes
    identity: Identity
    manifest: tuple[TreeEntry, ...]


class Zipping:
    """Zips for one target of one stream."""

    def __init__(self, plain: Transport, *, source: bytes, place: Path, always: bool, mirror: bool) -> None:
        """Given the transport that carries, the stream's directory, a private place, whether every directory unit is
        zipped or only those that the transport cannot carry, and whether it is a mirror, clear the place.

        A mirror has one zip for each unit, and replaces its own; otherwise each zip stays, and the next gets a number.
        """
        self._plain = plain
        self._source = source
        self._place = place
        self._always = always
        self._mirror = mirror
        self._shown = ZipsShown(place.with_name(f"{place.name}-shown")) if mirror else None
        self._trees: bool | None = None
        self._made: _Made | None = None
        self._clear()

    def open(self) -> Capabilities:
        """See `Transport.open`."""
        capabilities = self._plain.open()
        self._trees = capabilities.trees
        return capabilities

    def suspended(self) -> bool:
        """See `Transport.suspended`."""
        return self._plain.suspended()

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `Transport.deliver`."""
        if all(unit.kind is not Kind.TREE for unit in batch.units) or not self._zips():
            return self._plain.deliver(batch, guard)
        if len(batch.units) != 1:
            raise TransportBug("a directory unit that is to be zipped must ride alone")
        return [self._deliver_zipped(batch.units[0], guard)]

    def deliver_zip(self, made: Zip, guard: Guard) -> Verdict:
        """See `Transport.deliver_zip`."""
        return self._plain.deliver_zip(made, guard)

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        """See `Transport.remove`."""
        return self._plain.remove(names)

    def probe(self) -> None:
        """See `Transport.probe`."""
        self._plain.probe()

    def abort(self) -> None:
        """See `Transport.abort`."""
        self._plain.abort()

    def close(self, *, finished: bool) -> None:
        """See `Transport.close`."""
        self._clear()
        self._plain.close(finished=finished)

    # -- inside -------------------------------------------------------------------------------

    def _zips(self) -> bool:
        if self._always:
            return True
        if self._trees is None:
            self.open()
        return not self._trees

    def _deliver_zipped(self, unit: Unit, guard: Guard) -> Verdict:
        try:
            path = self._make(unit, guard)
            replaces = self._own(unit, path)
        except NotMade as error:
            return Failed(unit=unit, fault=error.fault, reason=str(error))
        # Whoever wants to write to the directory is let in: it is noticed, and then nothing is removed.
        guard.read_enough()
        made = Zip(
            path=path,
            names=list(zip_names(unit.name, numbered=not self._mirror)),
            replaces=replaces,
            unchanged=lambda: unchanged(unit, self._source),
        )
        verdict = self._plain.deliver_zip(made, guard)
        if isinstance(verdict, Failed):
            if verdict.fault not in _WANTED_AGAIN:
                self._clear()
            fault = FaultClass.HERE if verdict.fault in _OUR_OWN else verdict.fault
            return Failed(unit=unit, fault=fault, reason=verdict.reason)
        self._clear()
        zipped = replace(verdict, unit=replace(verdict.unit, first_seen=unit.first_seen))
        return Confirmed(unit=unit, digest="", parts=[zipped, *_content(unit)])

    def _own(self, unit: Unit, path: bytes) -> list[Identity]:
        """Given a unit and its zip, return what the zip may replace, and note that it is going to. Raise NotMade."""
        if self._shown is None:
            return []
        name = unit.name + ZIP
        own = self._shown.of(name) + ([unit.replaces] if unit.replaces else [])
        try:
            self._shown.note(name, identity_of(os.lstat(path)))
        except OSError as error:
            raise NotMade(FaultClass.HERE, f"cannot be noted here: {error.strerror or error}") from error
        return own

    def _make(self, unit: Unit, guard: Guard) -> bytes:
        """Return the path of the unit's zip: the one that is there already, or a new one. Raise NotMade."""
        path = os.fsencode(self._place) + b"/" + unit.name + ZIP
        wanted = _Made(name=unit.name, identity=unit.identity, manifest=unit.manifest)
        if self._made == wanted and os.path.lexists(path):
            return path
        self._clear()
        try:
            self._place.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            reason = f"cannot be zipped here: no directory {self._place} can be made: {error.strerror}"
            raise NotMade(FaultClass.HERE, reason) from error
        started = time.monotonic()
        make(unit, self._source, path, guard)
        words = (display(unit.name), len(unit.manifest), os.lstat(path).st_size, time.monotonic() - started)
        logger.info("zipped %s: %d entries make %d bytes, in %.3f s", *words)
        self._made = wanted
        return path

    def _clear(self) -> None:
        """Remove our place with all that is in it, also what a predecessor left."""
        self._made = None
        shutil.rmtree(self._place, ignore_errors=True)


def _content(unit: Unit) -> list[Confirmed]:
    """What is in a zipped unit, as parts without a hash: that of the zip covers them."""
    return [
        Confirmed(
            unit=Unit(
                name=unit.name + b"/" + entry.name,
                kind=entry.kind,
                identity=entry.identity,
                first_seen=unit.first_seen,
            ),
            digest="",
        )
        for entry in unit.manifest
        if entry.kind is not Kind.SPECIAL
    ]

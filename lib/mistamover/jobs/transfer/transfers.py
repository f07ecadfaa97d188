"""One item that is a file: delivered to its target, and of a move its source removed behind that.

Every step can be done again after a crash at any moment.  A source goes only behind a confirmed copy that is written
down in the store, and only if it still is what was copied.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

from mistamover.files.names import display
from mistamover.jobs import paths
from mistamover.jobs.model import Claim, Item, ItemState, Location, Op
from mistamover.jobs.transfer import copying
from mistamover.jobs.transfer.context import Context, Tell
from mistamover.jobs.transfer.copying import Arrived, Wanted
from mistamover.jobs.transfer.faults import Trouble
from mistamover.jobs.transfer.item_sources import opened, visited
from mistamover.jobs.transfer.origins import Stamp, blaming
from mistamover.jobs.transfer.places import Visit
from mistamover.model import FaultClass, Identity, Kind
from mistamover.transport.far import ExclusiveFiles, FarRefusal, NameTaken, There
from mistamover.transport.local_streaming import BeingWritten, NotTheSame, StreamingLocal

#: Jobs that take their sources away.
MOVING = (Op.MOVE, Op.ARCHIVE, Op.ACTIVATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Landed:
    """Where a file has arrived, and what was confirmed of it."""

    location: Location
    arrived: Arrived
    stamp: Stamp | None = None
    """What the source was when it was read; None where nobody remembers."""
    linked: bool = False
    """It is the source itself, by another name."""


def transfer(item: Item, claim: Claim, context: Context, tell: Tell, taken: Collection[Location]) -> Landed:
    """Given an item that is a file, and where others of its job have arrived, deliver it; return where it is now.

    Of a move the source is still there: see `remove_source`.  Raise Trouble, JobRefused, OSError, and what `tell` does.
    """
    tell(item.seq, ItemState.TRANSFERRING, 0, item.size)
    assert item.target is not None
    with visited(item.target.endpoint, context) as visit:
        if _can_link(item, claim, visit):
            landed = _linked(item, claim, visit, context, tell)
            if landed is not None:
                return landed
        # In this order: the connection to the target is the one that waits.
        with opened(item, claim, context) as (origin, name), blaming(item.target.endpoint):
            location = target_of(item, visit, name)
            if location in taken and claim.job.overwrite:
                words = f"{paths.shown(location.path)} is what another source of this job has become"
                raise Trouble(FaultClass.REFUSED, words, final=True)
            size = origin.size

            def sending(done: int) -> None:
                tell(item.seq, ItemState.TRANSFERRING, done, size)

            def proving(_: int) -> None:
                tell(item.seq, ItemState.VERIFYING, size or 0, size)

            wanted = wanted_of(item, claim)
            arrived = copying.deliver(
                origin,
                visit,
                visit.real(location.path),
                wanted,
                context.traces,
                sending=sending,
                proving=proving,
            )
            return Landed(location=location, arrived=arrived, stamp=origin.stamp)


def wanted_of(item: Item, claim: Claim) -> Wanted:
    """Given an item, return how it is to arrive."""
    return Wanted(
        job=claim.job.id,
        seq=item.seq,
        overwrite=claim.job.overwrite,
        hash_type=item.hash_type,
        hash_value=item.hash_value,
    )


def target_of(item: Item, visit: Visit, name: str) -> Location:
    """Given an item, a connection to its target and what its source is called, return where it goes.

    What is a directory already takes it in.
    """
    assert item.target is not None
    path = item.target.path
    inside = item.into or not path
    if not inside and visit.means.directories:
        # S3 and its like have no directories: what only looks like one is in nobody's way.
        there = visit.look(path)
        inside = there is not None and there.kind is Kind.DIRECTORY
    return Location(endpoint=item.target.endpoint, path=paths.joined(path, name) if inside and name else path)


def remove_source(item: Item, landed: Landed, claim: Claim, context: Context) -> None:
    """Given an item of a move and where it has arrived, remove its source, unless it is another one by now.

    Raise Trouble, LostClaim.
    """
    assert item.source.location is not None
    confirmed = landed.arrived
    with visited(item.source.location.endpoint, context) as visit:
        name = visit.real(item.source.location.path)
        there, identity = visit.far.look(name), _identity(visit, name)
        if there is not None:
            _check_is_another(visit, name, item, landed, claim, context)
            _check_unchanged(visit, name, there, identity, landed, context)
        context.claims.item_removing(
            claim,
            item.seq,
            landed=landed.location,
            algorithm=confirmed.algorithm,
            digest=confirmed.digest,
            size=confirmed.size,
        )
        if there is not None:
            _take_away(visit, name, there, identity)
            copying.flush_entry(visit, name)


def confirmed_before(item: Item) -> Landed:
    """Given an item whose source was about to go when its worker died, return what was confirmed then."""
    assert item.landed is not None
    arrived = Arrived(algorithm=item.algorithm, digest=item.digest, size=item.size or 0)
    return Landed(location=item.landed, arrived=arrived)


# -- inside -----------------------------------------------------------------------------------


def _can_link(item: Item, claim: Claim, visit: Visit) -> bool:
    """Whether a file stays at its endpoint: then one more name is all that is needed before the old one goes."""
    source = item.source.location
    return (
        claim.job.op in MOVING
        and source is not None
        and source.endpoint == visit.place.settings.name
        and visit.means.exclusive
    )


def _linked(item: Item, claim: Claim, visit: Visit, context: Context, tell: Tell) -> Landed | None:
    """Give a file one more name at its endpoint; None where that cannot be done, and it has to be copied."""
    assert item.source.location is not None
    location = target_of(item, visit, paths.base_name(item.source.location.path))
    old, there = visit.file(item.source.location.path)
    if old != visit.real(item.source.location.path):
        # A link is what goes: what it leads to stays, and would share its content with the copy from now on.
        return None
    new = visit.real(location.path)
    wanted = wanted_of(item, claim)
    digest = ""

    def told(_: int) -> None:
        tell(item.seq, ItemState.VERIFYING, 0, there.size)

    if wanted.hash_value:
        digest = copying.digest_of(visit, old, there.size, wanted.algorithm, told)
        wanted.check(digest)
    visit.make_way(new)
    far = cast("ExclusiveFiles", visit.far)
    try:
        far.hard_link(old, new)
    except NameTaken:
        if not _is_same(visit, old, new, there, told):
            if not wanted.overwrite:
                return None  # which says so
            with context.traces.beside(visit, new, claim.job.id, item.seq) as temporary:
                visit.far.remove(temporary)
                far.hard_link(old, temporary)
                visit.far.rename(temporary, new)
    except FarRefusal:
        # Another filesystem, or one that knows no links.
        return None
    copying.flush_entry(visit, new)
    algorithm = wanted.algorithm if digest else ""
    arrived = Arrived(algorithm=algorithm, digest=digest, size=there.size)
    return Landed(location=location, arrived=arrived, linked=True)


def _is_same(visit: Visit, old: bytes, new: bytes, there: There, told: copying.Told) -> bool:
    """Whether two names have the same content, as after a crash between giving the new one and taking the old."""
    taken = visit.far.look(new)
    if taken is None or taken.kind is not Kind.FILE or (taken.size, taken.mtime) != (there.size, there.mtime):
        return False
    first = copying.digest_of(visit, old, there.size, copying.HASH, told)
    return first == copying.digest_of(visit, new, taken.size, copying.HASH, told)


def _check_is_another(visit: Visit, name: bytes, item: Item, landed: Landed, claim: Claim, context: Context) -> None:
    """Raise Trouble if what is going to be removed is what it was copied to, reached by another way.

    Links may lead there, and so may two endpoints.  Whoever claims a removal that was begun knows already.
    """
    where = landed.location
    words = f"{display(name)} is source and target at once: it stays where it is"
    with visited(where.endpoint, context) as target:
        final = target.real(where.path)
        if where.endpoint == visit.place.settings.name:
            if final == name:
                raise Trouble(FaultClass.REFUSED, words, final=True)
            return
        above, _, last = name.rpartition(b"/")
        if not landed.arrived.replaced or final.rpartition(b"/")[2] != last:
            return
        # Two ways to one place cannot be told by their names: what is put there by one is seen by the other.
        with context.traces.beside(target, final, claim.job.id, item.seq) as mark:
            copying.put_mark(target, mark)
            seen = mark.rpartition(b"/")[2]
            one = visit.far.look(above + b"/" + seen if above else seen) is not None
            target.far.remove(mark)
    if one:
        raise Trouble(FaultClass.REFUSED, words, final=True)


def _identity(visit: Visit, name: bytes) -> Identity | None:
    """Return all that is known of what has a name, where it is on this machine; None elsewhere, and if nothing has."""
    return visit.far.identity(name) if isinstance(visit.far, StreamingLocal) else None


def _take_away(visit: Visit, name: bytes, there: There, identity: Identity | None) -> None:
    """Remove a source as it was when it was compared; writing that down may have taken a while. Raise Trouble."""
    try:
        if identity is not None:
            cast("StreamingLocal", visit.far).remove_same(name, identity)
            return
        if visit.far.look(name) not in (there, None):
            raise _changed(name)
    except NotTheSame as error:
        raise _changed(name) from error
    except BeingWritten as error:
        raise Trouble(FaultClass.SOURCE, f"{error}: it stays until that has ended") from error
    visit.far.remove(name)


def _changed(name: bytes) -> Trouble:
    return Trouble(
        FaultClass.CHANGED, f"{display(name)} has changed since it was copied: it stays where it is", final=True
    )


def _digest_at(location: Location, size: int, algorithm: str, context: Context) -> str:
    with visited(location.endpoint, context) as visit:
        return copying.digest_of(visit, visit.file(location.path)[0], size, algorithm, lambda _: None)


def _check_unchanged(
    visit: Visit, name: bytes, there: There, identity: Identity | None, landed: Landed, context: Context
) -> None:
    """Raise Trouble unless what is going to be removed is what was copied, and the copy is there."""
    confirmed, stamp = landed.arrived, landed.stamp
    with visited(landed.location.endpoint, context) as target:
        final, copy = target.file(landed.location.path)
        other = _identity(target, final) if landed.linked else None
    if copy.size != confirmed.size:
        words = f"the copy of {display(name)} is not there any more: the source stays where it is"
        raise Trouble(FaultClass.CHANGED, words)
    if there.kind is Kind.LINK:
        # What it led to was copied; the link itself is what is taken away.
        return
    if landed.linked:
        same = (there.size, there.mtime) == (copy.size, copy.mtime)
        if identity is not None and other is not None:
            same = (identity.dev, identity.ino) == (other.dev, other.ino)
    elif stamp is not None and not stamp.is_fresh(context.clock()):
        same = there.kind is Kind.FILE and stamp.fits(there) and stamp.identity == identity
    else:
        # Its time may be the same and its content another one: nothing else is as sure.
        same = there.kind is Kind.FILE and there.size == confirmed.size
        if same:
            algorithm = confirmed.algorithm if confirmed.digest else copying.HASH
            digest = copying.digest_of(visit, name, there.size, algorithm, lambda _: None)
            same = digest == (confirmed.digest or _digest_at(landed.location, copy.size, algorithm, context))
    if not same:
        raise _changed(name)

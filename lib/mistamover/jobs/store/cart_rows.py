"""Carts in the store: found by their uid, given room in the volume, kept while somebody downloads them.

Nothing here touches the volume itself: what may go from there is what `doomed` and `forgotten` tell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    Row,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    type_coerce,
    update,
)

from mistamover.errors import NoSpace
from mistamover.jobs.cart_model import Cart, CartState, HeldFile, Kept
from mistamover.jobs.model import JobState
from mistamover.jobs.store.admission import UNFINISHED
from mistamover.jobs.store.database import Database
from mistamover.jobs.store.ending import end
from mistamover.jobs.store.events import LARGEST, News, record
from mistamover.jobs.store.rows import job_of
from mistamover.jobs.store.schema import cart_downloads, carts, items, jobs

_ENDED: Final = (JobState.DONE.value, JobState.FAILED.value, JobState.CANCELLED.value)


class Carts:
    """All carts."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    # -- finding ------------------------------------------------------------------------------

    def get(self, job: str) -> Cart | None:
        """Given the id of a job, return its cart, whether it is still kept or not."""
        return self._first(_all().where(carts.c.job == job))

    def newest(self, uid: str, *, owner: str) -> Cart | None:
        """Given a uid, and who asks, return the cart that was made last of those that are kept: of his own, if any."""
        return self._first(_latest(_all().where(carts.c.uid == uid, carts.c.state == Kept.LIVE), owner))

    def last(self, uid: str, *, owner: str) -> Cart | None:
        """As `newest`, whether it is still kept or not."""
        return self._first(_latest(_all().where(carts.c.uid == uid), owner))

    def page(
        self,
        *,
        uid: str | None = None,
        owner: str | None = None,
        state: CartState | None = None,
        kept: Kept | None = Kept.LIVE,
        before: int | None = None,
        limit: int = 100,
    ) -> tuple[list[Cart], int | None]:
        """Given filters, return carts, the newest first, and the cursor of what comes after them, None at the end."""
        wanted = _all()
        if uid is not None:
            wanted = wanted.where(carts.c.uid == uid)
        if owner is not None:
            wanted = wanted.where(jobs.c.owner == owner)
        if state is not None:
            wanted = wanted.where(_is_at(state))
        if kept is not None:
            wanted = wanted.where(carts.c.state == kept)
        if before is not None:
            wanted = wanted.where(jobs.c.number < min(before, LARGEST))
        with self._database.read() as connection:
            rows = connection.execute(wanted.order_by(jobs.c.number.desc()).limit(limit + 1)).all()
        more = rows[limit - 1].number if len(rows) > limit else None
        return [_cart_of(row) for row in rows[:limit]], more

    def files(self, job: str) -> list[HeldFile]:
        """Given a cart's job, return the files that it holds, in their order."""
        path = type_coerce(items.c.target_path, LargeBinary)
        wanted = select(path, items.c.size, items.c.digest).where(items.c.job == job).order_by(items.c.seq)
        with self._database.read() as connection:
            return [HeldFile(bytes(path), size, digest or "") for path, size, digest in connection.execute(wanted)]

    # -- room in the volume -------------------------------------------------------------------

    def reserve(self, job: str, size: int, *, quota: int, unused_since: float) -> list[str]:
        """Given a cart's job, the bytes that it needs in all and those of the volume (0: no limit), keep them for it.

        Return the ids of the carts that were evicted for that: nobody has used them since `unused_since`, those that
        were not used for longest first, never one that is unfinished or being downloaded. Raise NoSpace; nobody was
        evicted then.
        """
        with self._database.write() as connection:
            self._database.serialise(connection, "carts")
            gone = [] if quota <= 0 else self._make_room(connection, job, size, quota, unused_since)
            connection.execute(update(carts).where(carts.c.job == job).values(reserved=size))
        return gone

    def evict_one(self, job: str, *, unused_since: float) -> str | None:
        """Given a cart's job that needs more room than the disk has, evict the next cart; return its job, or None."""
        with self._database.write() as connection:
            self._database.serialise(connection, "carts")
            for row in connection.execute(self._evictable(job, unused_since)).all():
                if self._evict(connection, row.job, unused_since):
                    return str(row.job)
        return None

    def reserved(self) -> int:
        """Return the bytes of the volume that are kept for carts."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(carts.c.reserved), 0))).scalar_one())

    def settle(self, job: str, size: int) -> None:
        """Given a cart's job, and the bytes that it takes in the end, keep no more for it; it counts as used now."""
        with self._database.write() as connection:
            mine = update(carts).where(carts.c.job == job, carts.c.state == Kept.LIVE)
            connection.execute(mine.values(reserved=size, last_used=self._clock()))

    def _make_room(self, connection: Connection, job: str, size: int, quota: int, unused_since: float) -> list[str]:
        others = select(func.coalesce(func.sum(carts.c.reserved), 0)).where(carts.c.job != job)
        lacking = int(connection.execute(others).scalar_one()) + size - quota
        gone = []
        if lacking > 0 and size <= quota:
            for row in connection.execute(self._evictable(job, unused_since)).all():
                if self._evict(connection, row.job, unused_since):
                    gone.append(str(row.job))
                    lacking -= row.reserved
                    if lacking <= 0:
                        break
        if lacking > 0:
            raise NoSpace
        return gone

    def _evictable(self, job: str, unused_since: float) -> Select[Any]:
        return (
            select(carts.c.job, carts.c.reserved)
            .join(jobs, jobs.c.id == carts.c.job)
            .where(carts.c.job != job, carts.c.reserved > 0, *self._unused(unused_since))
            .order_by(carts.c.last_used, jobs.c.number)
        )

    def _evict(self, connection: Connection, job: str, unused_since: float) -> bool:
        """Given the job of a cart that was found to be unused, evict it, if it still is; return whether it was."""
        _hold(connection, carts.c.job == job)
        still = select(carts.c.job).join(jobs, jobs.c.id == carts.c.job).where(carts.c.job == job)
        if connection.execute(still.where(*self._unused(unused_since))).first() is None:
            return False
        connection.execute(update(carts).where(carts.c.job == job).values(state=Kept.EVICTED, reserved=0))
        return True

    def _unused(self, since: float) -> Sequence[ColumnElement[bool]]:
        ended = jobs.c.state.in_(_ENDED)
        return (carts.c.state == Kept.LIVE, ended, carts.c.last_used <= since, ~self._downloaded())

    def _downloaded(self) -> ColumnElement[bool]:
        return exists().where(cart_downloads.c.job == carts.c.job, cart_downloads.c.until >= self._clock())

    # -- downloads ----------------------------------------------------------------------------

    def begin_download(self, job: str, lease: float) -> int | None:
        """Given a cart's job, and for how many seconds, let it stay; return the number of the download.

        None: it is not kept any more.
        """
        now = self._clock()
        with self._database.write() as connection:
            # Whoever evicts or deletes at this moment is waited for, or waits: see `_hold`.
            mine = update(carts).where(carts.c.job == job, carts.c.state == Kept.LIVE).values(last_used=now)
            if not connection.execute(mine).rowcount:
                return None
            new = insert(cart_downloads).values(job=job, until=now + lease).returning(cart_downloads.c.number)
            return int(connection.execute(new).scalar_one())

    def renew_downloads(self, numbers: Collection[int], lease: float) -> None:
        """Given the numbers of downloads that are under way, let their carts stay for so many seconds more."""
        with self._database.write() as connection:
            mine = update(cart_downloads).where(cart_downloads.c.number.in_(numbers))
            connection.execute(mine.values(until=self._clock() + lease))

    def end_download(self, number: int) -> None:
        """Given the number of a download, forget it; its cart was used until now."""
        now = self._clock()
        with self._database.write() as connection:
            mine = select(cart_downloads.c.job).where(cart_downloads.c.number == number).scalar_subquery()
            connection.execute(update(carts).where(carts.c.job == mine).values(last_used=now))
            # Those of a front that was killed go at the same time.
            over = (cart_downloads.c.number == number) | (cart_downloads.c.until < now)
            connection.execute(delete(cart_downloads).where(over))

    # -- the end ------------------------------------------------------------------------------

    def delete(self, uid: str, *, owner: str | None = None) -> list[str]:
        """Given a uid (and whose), delete all carts of it that are kept, whatever they are at; return their jobs."""
        return self._delete(owner, carts.c.uid == uid)

    def purge(self, *, unused_since: float, owner: str | None = None) -> list[str]:
        """Given a time (and whose), delete the carts that have ended and that nobody has used since; return their jobs.

        None goes that somebody is downloading.
        """
        unused = carts.c.last_used < unused_since
        return self._delete(owner, unused, jobs.c.state.in_(_ENDED), ~self._downloaded())

    def _delete(self, owner: str | None, *which: ColumnElement[bool]) -> list[str]:
        now = self._clock()
        mine = [carts.c.state == Kept.LIVE, *which, *([] if owner is None else [jobs.c.owner == owner])]
        news: list[News] = []
        with self._database.write() as connection:
            self._database.serialise(connection, "carts")
            wanted = select(jobs).join(carts, carts.c.job == jobs.c.id).where(*mine)
            wanted = wanted.where(jobs.c.id.in_(_hold(connection, *mine))).order_by(jobs.c.number)
            rows: Sequence[Row[Any]] = connection.execute(wanted).all()
            for row in rows:
                if row.state == JobState.QUEUED:
                    news += end(connection, row, JobState.CANCELLED, now, reason="its cart was deleted")
                elif row.state in UNFINISHED:
                    connection.execute(update(jobs).where(jobs.c.number == row.number).values(cancelling=True))
            gone = [str(row.id) for row in rows]
            connection.execute(update(carts).where(carts.c.job.in_(gone)).values(state=Kept.DELETED))
            record(self._database, connection, now, news)
        return gone

    def doomed(self, limit: int = 1000) -> list[str]:
        """Return the jobs of carts that are not kept, and that no worker has: their files can go, see `removed`."""
        wanted = select(carts.c.job).join(jobs, jobs.c.id == carts.c.job)
        wanted = wanted.where(carts.c.state == Kept.DELETED, carts.c.reserved > 0, jobs.c.state.in_(_ENDED))
        with self._database.read() as connection:
            return [str(row.job) for row in connection.execute(wanted.limit(limit))]

    def removed(self, job: str) -> None:
        """Given the job of a cart whose files are gone, keep no room for it."""
        with self._database.write() as connection:
            connection.execute(update(carts).where(carts.c.job == job).values(reserved=0))

    def kept(self, among: Collection[str]) -> set[str]:
        """Given ids of jobs, return those that have a cart which is kept."""
        with self._database.read() as connection:
            wanted = select(carts.c.job).where(carts.c.job.in_(among), carts.c.state == Kept.LIVE)
            return {str(row.job) for row in connection.execute(wanted)}

    def _first(self, wanted: Select[Any]) -> Cart | None:
        with self._database.read() as connection:
            row = connection.execute(wanted).first()
        return None if row is None else _cart_of(row)


def _hold(connection: Connection, *which: ColumnElement[bool]) -> list[str]:
    """Given a writing connection, and which carts, let nobody else change them or their jobs until it has committed.

    Return their jobs. What is asked of them afterwards counts: who had one until now may have begun to download it,
    which the statement that waited for that does not see. Who only refers to a job, as a new download does, does not
    wait for it: that would have the one wait for the other.
    """
    held = select(jobs.c.id).join(carts, carts.c.job == jobs.c.id).where(*which).order_by(jobs.c.number)
    return [str(row.id) for row in connection.execute(held.with_for_update(key_share=True))]


def _all() -> Select[Any]:
    own = (carts.c.uid, carts.c.state.label("kept"), carts.c.reserved, carts.c.last_used)
    return select(jobs, *own).join(carts, carts.c.job == jobs.c.id)


def _is_at(state: CartState) -> ColumnElement[bool]:
    """Given what clients are told of a cart, return what is then true of its row; see `Cart.state`."""
    at = jobs.c.state
    match state:
        case CartState.WAITING:
            return and_(at == JobState.QUEUED, jobs.c.started.is_(None))
        case CartState.STAGING:
            return or_(at == JobState.RUNNING, and_(at == JobState.QUEUED, jobs.c.started.is_not(None)))
        case CartState.BUNDLING:
            return at == JobState.PACKAGING
        case CartState.READY:
            return at == JobState.DONE
        case CartState.ERROR:
            return at.in_((JobState.FAILED.value, JobState.CANCELLED.value))


def _latest(wanted: Select[Any], owner: str) -> Select[Any]:
    # Nobody else can put another cart in the place of one's own.
    others = case((jobs.c.owner == owner, 0), else_=1)
    return wanted.order_by(others, jobs.c.number.desc()).limit(1)


def _cart_of(row: Row[Any]) -> Cart:
    return Cart(uid=row.uid, job=job_of(row), kept=Kept(row.kept), reserved=row.reserved, last_used=row.last_used)

"""What the holder of a claim tells of its items; each time it is asked whether the claim still stands.

Whoever has lost a claim changes nothing here: LostClaim is raised, and nothing was done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, case, delete, func, insert, select, update

from mistamover.errors import LostClaim
from mistamover.jobs.model import Claim, Item, ItemState, Location, NewItem
from mistamover.jobs.store.database import Database
from mistamover.jobs.store.ending import BEGUN
from mistamover.jobs.store.events import PROGRESS, News, record
from mistamover.jobs.store.lanes import CLAIMED
from mistamover.jobs.store.rows import item_of, item_values, landed_values
from mistamover.jobs.store.schema import items, jobs

Advance = tuple[ItemState, int, int | None]
"""How far an item is: its state, the bytes that are done, and its size, None while that is not known."""

#: What the record of its progress cannot bring back to life.
_SETTLED: Final = (ItemState.DONE, ItemState.FAILED, ItemState.CANCELLED, ItemState.REMOVING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """An item that is done."""

    seq: int
    landed: Location
    algorithm: str
    digest: str
    size: int
    started: float
    ended: float


class ItemSteps:
    """The steps of items."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def item_removing(
        self, claim: Claim, seq: int, *, landed: Location, algorithm: str, digest: str, size: int | None
    ) -> None:
        """Given an item whose copy is confirmed, write down that its source is about to go. Raise LostClaim."""
        confirmed = {"algorithm": algorithm, "digest": digest, **landed_values(landed)}
        with self._database.write() as connection:
            own(connection, claim)
            item = _item(connection, claim, seq)
            _change(connection, claim, item, {"state": ItemState.REMOVING, **_sized(item, size), **confirmed})

    def item_done(
        self, claim: Claim, seq: int, *, landed: Location | None, algorithm: str, digest: str, size: int | None
    ) -> None:
        """Given an item that is done, write that down. Raise LostClaim."""
        now = self._clock()
        confirmed = {"algorithm": algorithm, "digest": digest, **landed_values(landed)}
        values: dict[str, Any] = {"state": ItemState.DONE, "ended": now, "not_before": None, "fault": "", "reason": ""}
        with self._database.write() as connection:
            own(connection, claim)
            item = _item(connection, claim, seq)
            values["started"] = _began(connection, claim, item, now) if item.started is None else item.started
            _change(connection, claim, item, {**values, **_sized(item, size), **confirmed})
            self._tell(connection, claim, seq, now, state=ItemState.DONE.value)

    def items_done(self, claim: Claim, done: Sequence[Finished]) -> None:
        """Given items that are done, write that down for all of them at once. Raise LostClaim."""
        usual = {"state": ItemState.DONE.value, "not_before": None, "fault": "", "reason": ""}
        changes = {
            each.seq: {
                **usual,
                **landed_values(each.landed),
                "algorithm": each.algorithm,
                "digest": each.digest,
                "size": each.size,
                "bytes_done": each.size,
                "started": each.started,
                "ended": each.ended,
            }
            for each in done
        }
        told = [News(job=claim.job.id, kind="item", seq=seq, data={"state": "done"}) for seq in changes]
        with self._database.write() as connection:
            own(connection, claim)
            _change_many(connection, claim, changes)
            record(self._database, connection, self._clock(), told)

    def items_staged(self, claim: Claim, sizes: Mapping[int, int | None]) -> None:
        """Given items that an archive has been asked for, with their sizes as far as it knows them, write that down.

        They stay so when their job is put back. Raise LostClaim.
        """
        # One that had landed, and was lost, is nowhere: nothing of it could be half-way removed.
        staged = {"state": ItemState.STAGING.value, "bytes_done": 0, "not_before": None, **landed_values(None)}
        with self._database.write() as connection:
            own(connection, claim)
            _change_many(connection, claim, {seq: {**staged, "size": size} for seq, size in sizes.items()})

    def item_failed(self, claim: Claim, seq: int, *, fault: str, reason: str, not_before: float | None) -> None:
        """Given an item that failed, why, and when it is tried again, None for never, write that down.

        One whose source is about to go stays so until it has failed for good. Raise LostClaim.
        """
        now = self._clock()
        state = ItemState.FAILED if not_before is None else ItemState.RETRY
        with self._database.write() as connection:
            own(connection, claim)
            item = _item(connection, claim, seq)
            values = {"attempts": item.attempts + 1, "not_before": not_before, "fault": fault, "reason": reason}
            if not_before is None:
                values |= {"state": state, "ended": now}
            elif item.state != ItemState.REMOVING:
                values |= {"state": state, "bytes_done": 0, "started": None}
            _change(connection, claim, item, values)
            self._tell(connection, claim, seq, now, state=state.value, fault=fault, reason=reason)

    def expand(self, claim: Claim, seq: int, new: Sequence[NewItem]) -> list[Item]:
        """Given an item that turned out to be several, add these, and return all it is made of. Raise LostClaim.

        What an earlier expansion left stays if it is done, or asked for again. The item itself stays as it is: it
        is done, by `item_done`, when all of these are.
        """
        with self._database.write() as connection:
            own(connection, claim)
            mine = select(items).where(items.c.job == claim.job.id, items.c.parent == seq).order_by(items.c.seq)
            earlier = {_same(row._asdict()): row for row in connection.execute(mine)}
            wanted = {_same(values): values for values in self._rows(connection, claim, seq, new)}
            settled = {key for key, row in earlier.items() if ItemState(row.state) in _SETTLED}
            surplus = [row.seq for key, row in earlier.items() if key not in wanted and key not in settled]
            for some in _slices(surplus):
                connection.execute(delete(items).where(items.c.job == claim.job.id, items.c.seq.in_(some)))
            fresh = [values for key, values in wanted.items() if key not in earlier]
            if fresh:
                connection.execute(insert(items), fresh)
            _count_anew(connection, claim)
            return [item_of(row) for row in connection.execute(mine)]

    def _rows(self, connection: Connection, claim: Claim, seq: int, new: Sequence[NewItem]) -> list[dict[str, Any]]:
        last = connection.execute(select(func.max(items.c.seq)).where(items.c.job == claim.job.id)).scalar_one()
        return [item_values(claim.job.id, last + place, item, parent=seq) for place, item in enumerate(new, 1)]

    def _advance(
        self, connection: Connection, claim: Claim, advances: Mapping[int, Advance], now: float
    ) -> Iterable[News]:
        """Given a claim that stands, and how far items of it are by their numbers, write that down."""
        rows: list[Row[Any]] = []
        for some in _slices(list(advances)):
            rows += connection.execute(select(items).where(items.c.job == claim.job.id, items.c.seq.in_(some)))
        difference, moved = Counter[str](), False
        for row in rows:
            state, done, size = advances[row.seq]
            if ItemState(row.state) in _SETTLED:
                continue
            values: dict[str, Any] = {"state": state, "bytes_done": done}
            if size is not None:
                values["size"] = size
            if state in BEGUN:
                values |= {"not_before": None, "started": now if row.started is None else row.started}
            if any(row._mapping[name] != value for name, value in values.items()):
                _write(connection, claim, row, values)
                difference.update(_difference(row, values))
                moved = True
        if not moved:
            return ()
        _add(connection, claim, difference)
        progress = connection.execute(
            select(jobs.c.item_count.label("items"), jobs.c.items_done, jobs.c.bytes, jobs.c.bytes_done).where(
                jobs.c.id == claim.job.id
            )
        ).one()
        return (News(job=claim.job.id, kind=PROGRESS, data=dict(progress._mapping)),)

    def _tell(self, connection: Connection, claim: Claim, seq: int, now: float, **data: object) -> None:
        record(self._database, connection, now, [News(job=claim.job.id, kind="item", seq=seq, data=data)])


def own(connection: Connection, claim: Claim) -> Row[Any]:
    """Given a writing connection and a claim, return the job's row, which nobody else changes. Raise LostClaim."""
    row = connection.execute(
        select(jobs)
        .where(jobs.c.id == claim.job.id, jobs.c.claim_token == claim.token, jobs.c.state.in_(CLAIMED))
        .with_for_update()
    ).first()
    if row is None:
        raise LostClaim(f"job {claim.job.id} is not {claim.worker}'s any more")
    return row


def _began(connection: Connection, claim: Claim, item: Row[Any], now: float) -> float:
    """Given an item that was done before anybody wrote down that it had begun, return when it may have.

    That is when the one before it ended, or when the job began: small files have a rate as well.
    """
    before = select(items.c.ended).where(items.c.job == claim.job.id, items.c.seq == item.seq - 1)
    known = (claim.job.started, connection.execute(before).scalar_one_or_none())
    return min(now, max((time for time in known if time is not None), default=now))


def _item(connection: Connection, claim: Claim, seq: int) -> Row[Any]:
    return connection.execute(select(items).where(items.c.job == claim.job.id, items.c.seq == seq)).one()


def _change(connection: Connection, claim: Claim, item: Row[Any], values: Mapping[str, Any]) -> None:
    """Given the row of an item and what changes in it, write that, and what it means for the job as a whole."""
    _write(connection, claim, item, values)
    _add(connection, claim, _difference(item, values))


def _write(connection: Connection, claim: Claim, item: Row[Any], values: Mapping[str, Any]) -> None:
    connection.execute(update(items).where(items.c.job == claim.job.id, items.c.seq == item.seq).values(**values))


def _change_many(connection: Connection, claim: Claim, changes: Mapping[int, Mapping[str, Any]]) -> None:
    """Given what changes in items, the same columns of each, by their numbers, do as `_change`, in a few statements."""
    if not changes:
        return
    difference = Counter[str]()
    for some in _slices(list(changes)):
        mine = select(items).where(items.c.job == claim.job.id, items.c.seq.in_(some))
        for row in connection.execute(mine):
            difference.update(_difference(row, changes[row.seq]))
    columns = next(iter(changes.values()))
    changed = update(items).where(items.c.job == claim.job.id, items.c.seq == bindparam("number"))
    changed = changed.values({items.c[name]: bindparam(f"new_{name}") for name in columns})
    rows = [
        {"number": seq, **{f"new_{name}": value for name, value in values.items()}} for seq, values in changes.items()
    ]
    connection.execute(changed, rows)
    _add(connection, claim, difference)


def _difference(item: Row[Any], values: Mapping[str, Any]) -> Counter[str]:
    """Given the row of an item and what changes in it, return by how much that changes the sums of its job."""
    size, done = values.get("size", item.size), values.get("bytes_done", item.bytes_done)
    became = (values.get("state", item.state) == ItemState.DONE) - (item.state == ItemState.DONE)
    return Counter(items_done=became, bytes=(size or 0) - (item.size or 0), bytes_done=done - item.bytes_done)


def _add(connection: Connection, claim: Claim, difference: Counter[str]) -> None:
    sums = {jobs.c[name]: jobs.c[name] + more for name, more in difference.items() if more}
    if sums:
        connection.execute(update(jobs).where(jobs.c.id == claim.job.id).values(sums))


def _sized(item: Row[Any], size: int | None) -> dict[str, Any]:
    """Given the row of an item that is complete, and its size if it has one, return what that changes."""
    return {"bytes_done": item.bytes_done} if size is None else {"size": size, "bytes_done": size}


def _same(values: Mapping[str, Any]) -> tuple[Any, ...]:
    """Given the columns of an item, return those by which it is known again."""
    names = ("source_endpoint", "source_path", "source_url", "source_spool", "target_endpoint", "target_path")
    return tuple(values[name] for name in names)


def _count_anew(connection: Connection, claim: Claim) -> None:
    of_job = items.c.job == claim.job.id
    done = func.coalesce(func.sum(case((items.c.state == ItemState.DONE, 1), else_=0)), 0)
    size, moved = func.coalesce(func.sum(items.c.size), 0), func.coalesce(func.sum(items.c.bytes_done), 0)
    row = connection.execute(select(func.count(), done, size, moved).where(of_job)).one()
    values = dict(zip(("item_count", "items_done", "bytes", "bytes_done"), map(int, row), strict=True))
    connection.execute(update(jobs).where(jobs.c.id == claim.job.id).values(**values))


def _slices(numbers: list[int], size: int = 1000) -> Iterable[list[int]]:
    """Given numbers, return them in parts that one statement can take."""
    return (numbers[start : start + size] for start in range(0, len(numbers), size))

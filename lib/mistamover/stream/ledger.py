"""The ledger of one stream: what was delivered, what still has to be handed over, what is in trouble.

One SQLite file.  The process of the stream writes it, commands read it, also while
no process runs.  A commit that allows removals is on disk before it returns
(`synchronous=FULL`).  It grows with deliveries, never with what waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mistamover.model import Confirmed, FaultClass, Identity, Kind
from mistamover.stream.database import Database
from mistamover.stream.records import (
    HISTORY,
    Delivery,
    Release,
    Relocation,
    Totals,
    Trouble,
    at_target,
    delivery_of,
    release_of,
    relocation_of,
    restored,
    row_of,
    with_parts,
)

__all__ = ["Delivery", "Ledger", "Release", "Relocation", "Totals", "Trouble"]


class Ledger(Database):
    """An open ledger; see the module."""

    @property
    def owner(self) -> str:
        """A short random name that tells this ledger's stream from every other, at any target."""
        return str(self._db.execute("SELECT value FROM meta WHERE key = 'owner'").fetchone()[0])

    @property
    def completing(self) -> bool:
        """Whether the completion file was delivered, and the stream is to end when nothing is left."""
        return self._db.execute("SELECT 1 FROM meta WHERE key = 'completing'").fetchone() is not None

    @completing.setter
    def completing(self, value: bool) -> None:
        with self._transaction():
            if value:
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('completing', '1')")
            else:
                self._db.execute("DELETE FROM meta WHERE key = 'completing'")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- deliveries ---------------------------------------------------------------------------

    def confirm(
        self,
        confirmed: Sequence[Confirmed],
        *,
        target: str,
        lane: str,
        algorithm: str,
        started: float,
        now: float,
        mirror: bool,
    ) -> int:
        """Given what a target has confirmed and flushed, record it durably; return the number of the batch.

        For a mirror nothing is left to hand over, and what was delivered is remembered to tell changes.
        """
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO batch (target, lane, algorithm, started, confirmed, handed_over)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (target, lane, algorithm, started, now, now if mirror else None),
            )
            batch = int(cursor.lastrowid or 0)
            self._db.executemany(
                "INSERT INTO delivery (batch, name, kind, dev, ino, size, mtime_ns, ctime_ns, digest, attempts,"
                " first_seen, part) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (row_of(batch, c, part) for whole in confirmed for part, c in with_parts(whole)),
            )
            if mirror:
                self._db.executemany(
                    "INSERT OR REPLACE INTO mirrored VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        (c.unit.name, target, c.unit.kind.value, *c.unit.identity)
                        for whole in confirmed
                        for c in at_target(whole)
                    ),
                )
        return batch

    def handed_over(self, batch: int, now: float, kept: dict[bytes, str]) -> None:
        """Given a batch of which every source was removed, or kept for a reason, record that."""
        with self._transaction():
            self._db.execute("UPDATE batch SET handed_over = ? WHERE id = ?", (now, batch))
            self._db.executemany(
                "UPDATE delivery SET kept = ? WHERE batch = ? AND name = ?",
                ((reason, batch, name) for name, reason in kept.items()),
            )

    def open_batches(self) -> Iterator[tuple[int, str, list[Confirmed]]]:
        """Yield what was confirmed but not handed over: the batch, its target, its units."""
        for batch, target in self._db.execute(
            "SELECT id, target FROM batch WHERE handed_over IS NULL ORDER BY id"
        ).fetchall():
            yield batch, target, self._units_of(batch)

    def batches_after(self, number: int) -> Iterator[tuple[int, list[Confirmed]]]:
        """Given the number of a batch, yield those that were confirmed after it, each with its units, in order."""
        for (batch,) in self._db.execute("SELECT id FROM batch WHERE id > ? ORDER BY id", (number,)).fetchall():
            yield batch, self._units_of(batch)

    def last_batch(self) -> int:
        """Return the number of the last batch that is recorded; 0 if there is none."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM batch").fetchone()[0])

    def _units_of(self, batch: int) -> list[Confirmed]:
        rows = self._db.execute(
            "SELECT name, kind, dev, ino, size, mtime_ns, ctime_ns, digest, attempts, first_seen, part"
            " FROM delivery WHERE batch = ? ORDER BY id",
            (batch,),
        )
        return restored(rows)

    def notes(self, prefix: str) -> dict[str, str]:
        """Given how their keys begin, return what was noted with `note`, by the rest of the keys."""
        rows = self._db.execute("SELECT key, value FROM meta WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
        return {key[len(prefix) :]: value for key, value in rows}

    def note(self, prefix: str, values: Mapping[str, str]) -> None:
        """Given how keys begin, the rest of each and its value, note them in place of what was noted before."""
        with self._transaction():
            self._db.execute("DELETE FROM meta WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
            self._db.executemany("INSERT INTO meta VALUES (?, ?)", ((prefix + k, v) for k, v in values.items()))

    def history(self, *, since: float | None = None) -> Iterator[Delivery]:
        """Given a time, yield what was delivered from then on, the newest first; without it, everything."""
        condition, values = ("WHERE b.confirmed >= ?", (since,)) if since is not None else ("", ())
        for row in self._db.execute(f"{HISTORY} {condition} ORDER BY d.id DESC", values):
            yield delivery_of(row)

    def delivered_after(self, number: int, most: int) -> list[Delivery]:
        """Given the number of a delivery and how many are wanted, return the units delivered after it, in order."""
        query = f"{HISTORY} WHERE d.id > ? AND NOT d.part ORDER BY d.id LIMIT ?"
        return [delivery_of(row) for row in self._db.execute(query, (number, most))]

    def confirmed_at(self, number: int) -> float | None:
        """Given the number of a delivery, return when it was confirmed; None if it is not, or no longer, recorded."""
        row = self._db.execute(
            "SELECT b.confirmed FROM delivery d JOIN batch b ON b.id = d.batch WHERE d.id = ?", (number,)
        ).fetchone()
        return float(row[0]) if row else None

    def last_before(self, moment: float) -> int:
        """Given a time, return the number of the last delivery that was confirmed before it; 0 if there is none."""
        (number,) = self._db.execute(
            "SELECT coalesce(max(d.id), 0) FROM delivery d JOIN batch b ON b.id = d.batch WHERE b.confirmed < ?",
            (moment,),
        ).fetchone()
        return int(number)

    def last_number(self) -> int:
        """Return the number of the last delivery that is recorded; 0 if there is none."""
        return int(self._db.execute("SELECT coalesce(max(id), 0) FROM delivery").fetchone()[0])

    def deliveries_of(self, name: bytes) -> list[Delivery]:
        """Given a unit's name, return its deliveries, the newest first."""
        query = f"{HISTORY} WHERE d.name = ? ORDER BY d.id DESC LIMIT 100"
        return [delivery_of(row) for row in self._db.execute(query, (name,))]

    def is_zip(self, name: bytes) -> bool:
        """Given a name without a slash, tell whether the zip of a directory unit was delivered under it."""
        # Of all parts of units only a zip is not below the unit's own name.
        row = self._db.execute("SELECT 1 FROM delivery WHERE part AND name = ? LIMIT 1", (name,)).fetchone()
        return row is not None

    def totals(self) -> Totals:
        """Return the sums over the history that is kept."""
        files, size = self._db.execute(
            # What travelled inside a zip has no hash of its own, and is no bytes beside those of the zip.
            "SELECT coalesce(sum(NOT part), 0),"
            " coalesce(sum(CASE WHEN kind = 'file' AND digest != '' THEN size ELSE 0 END), 0) FROM delivery"
        ).fetchone()
        (last,) = self._db.execute("SELECT max(confirmed) FROM batch").fetchone()
        (quarantined,) = self._db.execute("SELECT count(*) FROM trouble WHERE quarantined").fetchone()
        released = 0
        if self._knows_releases:
            (released,) = self._db.execute("SELECT count(*) FROM released").fetchone()
        return Totals(files=files, size=size, quarantined=quarantined, released=released, last=last)

    def prune(self, before: float) -> None:
        """Given a time, forget finished deliveries that are older."""
        with self._transaction():
            old = "SELECT id FROM batch WHERE handed_over IS NOT NULL AND confirmed < ?"
            self._db.execute(f"DELETE FROM delivery WHERE batch IN ({old})", (before,))  # noqa: S608
            # The last one stays, empty: numbers go on from it, and somebody may remember how far he has read.
            self._db.execute(f"DELETE FROM batch WHERE id IN ({old}) AND id < (SELECT max(id) FROM batch)", (before,))  # noqa: S608
            # What still lies in the stream's directory would be sent if this were forgotten.
            self._db.execute("DELETE FROM released WHERE released < ? AND dev IS NULL", (before,))

    # -- trouble ------------------------------------------------------------------------------

    def troubles(self) -> list[Trouble]:
        """Return everything that is in retry or in quarantine."""
        rows = self._db.execute(
            "SELECT name, target, quarantined, attempts, fault, reason, since, retry_at, dev, ino, size, mtime_ns,"
            " ctime_ns, moved_to FROM trouble ORDER BY since"
        )
        return [
            Trouble(
                name=row[0],
                target=row[1],
                quarantined=bool(row[2]),
                attempts=row[3],
                fault=FaultClass(row[4]),
                reason=row[5],
                since=row[6],
                retry_at=row[7],
                identity=Identity(*row[8:13]) if row[8] is not None else None,
                moved_to=row[13] or None,
            )
            for row in rows
        ]

    def note_troubles(self, troubles: Iterable[Trouble]) -> None:
        """Given what could not be delivered, remember it; an older note about what has the name is replaced.

        What was moved to quarantine has its name there no more: there may be several of one name.
        """
        troubles = list(troubles)
        with self._transaction():
            self._db.executemany(
                "DELETE FROM trouble WHERE name = ? AND moved_to = x''", ((t.name,) for t in troubles if t.moved_to)
            )
            self._db.executemany(
                "INSERT OR REPLACE INTO trouble VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        t.name,
                        t.target,
                        t.quarantined,
                        t.attempts,
                        t.fault.value,
                        t.reason,
                        t.since,
                        t.retry_at,
                        *(t.identity or (None,) * 5),
                        t.moved_to or b"",
                    )
                    for t in troubles
                ),
            )

    def forget_troubles(self, names: Iterable[bytes]) -> None:
        """Given names that are no trouble any more, forget what was noted of what has them; quarantine stays."""
        with self._transaction():
            self._db.executemany("DELETE FROM trouble WHERE name = ? AND moved_to = x''", ((name,) for name in names))

    # -- the end of a quarantine --------------------------------------------------------------

    @property
    def _knows_releases(self) -> bool:
        """Whether the file has what this section needs: one of an older version may only be read."""
        return self._version >= 2

    def relocations(self) -> list[Relocation]:
        """Return what is on its way out of quarantine, or was when a process died."""
        return [relocation_of(row) for row in self._db.execute("SELECT * FROM relocation ORDER BY source")]

    def note_relocations(self, planned: Iterable[Relocation]) -> None:
        """Given what is about to be moved, or how far that has come, record it durably."""
        with self._transaction():
            self._db.executemany(
                "INSERT OR REPLACE INTO relocation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (r.source, r.name, r.verb, r.who, r.destination, *r.found, *(r.copy or (None, None)), r.placed)
                    for r in planned
                ),
            )

    def end_quarantines(
        self, ended: Iterable[Trouble], released: Iterable[Release] = (), sources: Iterable[bytes] = ()
    ) -> None:
        """Given what is in quarantine no more, what of it was released, and the sources of plans that are carried out
        or given up, record all of that at once, durably.
        """
        with self._transaction():
            self._db.executemany(
                "DELETE FROM trouble WHERE name = ? AND moved_to = ?", ((t.name, t.moved_to or b"") for t in ended)
            )
            self._db.executemany("DELETE FROM relocation WHERE source = ?", ((source,) for source in sources))
            self._db.executemany(
                "INSERT INTO released (name, target, reason, who, released, place, dev, ino, size, mtime_ns, ctime_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((r.name, r.target, r.reason, r.who, r.when, r.place, *(r.identity or (None,) * 5)) for r in released),
            )

    def releases(self, *, name: bytes | None = None, place: bytes | None = None) -> list[Release]:
        """Given a unit's name, or the path where it was left, return its releases, the latest first."""
        if not self._knows_releases:
            return []
        column, value = ("name", name) if name is not None else ("place", place)
        query = f"SELECT * FROM released WHERE {column} = ? ORDER BY id DESC LIMIT 100"  # noqa: S608
        return [release_of(row) for row in self._db.execute(query, (value,))]

    def standing_releases(self) -> dict[bytes, Identity]:
        """Return what was released and left in the stream's directory, and what it was then: it is not sent as such."""
        rows = self._db.execute(
            "SELECT name, dev, ino, size, mtime_ns, ctime_ns FROM released WHERE dev IS NOT NULL ORDER BY id"
        )
        return {name: Identity(*numbers) for name, *numbers in rows}

    def end_release(self, name: bytes) -> None:
        """Given a name that belongs to something else now, let it be sent again; that it was released stays known."""
        with self._transaction():
            self._db.execute("UPDATE released SET dev = NULL WHERE name = ?", (name,))

    # -- mirror -------------------------------------------------------------------------------

    def mirrored(self, name: bytes, target: str) -> Identity | None:
        """Given a name, return what it was when it was last delivered to the target."""
        row = self._db.execute(
            "SELECT dev, ino, size, mtime_ns, ctime_ns FROM mirrored WHERE name = ? AND target = ?", (name, target)
        ).fetchone()
        return Identity(*row) if row else None

    def all_mirrored(self, target: str) -> Iterator[tuple[bytes, Kind]]:
        """Yield everything that this mirror has put to the target, content after its directory."""
        for name, kind in self._db.execute("SELECT name, kind FROM mirrored WHERE target = ? ORDER BY name", (target,)):
            yield name, Kind(kind)

    def mirrored_files(self, target: str) -> Iterator[tuple[bytes, Identity]]:
        """Yield the files that this mirror has put to the target, as they were then, the oldest first."""
        for name, *numbers in self._db.execute(
            "SELECT name, dev, ino, size, mtime_ns, ctime_ns FROM mirrored WHERE target = ? AND kind = 'file'"
            " ORDER BY mtime_ns",
            (target,),
        ):
            yield name, Identity(*numbers)

    def forget_mirrored(self, names: Iterable[bytes], target: str) -> None:
        """Given names that were removed at the target, forget that they were there."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM mirrored WHERE name = ? AND target = ?", ((name, target) for name in names)
            )

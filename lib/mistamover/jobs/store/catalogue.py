"""The catalogue: what objects there are, where each is, and what is known of it."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from mistamover.errors import JobRefused, PlaceTaken
from mistamover.jobs.model import DataObject, Location, ObjectState
from mistamover.jobs.store.database import Database, insert_or_skip
from mistamover.jobs.store.events import LARGEST
from mistamover.jobs.store.rows import object_of, object_values
from mistamover.jobs.store.schema import objects, place_key


class Objects:
    """All objects."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def register(self, object: DataObject) -> DataObject:
        """Given an object, whose id may be empty, add it, registered now; return it. Raise PlaceTaken."""
        whole = dataclasses.replace(object, id=object.id or new_object_id(), registered=self._clock())
        with self._database.write() as connection:
            if not insert_or_skip(connection, objects, ("holds",), object_values(whole)):
                raise PlaceTaken(object.location.endpoint, object.location.path)
        return whole

    def get(self, id: str) -> DataObject | None:
        """Given the id of an object, return it; one that is only reserved as well."""
        with self._database.read() as connection:
            row = connection.execute(select(objects).where(objects.c.id == id)).first()
        return None if row is None else object_of(row)

    def place(self, endpoint: str, path: str) -> DataObject | None:
        """Given a place, return the object that keeps others from it, None if none does."""
        key = place_key(Location(endpoint=endpoint, path=path))
        with self._database.read() as connection:
            row = connection.execute(select(objects).where(objects.c.holds == key)).first()
        return None if row is None else object_of(row)

    def find(
        self,
        *,
        filename: str | None = None,
        endpoint: str | None = None,
        path: str | None = None,
        given_path: str | None = None,
        state: ObjectState | None = None,
        owner: str | None = None,
        group: str | None = None,
        reserved: bool = False,
        after: int | None = None,
        limit: int | None = 100,
    ) -> tuple[list[DataObject], int | None]:
        """Given filters, return objects in the order of their registration, and the cursor of what comes after them.

        That is None at the end; `after` is the cursor that the page before came with. What is only reserved is left
        out unless it is asked for. `path` is that of a location; with `endpoint` it is found at once.
        """
        wanted = select(objects)
        named = {"filename": filename, "endpoint": endpoint, "given_path": given_path}
        for name, value in (named | {"state": state, "owner": owner, "group": group}).items():
            if value is not None:
                wanted = wanted.where(objects.c[name] == value)
        if path is not None and endpoint is not None:
            wanted = wanted.where(objects.c.place == place_key(Location(endpoint=endpoint, path=path)))
        elif path is not None:
            wanted = wanted.where(objects.c.path == path)
        if not reserved:
            wanted = wanted.where(objects.c.state != ObjectState.RESERVED)
        if after is not None:
            wanted = wanted.where(objects.c.number > min(after, LARGEST))
        wanted = wanted.order_by(objects.c.number).limit(None if limit is None else limit + 1)
        with self._database.read() as connection:
            rows = connection.execute(wanted).all()
        more = rows[limit - 1].number if limit is not None and len(rows) > limit else None
        return [object_of(row) for row in rows[:limit]], more

    def update(self, id: str, **changes: Any) -> DataObject | None:
        """Given the id of an object and fields of it that change, write them, and when; return it, None if unknown.

        Fields are those of `DataObject`, apart from `id`, `lock` and `registered`. Raise PlaceTaken.
        """
        unknown = changes.keys() - _CHANGEABLE
        if unknown:
            raise JobRefused("bad-field", f"this cannot be changed: {', '.join(sorted(unknown))}")
        changes.setdefault("modified", self._clock())
        with self._database.write() as connection:
            wanted = select(objects).where(objects.c.id == id)
            row = connection.execute(wanted.with_for_update()).first()
            if row is None:
                return None
            found = dataclasses.replace(object_of(row), **changes)
            values = object_values(found, maker=row.maker)
            try:
                with connection.begin_nested():
                    connection.execute(update(objects).where(objects.c.id == id).values(values))
            except IntegrityError as error:
                raise PlaceTaken(found.location.endpoint, found.location.path) from error
        return found

    def set_state(self, id: str, state: ObjectState) -> DataObject | None:
        """Given the id of an object and its new state, write it; return it, None if unknown. Raise PlaceTaken."""
        return self.update(id, state=state)


_CHANGEABLE = {field.name for field in dataclasses.fields(DataObject)} - {"id", "lock", "registered"}


def new_object_id() -> str:
    """Return the id of a new object: a UUID with dashes."""
    return str(uuid.uuid4())

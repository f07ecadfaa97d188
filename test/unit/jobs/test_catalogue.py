"""The catalogue: objects registered, found, changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mistamover.errors import JobRefused, PlaceTaken
from mistamover.jobs.model import DataObject, Location, ObjectState
from mistamover.jobs.store.store import Store
from stores import START, Clock, at


def an_object(path: str = "d/a.nc", endpoint: str = "here", **words: Any) -> DataObject:
    """Return an active object of which everything is known."""
    location = Location(endpoint=endpoint, path=path)
    known: dict[str, Any] = {
        "id": "",
        "given_path": "/data/d",
        "size": 2**40,
        "state": ObjectState.ACTIVE,
        "algorithm": "sha256",
        "digest": "ab",
        "type": "application/x-netcdf",
        "description": "ein Überblick",
        "originator": "http://h.example/x",
        "group": "fire",
        "metadata": {"a": [1, {"b": None}]},
        "owner": "ann",
    }
    return DataObject(location=location, **(known | words))


def test_an_object_is_what_was_registered(store: Store) -> None:
    given = an_object("d/\udcff\n", home=at("hpc", "x"))
    kept = store.objects.register(given)
    assert kept == replace(given, id=kept.id, registered=START) and kept.id.count("-") == 4
    assert store.objects.get(kept.id) == kept == store.objects.place("here", "d/\udcff\n")
    assert store.objects.get("unknown") is None and store.objects.place("there", "d/\udcff\n") is None


@pytest.mark.parametrize("state", list(ObjectState))
def test_only_what_is_there_keeps_others_from_its_place(store: Store, state: ObjectState) -> None:
    store.objects.register(an_object(state=state))
    if state in (ObjectState.DELETED, ObjectState.UNKNOWN):
        assert store.objects.register(an_object()).location == at("here", "d/a.nc")
    else:
        with pytest.raises(PlaceTaken) as refused:
            store.objects.register(an_object())
        assert (refused.value.endpoint, refused.value.path) == ("here", "d/a.nc")
    assert store.objects.register(an_object(endpoint="there"))


def test_objects_are_found(store: Store) -> None:
    made = [
        store.objects.register(an_object("d/a", owner="bob")),
        store.objects.register(an_object("e/a", group="disease", given_path="/data/e")),
        store.objects.register(an_object("d/a", "there")),
        store.objects.register(an_object("d/b", state=ObjectState.ARCHIVED)),
        store.objects.register(an_object("d/c", state=ObjectState.RESERVED)),
    ]

    def found(**words: Any) -> list[int]:
        return [made.index(object) for object in store.objects.find(**words)[0]]

    assert found() == [0, 1, 2, 3] and found(reserved=True) == [0, 1, 2, 3, 4] and found(limit=None) == found()
    assert found(filename="a") == [0, 1, 2] and found(filename="a", endpoint="here") == [0, 1]
    assert found(path="d/a") == [0, 2] and found(path="d/a", endpoint="there") == [2]
    assert found(given_path="/data/e") == [1] and found(state=ObjectState.ARCHIVED) == [3]
    assert found(owner="bob") == [0] and found(group="disease") == [1] and found(filename="\0\udcff") == []
    first, cursor = store.objects.find(limit=3)
    rest, end = store.objects.find(limit=3, after=cursor)
    assert [*first, *rest] == made[:4] and end is None and store.objects.find(after=2**80) == ([], None)


def test_an_object_is_changed(store: Store, clock: Clock) -> None:
    kept = store.objects.register(an_object())
    clock.now += 5
    changed = store.objects.update(kept.id, description="new", metadata={}, location=at("there", "z"))
    assert changed == replace(kept, description="new", metadata={}, location=at("there", "z"), modified=START + 5)
    assert store.objects.get(kept.id) == changed == store.objects.place("there", "z")
    assert store.objects.find(filename="z")[0] == [changed] and store.objects.find(filename="a.nc")[0] == []
    gone = store.objects.set_state(kept.id, ObjectState.DELETED)
    assert gone is not None and gone.state is ObjectState.DELETED and store.objects.place("there", "z") is None
    store.objects.register(an_object("z", "there"))
    with pytest.raises(PlaceTaken):
        store.objects.set_state(kept.id, ObjectState.ACTIVE)
    assert store.objects.get(kept.id) == gone
    assert store.objects.update("unknown", description="x") is None
    with pytest.raises(JobRefused):
        store.objects.update(kept.id, lock="x")

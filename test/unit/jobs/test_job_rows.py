"""Jobs in the store: submitted once, asked for, cancelled, tried again, forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mistamover.errors import JobRefused, KeyReused, ObjectLocked, PlaceTaken, RetryRefused, TooManyJobs
from mistamover.jobs.model import (
    Callback,
    ItemState,
    JobState,
    NewItem,
    ObjectState,
    Op,
    Packaging,
    Source,
)
from mistamover.jobs.store.store import Store
from stores import START, Clock, a_job, an_item, at, claimed, done, kinds, now_of, reserved, states, submitted


def test_a_job_is_what_was_asked_for(store: Store) -> None:
    items = [
        NewItem(
            source=Source(location=at("here", "d\udcff/\x01\n")), target=at("there", "e"), into=True, object_id="o"
        ),
        NewItem(source=Source(url="https://h.example/x?y"), target=at("there", "f"), hash_type="md5", hash_value="ab"),
        NewItem(source=Source(spool="s1"), target=at("there", "g"), size=2**40),
    ]
    callback = Callback(url="https://c.example/", extra={"a": "ü"})
    words: dict[str, Any] = {
        "owner": "böb",
        "label": "run 7",
        "origin": "rest",
        "packaging": Packaging.ZIP,
        "package": at("there", "p.zip"),
        "overwrite": True,
        "priority": 3,
        "deadline": START + 9,
        "options": {"x": [1, None, "\udcff"]},
        "callback": callback,
    }
    job = submitted(store, a_job(items=items, op=Op.FETCH, secrets={"password": "s3cret"}, **words))
    assert store.jobs.get(job.id) == job
    assert {name: getattr(job, name) for name in words} == words
    assert (job.op, job.state, job.created, job.started, job.ended) == (Op.FETCH, JobState.QUEUED, START, None, None)
    assert (job.progress.items, job.progress.items_done, job.progress.bytes) == (3, 0, 2**40)
    assert len(job.id) == 32 and not set(job.id) - set("0123456789abcdef")
    kept = store.jobs.items(job.id)
    assert [
        NewItem(
            source=item.source,
            target=item.target,
            into=item.into,
            hash_type=item.hash_type,
            hash_value=item.hash_value,
            object_id=item.object_id,
            size=item.size,
        )
        for item in kept
    ] == items
    assert [item.seq for item in store.jobs.items(job.id, offset=1, limit=1)] == [1]
    assert "s3cret" not in repr(job) + repr(kept)
    assert kinds(store) == ["submitted"]


@pytest.mark.parametrize("text", ["nul \0 in it", "half \udc80", "whole \U0001f40e", "'; DROP TABLE jobs; --"])
def test_no_text_is_refused_by_the_database(store: Store, text: str) -> None:
    job = submitted(store, a_job(label=text, owner=text, items=[an_item(hash_value=text)]))
    assert job.label == text.replace("\0", "\ufffd").replace("\udc80", "\ufffd")
    assert store.jobs.page(label=text)[0] == store.jobs.page(owner=text)[0] == [job]
    assert store.jobs.get(text) is None and store.jobs.items(text) == [] and store.jobs.cancel(text) is None


def test_the_same_key_of_the_same_owner_is_the_same_job(store: Store) -> None:
    job = submitted(store, a_job(owner="ann", key="k", request_hash="1"))
    assert store.jobs.submit(a_job(owner="ann", key="k", request_hash="1")) == (job, False)
    with pytest.raises(KeyReused) as refused:
        store.jobs.submit(a_job(owner="ann", key="k", request_hash="2"))
    assert refused.value.job == job.id and refused.value.code == "key-reused"
    assert submitted(store, a_job(owner="bob", key="k", request_hash="2")).id != job.id
    assert submitted(store, a_job(owner="ann")).id != submitted(store, a_job(owner="ann")).id
    assert len(store.jobs.page()[0]) == 4


def test_what_cannot_be_indexed_or_counted_is_refused(store: Store) -> None:
    for words in ({"label": "x" * 256}, {"key": "x" * 256}, {"owner": "x" * 256}, {"priority": 2**70}):
        with pytest.raises(JobRefused):
            store.jobs.submit(a_job(**words))
    assert submitted(store, a_job(label="\U0001f40e" * 255, key="ü" * 255, priority=-1_000_000))


def test_a_place_belongs_to_one_job(store: Store) -> None:
    first, second = reserved("there", "a"), reserved("there", "a")
    job = submitted(store, objects=[first])
    assert store.objects.place("there", "a") == replace(first, lock=job.id, registered=START)
    with pytest.raises(PlaceTaken):
        store.jobs.submit(a_job(), objects=[reserved("there", "b"), second])
    assert store.objects.place("there", "b") is None, "nothing of what was refused stays"
    assert len(store.jobs.page()[0]) == 1 and kinds(store) == ["submitted"]
    assert store.objects.find() == ([], None), "what is reserved is not shown"


def test_an_object_is_changed_by_one_job(store: Store) -> None:
    object = store.objects.register(replace(reserved("here", "a"), state=ObjectState.ACTIVE))
    job = submitted(store, locks=[object.id])
    with pytest.raises(ObjectLocked) as refused:
        store.jobs.submit(a_job(), locks=[object.id])
    assert (refused.value.object_id, refused.value.job) == (object.id, job.id)
    with pytest.raises(JobRefused):
        store.jobs.submit(a_job(), locks=["nothing"])
    store.jobs.cancel(job.id)
    submitted(store, locks=[object.id])


def test_an_owner_has_only_so_many_unfinished_jobs(store: Store) -> None:
    kept = [submitted(store, a_job(owner="ann", source=name), max_unfinished=2) for name in ("x", "y")]
    for _ in range(2):
        with pytest.raises(TooManyJobs):
            store.jobs.submit(a_job(owner="ann"), max_unfinished=2)
        claimed(store)
        submitted(store, a_job(owner="bob"), max_unfinished=2)
    store.jobs.cancel(now_of(store, kept[0]).id)
    store.claims.release("w1")
    submitted(store, a_job(owner="ann"), max_unfinished=2)


def test_pages_are_the_newest_first_and_filtered(store: Store, clock: Clock) -> None:
    made = []
    for number in range(7):
        clock.now = START + number
        owner, label = ("ann", "bob")[number % 2], ("", "l")[number > 4]
        made.append(submitted(store, a_job(owner=owner, label=label, op=(Op.COPY, Op.DELETE)[number == 3])))
    store.jobs.cancel(made[2].id)
    pages, before = [], None
    while True:
        page, before = store.jobs.page(limit=3, before=before)
        pages.append([job.id for job in page])
        if before is None:
            break
    ids = [job.id for job in made]
    assert pages == [ids[6:3:-1], ids[3:0:-1], ids[:1]]

    def found(**words: Any) -> list[int]:
        return [ids.index(job.id) for job in store.jobs.page(**words)[0]]

    assert found(owner="bob") == [5, 3, 1] and found(label="l") == [6, 5] and found(since=START + 5) == [6, 5]
    assert found(state=JobState.CANCELLED) == [2] and found(op=Op.DELETE) == [3]
    assert found(owner="ann", label="l", state=JobState.QUEUED, op=Op.COPY, since=START) == [6]
    assert found(before=2**80, limit=1) == [6] and found(before=0) == []
    counts = store.jobs.counts()
    assert set(counts) == set(JobState) and (counts[JobState.QUEUED], counts[JobState.CANCELLED]) == (6, 1)


def test_what_waits_is_cancelled_at_once(store: Store, clock: Clock) -> None:
    place = reserved("there", "a")
    job = submitted(store, a_job("a", "b", secrets={"p": "x"}, callback=Callback(url="http://c")), objects=[place])
    clock.now += 5
    ended = store.jobs.cancel(job.id)
    assert ended is not None and ended == store.jobs.cancel(job.id)
    assert (ended.state, ended.ended, ended.cancelling) == (JobState.CANCELLED, START + 5, False)
    assert set(states(store, job)) == {ItemState.CANCELLED}
    assert store.objects.place("there", "a") is None
    assert store.callbacks.pending() == 1
    assert store.claims.next("w1", 10) is None
    assert kinds(store, job) == ["submitted", "cancelled"]


def test_what_runs_is_asked_to_end(store: Store) -> None:
    job = submitted(store)
    claim = claimed(store)
    asked = store.jobs.cancel(job.id)
    assert asked is not None and (asked.state, asked.cancelling) == (JobState.RUNNING, True)
    assert store.claims.finish(claim, JobState.CANCELLED)
    assert (now_of(store, job).state, now_of(store, job).cancelling) == (JobState.CANCELLED, False)


def test_only_what_is_not_done_is_tried_again(store: Store, clock: Clock) -> None:
    place = reserved("there", "b")
    object = store.objects.register(replace(reserved("here", "a"), state=ObjectState.ACTIVE))
    job = submitted(store, a_job("a", "b", "c"), objects=[place], locks=[object.id])
    claim = claimed(store)
    with pytest.raises(RetryRefused):
        store.jobs.retry(job.id)
    done(store, claim)
    store.claims.item_failed(claim, 1, fault="refused", reason="no", not_before=None)
    assert store.claims.finish(claim, JobState.FAILED, reason="no")
    assert states(store, job) == [ItemState.DONE, ItemState.FAILED, ItemState.CANCELLED]
    assert store.objects.place("there", "b") is None
    again = store.jobs.retry(job.id)
    assert again is not None and (again.state, again.reason, again.ended) == (JobState.QUEUED, "", None)
    assert (again.progress.items_done, again.progress.bytes_done) == (1, 10)
    assert states(store, job) == [ItemState.DONE, ItemState.QUEUED, ItemState.QUEUED]
    held, locked = store.objects.place("there", "b"), store.objects.get(object.id)
    assert held is not None and locked is not None and held.lock == locked.lock == job.id
    assert store.claims.next("w2", 10) is not None
    assert store.jobs.retry("unknown") is None


def test_a_retry_takes_nothing_from_others(store: Store) -> None:
    first = submitted(store, objects=[reserved("there", "a")])
    store.jobs.cancel(first.id)
    second = submitted(store, objects=[reserved("there", "a")])
    with pytest.raises(RetryRefused):
        store.jobs.retry(first.id)
    assert now_of(store, first).state is JobState.CANCELLED
    held = store.objects.place("there", "a")
    assert held is not None and held.lock == second.id

    secretive = submitted(store, a_job(secrets={"password": "x"}))
    store.jobs.cancel(secretive.id)
    with pytest.raises(RetryRefused, match="password"):
        store.jobs.retry(secretive.id)


def test_what_has_ended_can_be_forgotten(store: Store, clock: Clock) -> None:
    old, fresh, waits = (submitted(store, a_job(key=key), objects=[reserved("there", key)]) for key in "abc")
    store.jobs.cancel(old.id)
    clock.now += 100
    store.jobs.cancel(fresh.id)
    assert store.jobs.prune(START + 50) == 1
    assert store.jobs.get(old.id) is None and store.jobs.items(old.id) == [] and kinds(store, old) == []
    assert not store.jobs.drop(waits.id) and not store.jobs.drop(old.id) and store.jobs.drop(fresh.id)
    assert [job.id for job in store.jobs.page()[0]] == [waits.id]
    number = store.events.last()
    submitted(store, a_job(key="a"))
    assert [event.kind for event in store.events.after(number)] == ["submitted"], "no number comes twice"


def test_an_estimate_is_what_late_transfers_took(store: Store, clock: Clock) -> None:
    assert store.jobs.estimate("here", "there") is None
    for size, seconds in ((100, 1), (500, 2)):
        job = submitted(store)
        claim = claimed(store)
        store.claims.renew([claim], 99, {(job.id, 0): (ItemState.TRANSFERRING, 0, None)})
        clock.now += seconds
        done(store, claim, size=size)
        store.claims.finish(claim, JobState.DONE)
    assert store.jobs.estimate("here", "there") == 200
    assert store.jobs.estimate("there", "here") is None
    job = submitted(store, a_job(items=[NewItem(source=Source(url="http://h/x"), target=at("there", "x"))]))
    claim = claimed(store)
    store.claims.renew([claim], 99, {(job.id, 0): (ItemState.TRANSFERRING, 0, None)})
    clock.now += 4
    store.claims.item_failed(claim, 0, fault="link", reason="gone", not_before=clock.now)
    clock.now += 1000
    store.claims.renew([claim], 99, {(job.id, 0): (ItemState.TRANSFERRING, 0, None)})
    clock.now += 1
    done(store, claim, size=70)
    assert store.jobs.estimate("http", "there") == 70, "what failed before does not count"

"""What a worker tells of items: how far they are, that they are done or failed, that one became several."""

from __future__ import annotations

import pytest

from mistamover.errors import LostClaim
from mistamover.jobs.model import ItemState, JobState, Op, Progress, Standing
from mistamover.jobs.store.item_steps import Finished
from mistamover.jobs.store.store import Store
from stores import START, Clock, a_job, an_item, at, claimed, done, now_of, states, submitted


def test_progress_is_that_of_the_items(store: Store, clock: Clock) -> None:
    job = submitted(store, a_job(items=[an_item("a", size=100), an_item("b")]))
    claim = claimed(store)

    def told(seq: int, state: ItemState, moved: int, size: int | None) -> Progress:
        assert store.claims.renew([claim], 10.0, {(job.id, seq): (state, moved, size)}) == {claim.token: Standing.OK}
        return now_of(store, job).progress

    assert now_of(store, job).progress == Progress(items=2, items_done=0, bytes=100, bytes_done=0)
    assert told(0, ItemState.TRANSFERRING, 40, None) == Progress(items=2, items_done=0, bytes=100, bytes_done=40)
    clock.now += 1
    assert told(1, ItemState.TRANSFERRING, 5, 50) == Progress(items=2, items_done=0, bytes=150, bytes_done=45)
    assert told(0, ItemState.VERIFYING, 90, 90) == Progress(items=2, items_done=0, bytes=140, bytes_done=95)
    assert [item.started for item in store.jobs.items(job.id)] == [START, START + 1]
    done(store, claim, size=90)
    done(store, claim, size=90)
    assert now_of(store, job).progress == Progress(items=2, items_done=1, bytes=140, bytes_done=95)
    assert told(0, ItemState.TRANSFERRING, 1, 1).items_done == 1, "what is done stays done"
    store.claims.item_failed(claim, 1, fault="link", reason="gone", not_before=clock.now + 2)
    assert now_of(store, job).progress == Progress(items=2, items_done=1, bytes=140, bytes_done=90)
    done(store, claim, [1], size=50)
    assert now_of(store, job).progress == Progress(items=2, items_done=2, bytes=140, bytes_done=140)
    news = [event for event in store.events.after(0, job=job.id) if event.kind == "progress"]
    assert [event.data for event in news] == [{"items": 2, "items_done": 0, "bytes": 140, "bytes_done": 95}]


def test_an_item_that_is_done_says_where_it_is(store: Store, clock: Clock) -> None:
    job = submitted(store, a_job("a", "b"))
    claim = claimed(store)
    clock.now += 2
    landed = at("there", "sub/a\udcff")
    store.claims.item_done(claim, 0, landed=landed, algorithm="sha256", digest="ab", size=7)
    store.claims.item_done(claim, 1, landed=None, algorithm="", digest="", size=None)
    first, second = store.jobs.items(job.id)
    assert (first.state, first.landed, first.algorithm, first.digest) == (ItemState.DONE, landed, "sha256", "ab")
    # It was done before anybody said that it had begun: it has a rate all the same.
    assert (first.size, first.bytes_done, first.started, first.ended) == (7, 7, START, START + 2)
    assert (second.state, second.landed, second.size, second.started) == (ItemState.DONE, None, None, START + 2)


def test_an_item_that_failed_says_why(store: Store, clock: Clock) -> None:
    job = submitted(store, a_job("a", "b"))
    claim = claimed(store)
    store.claims.item_failed(claim, 0, fault="link", reason="no route to host", not_before=clock.now + 4)
    store.claims.item_failed(claim, 1, fault="refused", reason="no such file", not_before=None)
    first, second = store.jobs.items(job.id)
    assert (first.state, first.attempts, first.not_before) == (ItemState.RETRY, 1, START + 4)
    assert (second.state, second.fault, second.reason) == (ItemState.FAILED, "refused", "no such file")
    assert (first.ended, second.ended) == (None, START)
    told = [event.data for event in store.events.after(0, job=job.id) if event.kind == "item"]
    assert told[1] == {"state": "failed", "fault": "refused", "reason": "no such file"}
    store.claims.renew([claim], 10.0, {(job.id, 0): (ItemState.TRANSFERRING, 0, 5)})
    assert store.jobs.items(job.id)[0].not_before is None
    done(store, claim)
    assert (store.jobs.items(job.id)[0].fault, store.jobs.items(job.id)[0].attempts) == ("", 1)


def test_a_removal_that_fails_is_still_one(store: Store, clock: Clock) -> None:
    job = submitted(store)
    claim = claimed(store)
    store.claims.item_removing(claim, 0, landed=at("there", "a"), algorithm="md5", digest="x", size=5)
    store.claims.item_failed(claim, 0, fault="link", reason="gone", not_before=clock.now + 1)
    assert states(store, job) == [ItemState.REMOVING]
    store.claims.item_failed(claim, 0, fault="refused", reason="may not", not_before=None)
    store.claims.finish(claim, JobState.FAILED)
    assert states(store, job) == [ItemState.FAILED]
    store.jobs.retry(job.id)
    assert states(store, job) == [ItemState.REMOVING], "the copy is there: only the source is left to go"
    item = claimed(store).items[0]
    assert (item.landed, item.attempts, item.reason) == (at("there", "a"), 0, "")


def test_one_item_can_become_several(store: Store) -> None:
    job = submitted(store, a_job("d", "x"))
    claim = claimed(store)
    first = store.claims.expand(claim, 0, [an_item(name, size=10) for name in ("d/1", "d/2", "d/3")])
    assert [(item.seq, item.parent, item.state) for item in first] == [(seq, 0, ItemState.QUEUED) for seq in (2, 3, 4)]
    assert first == store.jobs.items(job.id)[2:]
    assert now_of(store, job).progress == Progress(items=5, items_done=0, bytes=30, bytes_done=0)
    store.claims.item_done(claim, 2, landed=at("there", "d/1"), algorithm="", digest="", size=10)
    store.claims.item_failed(claim, 3, fault="link", reason="x", not_before=1.0)

    again = store.claims.expand(claim, 0, [an_item(name, size=10) for name in ("d/2", "d/4")])
    assert [(item.seq, item.source.location, item.state, item.attempts) for item in again] == [
        (2, at("here", "d/1"), ItemState.DONE, 0),
        (3, at("here", "d/2"), ItemState.RETRY, 1),
        (6, at("here", "d/4"), ItemState.QUEUED, 0),
    ]
    assert now_of(store, job).progress == Progress(items=5, items_done=1, bytes=30, bytes_done=10)
    assert store.claims.expand(claim, 0, [an_item(name, size=10) for name in ("d/2", "d/4")]) == again
    assert [item.seq for item in store.claims.expand(claim, 1, [])] == []


def test_thousands_of_items_are_nothing_special(store: Store) -> None:
    job = submitted(store, a_job("d"))
    claim = claimed(store)
    names = [f"d/{number}" for number in range(3000)]
    assert len(store.claims.expand(claim, 0, [an_item(name) for name in names])) == 3000
    moved = {(job.id, seq): (ItemState.TRANSFERRING, 1, 2) for seq in range(1, 301)}
    assert store.claims.renew([claim], 10.0, moved) == {claim.token: Standing.OK}
    assert now_of(store, job).progress == Progress(items=3001, items_done=0, bytes=600, bytes_done=300)
    assert len(store.claims.expand(claim, 0, [])) == 0
    assert now_of(store, job).progress == Progress(items=1, items_done=0, bytes=0, bytes_done=0)


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED])
def test_what_had_not_ended_ends_with_the_job(store: Store, state: JobState) -> None:
    job = submitted(store, a_job("a", "b", "c"))
    claim = claimed(store)
    done(store, claim)
    store.claims.renew([claim], 10.0, {(job.id, 1): (ItemState.TRANSFERRING, 1, 2)})
    store.claims.finish(claim, state)
    assert states(store, job) == [ItemState.DONE, ItemState.CANCELLED, ItemState.CANCELLED]


def test_many_items_are_done_at_once(store: Store, clock: Clock) -> None:
    names = [f"f{number}" for number in range(1200)]
    job = submitted(store, a_job(*names))
    claim = claimed(store)
    store.claims.items_staged(claim, {seq: seq if seq % 2 else None for seq in range(1200)})
    odd = sum(range(1, 1200, 2))
    assert now_of(store, job).progress == Progress(items=1200, items_done=0, bytes=odd, bytes_done=0)
    assert states(store, job) == [ItemState.STAGING] * 1200
    some = [
        Finished(
            seq=seq, landed=at("there", f"\udcff{seq}"), algorithm="md5", digest="ab", size=seq, started=2.0, ended=3.0
        )
        for seq in range(1100)
    ]
    store.claims.items_done(claim, some)
    # Once more, as by one that was lost and found.
    store.claims.items_done(claim, some[:3])
    store.claims.items_done(claim, [])
    whole = now_of(store, job).progress
    assert (whole.items_done, whole.bytes_done) == (1100, sum(range(1100)))
    last = store.jobs.items(job.id)[1099]
    assert (last.state, last.landed, last.size, last.started, last.ended) == (
        ItemState.DONE, at("there", "\udcff1099"), 1099, 2.0, 3.0,
    )  # fmt: skip
    clock.now += 100
    store.claims.sweep()
    with pytest.raises(LostClaim):
        store.claims.items_done(claim, some[:1])
    with pytest.raises(LostClaim):
        store.claims.items_staged(claim, {0: 1})


@pytest.mark.parametrize("op", [Op.BUNDLE, Op.COPY])
def test_what_an_archive_was_asked_for_is_remembered_of_carts(store: Store, op: Op) -> None:
    job = submitted(store, a_job("a", "b", "c", op=op, label="u"))
    claim = claimed(store)
    store.claims.items_staged(claim, {0: 1, 1: None})
    store.claims.renew([claim], 10.0, {(job.id, 1): (ItemState.TRANSFERRING, 5, 9)})
    store.claims.put_back(claim)
    again = ItemState.STAGING if op is Op.BUNDLE else ItemState.QUEUED
    assert states(store, job) == [again, again, ItemState.QUEUED]


@pytest.mark.parametrize("op", [Op.BUNDLE, Op.COPY])
def test_a_cart_is_not_done_with_the_last_of_its_files(store: Store, op: Op) -> None:
    job = submitted(store, a_job(op=op, label="u"))
    claim = claimed(store)
    done(store, claim)
    store.claims.packaging(claim)
    store.jobs.cancel(job.id)
    store.claims.put_back(claim)
    assert now_of(store, job).state is (JobState.CANCELLED if op is Op.BUNDLE else JobState.DONE)


def test_a_job_that_is_tried_again_has_all_its_time_again(store: Store, clock: Clock) -> None:
    job = submitted(store)
    claim = claimed(store)
    store.claims.finish(claim, JobState.FAILED, reason="no")
    clock.now += 1000
    store.jobs.retry(job.id)
    assert now_of(store, job).started is None
    assert claimed(store).job.started == clock.now

"""Claims: who gets which job, how he keeps and loses it, and that a lost claim changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mistamover.errors import LostClaim, PlaceTaken
from mistamover.jobs.model import Callback, Claim, ItemState, JobState, NewItem, ObjectState, Source, Standing
from mistamover.jobs.store.store import Store
from stores import START, Clock, a_job, an_item, at, claimed, done, kinds, now_of, reserved, states, submitted


def test_the_urgent_begin_first_then_the_old(store: Store) -> None:
    order = [submitted(store, a_job(priority=priority, source=f"s{priority}")) for priority in (0, 5, 0, -1, 5)]
    got = [claimed(store).job.id for _ in order]
    assert got == [order[number].id for number in (1, 4, 0, 2, 3)]
    assert store.claims.next("w1", 10) is None


def test_a_claim_has_all_that_is_needed(store: Store, clock: Clock) -> None:
    job = submitted(store, a_job("a", "b", secrets={"password": "s3cret"}))
    clock.now += 1
    claim = claimed(store, "w9", 15.0)
    assert claim.job == now_of(store, job)
    assert (claim.job.state, claim.job.attempts, claim.job.started) == (JobState.RUNNING, 1, START + 1)
    assert list(claim.items) == store.jobs.items(job.id)
    assert (claim.worker, claim.expires, claim.secrets) == ("w9", START + 16, {"password": "s3cret"})


def test_one_job_can_be_claimed_by_its_id(store: Store, clock: Clock) -> None:
    first, second = submitted(store), submitted(store)
    claim = store.claims.claim(second.id, "w1", 10)
    assert claim is not None and claim.job.id == second.id
    assert store.claims.claim(second.id, "w2", 10) is None and store.claims.claim("unknown", "w2", 10) is None
    assert store.claims.claim(first.id, "w2", 10, limits={"there": 1}) is None
    store.claims.put_back(claim, not_before=clock.now + 5)
    assert store.claims.claim(second.id, "w2", 10) is None
    clock.now += 5
    assert store.claims.claim(second.id, "w2", 10) is not None


def test_limits_are_kept(store: Store) -> None:
    for source, target, owner in (("a", "x", "ann"), ("a", "y", "bob"), ("b", "x", "bob"), ("b", "y", "ann")):
        submitted(store, a_job(source=source, target=target, owner=owner))
    one = claimed(store, limits={"a": 1, "x": 1})
    assert [location.endpoint for location in (one.items[0].source.location, one.items[0].target) if location] == [
        "a",
        "x",
    ]
    two = claimed(store, limits={"a": 1, "x": 1})
    assert two.items[0].target == at("y", "a") and two.job.owner == "ann"
    assert store.claims.next("w1", 10, limits={"a": 1, "x": 1}) is None
    assert store.claims.next("w1", 10, owner_max=2, limits={"a": 1}) is not None
    assert store.claims.next("w1", 10, owner_max=1) is None
    store.claims.finish(one, JobState.DONE)
    assert store.claims.next("w1", 10, limits={"a": 1, "x": 0}) is not None


def test_jobs_of_a_dead_endpoint_keep_nobody_waiting(store: Store, clock: Clock) -> None:
    for _ in range(3):
        submitted(store, a_job(target="dead", priority=9))
    alive = submitted(store)
    assert store.claims.open_circuit("dead", clock.now + 30, "no route").failures == 1
    circuit = store.claims.open_circuit("dead", clock.now + 30, "no route")
    assert store.claims.circuits() == {"dead": circuit} and circuit.failures == 2
    assert claimed(store).job.id == alive.id
    assert store.claims.next("w1", 10) is None
    clock.now += 30
    probe = claimed(store)
    assert store.claims.next("w1", 10) is None, "one job at a time tries"
    store.claims.put_back(probe)
    assert claimed(store).job.id == probe.job.id
    assert store.claims.close_circuit("dead") and not store.claims.close_circuit("dead")
    assert store.claims.next("w1", 10) is not None and store.claims.next("w1", 10) is not None


def test_hosts_of_the_world_outside_have_circuits_too(store: Store, clock: Clock) -> None:
    def fetch(url: str) -> None:
        submitted(store, a_job(items=[NewItem(source=Source(url=url), target=at("there", "a"))]))

    fetch("http://user@dead.example:81/a")
    fetch("http://alive.example/a")
    store.claims.open_circuit("http://dead.example:81", clock.now + 30, "no route")
    assert claimed(store).items[0].source.url == "http://alive.example/a"
    assert store.claims.next("w1", 10) is None


def test_what_uses_an_endpoint_for_too_long_in_vain_is_given_up(store: Store, clock: Clock) -> None:
    old = submitted(store, a_job(target="dead", callback=Callback(queue="q")))
    clock.now += 100
    late, other = submitted(store, a_job(target="dead")), submitted(store)
    assert store.claims.give_up("dead", START + 50, "dead cannot be reached") == [old.id]
    assert (now_of(store, old).state, now_of(store, old).reason) == (JobState.FAILED, "dead cannot be reached")
    assert [now_of(store, job).state for job in (late, other)] == [JobState.QUEUED] * 2
    assert store.claims.give_up("unknown", clock.now, "x") == []
    assert store.callbacks.pending() == 1


def test_a_claim_lives_as_long_as_it_is_renewed(store: Store, clock: Clock) -> None:
    job = submitted(store)
    claim = claimed(store, lease=10.0)
    for _ in range(3):
        clock.now += 9
        assert store.claims.renew([claim], 10.0) == {claim.token: Standing.OK}
        assert store.claims.sweep() == []
    store.jobs.cancel(job.id)
    assert store.claims.renew([claim], 10.0) == {claim.token: Standing.CANCELLING}
    assert store.claims.renew([], 10.0) == {}


def test_the_job_of_a_silent_worker_is_anothers(store: Store, clock: Clock) -> None:
    job = submitted(store, a_job("a", "b", "c", "d"))
    claim = claimed(store, lease=10.0)
    moving = {(job.id, 1): (ItemState.TRANSFERRING, 5, 10), (job.id, 3): (ItemState.VERIFYING, 10, 10)}
    store.claims.renew([claim], 10.0, moving)
    done(store, claim)
    store.claims.item_removing(claim, 2, landed=at("there", "c"), algorithm="md5", digest="cd", size=3)
    clock.now += 11
    assert store.claims.sweep() == [job.id] and store.claims.sweep() == []
    assert states(store, job) == [ItemState.DONE, ItemState.QUEUED, ItemState.REMOVING, ItemState.QUEUED]
    again = claimed(store, "w2")
    assert again.job.id == job.id and again.token != claim.token and again.job.attempts == 2
    assert again.items[2].landed == at("there", "c") and again.items[2].digest == "cd"
    assert kinds(store, job)[-2:] == ["requeued", "started"]


@pytest.mark.parametrize("taken", [True, False])
def test_a_lost_claim_changes_nothing(store: Store, clock: Clock, taken: bool) -> None:
    place = reserved("there", "a")
    job = submitted(store, a_job("a", "b"), objects=[place])
    claim = claimed(store, lease=10.0)
    clock.now += 11
    store.claims.sweep()
    if taken:
        claimed(store, "w2", 10.0)
    before = (now_of(store, job), store.jobs.items(job.id), store.objects.get(place.id), store.events.last())
    landed = {"landed": at("there", "a"), "algorithm": "md5", "digest": "x", "size": 1}
    attempts: list[Callable[[Claim], object]] = [
        lambda lost: store.claims.item_done(lost, 0, **landed),
        lambda lost: store.claims.item_removing(lost, 0, **landed),
        lambda lost: store.claims.item_failed(lost, 0, fault="link", reason="x", not_before=None),
        lambda lost: store.claims.expand(lost, 0, [an_item("z")]),
        lambda lost: store.claims.packaging(lost),
        lambda lost: store.claims.put_back(lost),
    ]
    for attempt in attempts:
        with pytest.raises(LostClaim):
            attempt(claim)
    moved = {(job.id, 0): (ItemState.TRANSFERRING, 5, 10)}
    assert store.claims.renew([claim], 10.0, moved) == {claim.token: Standing.LOST}
    active = replace(place, state=ObjectState.ACTIVE)
    assert store.claims.finish(claim, JobState.DONE, objects=[active]) is False
    assert before == (now_of(store, job), store.jobs.items(job.id), store.objects.get(place.id), store.events.last())


def test_the_end_is_one_moment(store: Store, clock: Clock) -> None:
    made, given_up = reserved("there", "a"), reserved("there", "b")
    locked = store.objects.register(replace(reserved("here", "a"), state=ObjectState.ACTIVE))
    new = a_job("a", secrets={"p": "x"}, callback=Callback(url="http://c"))
    job = submitted(store, new, objects=[made, given_up], locks=[locked.id])
    claim = claimed(store)
    clock.now += 3
    done(store, claim)
    active = replace(made, state=ObjectState.ACTIVE, size=10, digest="ab")
    moved = replace(locked, location=at("there", "c"), modified=clock.now)
    result = {"objects": [made.id]}
    assert store.claims.finish(claim, JobState.DONE, result=result, objects=[active, moved])
    ended = now_of(store, job)
    assert (ended.state, ended.ended, ended.result) == (JobState.DONE, START + 3, result)
    assert store.objects.get(made.id) == replace(active, registered=clock.now)
    assert store.objects.get(locked.id) == moved and store.objects.place("here", "a") is None
    assert store.objects.get(given_up.id) is None
    assert [due.job for due in store.callbacks.due(10)] == [ended]
    assert kinds(store, job) == ["submitted", "started", "item", "done"]
    assert store.claims.finish(claim, JobState.FAILED) is False


def test_nothing_is_finished_at_a_taken_place(store: Store) -> None:
    store.objects.register(replace(reserved("there", "z"), state=ObjectState.ACTIVE))
    job = submitted(store, objects=[reserved("there", "a")])
    claim = claimed(store)
    with pytest.raises(PlaceTaken):
        store.claims.finish(claim, JobState.DONE, objects=[replace(reserved("there", "z"), state=ObjectState.ACTIVE)])
    assert now_of(store, job).state is JobState.RUNNING and store.objects.place("there", "a") is not None
    assert store.claims.finish(claim, JobState.FAILED, reason="taken")


def test_packaging_begins_once(store: Store, clock: Clock) -> None:
    job = submitted(store)
    claim = claimed(store)
    assert store.claims.packaging(claim) and not store.claims.packaging(claim)
    assert now_of(store, job).state is JobState.PACKAGING
    assert store.claims.renew([claim], 10.0) == {claim.token: Standing.OK}
    clock.now += 11
    assert store.claims.sweep() == [job.id]
    assert store.claims.packaging(claimed(store, "w2"))


def test_what_is_put_back_waits(store: Store, clock: Clock) -> None:
    job = submitted(store)
    claim = claimed(store)
    store.claims.renew([claim], 10.0, {(job.id, 0): (ItemState.STAGING, 0, None)})
    store.claims.put_back(claim, not_before=clock.now + 60, reason="the tape is asked for it")
    assert now_of(store, job).state is JobState.QUEUED and states(store, job) == [ItemState.QUEUED]
    assert store.claims.next("w1", 10) is None
    clock.now += 60
    assert claimed(store).job.id == job.id
    assert store.events.after(0, job=job.id)[-2].data == {"reason": "the tape is asked for it"}


def test_what_is_to_be_cancelled_is_not_put_back(store: Store, clock: Clock) -> None:
    put, swept = submitted(store), submitted(store)
    claims = [claimed(store), claimed(store)]
    for job in (put, swept):
        store.jobs.cancel(job.id)
    store.claims.put_back(claims[0])
    clock.now += 11
    assert store.claims.sweep() == [swept.id]
    assert [now_of(store, job).state for job in (put, swept)] == [JobState.CANCELLED] * 2


def test_a_removal_is_finished_before_a_job_is_cancelled(store: Store, clock: Clock) -> None:
    job = submitted(store)
    claim = claimed(store)
    store.claims.item_removing(claim, 0, landed=at("there", "a"), algorithm="md5", digest="x", size=1)
    store.jobs.cancel(job.id)
    clock.now += 11
    store.claims.sweep()
    waits = store.jobs.cancel(job.id)
    assert waits is not None and (waits.state, waits.cancelling) == (JobState.QUEUED, True)
    again = claimed(store, "w2")
    assert again.job.cancelling and again.items[0].state is ItemState.REMOVING
    done(store, again)
    assert store.claims.finish(again, JobState.CANCELLED)
    assert states(store, job) == [ItemState.DONE]


def test_a_worker_that_starts_takes_back_what_its_forerunner_had(store: Store) -> None:
    mine, others = submitted(store), submitted(store)
    claimed(store, "host%_1/3")
    claimed(store, "hostxy1/3")
    assert store.claims.release("host%_1/") == [mine.id]
    assert now_of(store, others).state is JobState.RUNNING


def test_a_deadline_ends_what_waits(store: Store, clock: Clock) -> None:
    waits, runs = (submitted(store, a_job(deadline=START + 50)) for _ in range(2))
    assert store.claims.claim(runs.id, "w1", 1000) is not None
    later = submitted(store, a_job(deadline=START + 500))
    clock.now = START + 51
    assert store.claims.sweep() == [waits.id] and store.claims.sweep() == []
    assert (now_of(store, waits).state, now_of(store, later).state) == (JobState.FAILED, JobState.QUEUED)
    assert "deadline" in now_of(store, waits).reason and now_of(store, runs).state is JobState.RUNNING


def test_living_workers_are_known(store: Store, clock: Clock) -> None:
    store.claims.seen("w1", 4, 15)
    clock.now += 10
    store.claims.seen("w2", 2, 15)
    assert store.claims.workers() == {"w1": 4, "w2": 2}
    clock.now += 10
    store.claims.seen("w2", 3, 15)
    assert store.claims.workers() == {"w2": 3}

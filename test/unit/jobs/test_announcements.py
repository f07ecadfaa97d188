"""What is announced: the jobs that are to begin next, no more than can be taken soon, and again what is lost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mistamover.config.serving import EngineSettings
from mistamover.errors import EngineError
from mistamover.jobs.engine.announcing import Announcer
from mistamover.jobs.engine.queues import HIGHEST, level, queue_of, rooms
from mistamover.jobs.model import JobState
from mistamover.jobs.store.announcements import Announcement
from mistamover.jobs.store.store import Store
from stores import Clock, a_job, claimed, submitted
from support import wait_until

AGAIN = 30.0


def announced(store: Store, room: int = 10, **words: object) -> list[str]:
    """Announce, with so much room for jobs of no group; return the ids."""
    return [each.job for each in store.claims.announce({"": room}, again=AGAIN, **words)]  # type: ignore[arg-type]


def test_the_jobs_that_begin_next_are_announced_once_in_their_order(store: Store) -> None:
    jobs = [submitted(store, a_job(priority=priority, source=f"s{priority}")).id for priority in (0, 5, 0, -1, 5)]
    order = [jobs[number] for number in (1, 4, 0, 2, 3)]
    assert announced(store, 3) == order[:3]
    assert announced(store, 3) == []
    # One of them has begun: there is room for one more.
    assert store.claims.claim(order[0], "w", 10) is not None
    assert announced(store, 3) == [order[3]]


def test_an_urgent_job_is_announced_however_many_wait(store: Store) -> None:
    for _ in range(5):
        submitted(store)
    assert len(announced(store, 2)) == 2
    urgent = submitted(store, a_job(priority=7))
    found = store.claims.announce({"": 2}, again=AGAIN)
    assert [(each.job, each.priority) for each in found] == [(urgent.id, 7)]


def test_what_may_not_begin_is_not_announced(store: Store, clock: Clock) -> None:
    for _ in range(3):
        submitted(store, a_job(owner="ann"))
    other = submitted(store, a_job(source="x", target="y", owner="bob"))
    assert len(announced(store, limits={"there": 2})) == 3, "two of the one lane, and the other one"
    claim = store.claims.claim(other.id, "w", 10)
    assert claim is not None
    store.claims.put_back(claim, not_before=clock.now + 100)
    assert announced(store, limits={"there": 2}) == []
    clock.now += 100
    assert other.id in announced(store, limits={"there": 2})


def test_a_lane_that_is_closed_holds_up_no_other_one(store: Store) -> None:
    for _ in range(40):
        submitted(store, a_job(target="busy"))
    free = [submitted(store, a_job(target="free")).id for _ in range(20)]
    assert set(announced(store, 30, limits={"busy": 1})) >= set(free)


def test_one_at_a_time_tries_an_endpoint_that_failed(store: Store, clock: Clock) -> None:
    for _ in range(3):
        submitted(store)
    store.claims.open_circuit("there", clock.now + 10, "no route")
    assert announced(store) == []
    clock.now += 10
    assert len(announced(store)) == 1


def test_what_is_lost_is_announced_again(store: Store, clock: Clock) -> None:
    job = submitted(store)
    assert announced(store) == [job.id]
    clock.now += AGAIN
    assert announced(store) == []
    clock.now += 1
    assert announced(store) == [job.id]


def test_what_was_announced_and_could_begin_is_overdue(store: Store, clock: Clock) -> None:
    submitted(store)
    assert announced(store) and not store.claims.overdue([""], AGAIN)
    clock.now += AGAIN + 1
    assert store.claims.overdue([""], AGAIN) and not store.claims.overdue(["other"], AGAIN)
    # Its message was lost, and its endpoint failed since: no worker is to think that it hears nothing.
    store.claims.open_circuit("there", clock.now + 10, "no route")
    assert not store.claims.overdue([""], AGAIN)


def test_what_waits_for_a_free_thread_is_not_announced_again(store: Store, clock: Clock) -> None:
    """Redis keeps each message for ever: hours of it would be worked off before the next job."""
    submitted(store)
    store.claims.seen("w", 1, 1000.0)
    claim = claimed(store, "w")
    waiting = submitted(store)
    assert announced(store) == [waiting.id]
    clock.now += AGAIN + 1
    assert announced(store, full=store.claims.full_groups()) == []
    store.claims.put_back(claim, not_before=clock.now + 100)
    assert announced(store, full=store.claims.full_groups()) == [waiting.id]


def test_who_waits_again_is_announced_again(store: Store) -> None:
    job = submitted(store)
    assert announced(store) == [job.id]
    claim = claimed(store)
    store.claims.put_back(claim)
    assert announced(store) == [job.id]
    store.jobs.cancel(job.id)
    store.jobs.retry(job.id)
    assert announced(store) == [job.id]
    # What cannot be claimed now is to be announced when it can.
    assert store.claims.claim(job.id, "w", 10, limits={"here": 1, "there": 1}, groups=("other",)) is None
    assert announced(store) == [job.id]
    store.claims.unannounce([job.id, "unknown"])
    assert announced(store) == [job.id]


def test_what_has_begun_or_ended_is_not_marked(store: Store) -> None:
    job = submitted(store)
    announced(store)
    claim = claimed(store)
    store.claims.unannounce([job.id])
    assert store.claims.finish(claim, JobState.DONE, objects=())
    assert announced(store) == []


def test_each_group_has_room_of_its_own(store: Store) -> None:
    for _ in range(4):
        submitted(store, a_job())
        submitted(store, a_job(workers="hpc1"))
        submitted(store, a_job(workers="nobody"))
    found = store.claims.announce({"": 1, "hpc1": 3}, again=AGAIN)
    assert sorted(each.workers for each in found) == ["", "hpc1", "hpc1", "hpc1"]


def test_two_that_look_at_once_announce_nothing_twice(store: Store) -> None:
    jobs = {submitted(store).id for _ in range(30)}
    barrier = threading.Barrier(4)

    def look(_: int) -> list[str]:
        barrier.wait(10)
        return announced(store, 30)

    with ThreadPoolExecutor(4) as pool:
        found = [job for part in pool.map(look, range(4)) for job in part]
    assert len(found) == 30 and set(found) == jobs


def test_workers_do_the_jobs_of_their_groups_alone(store: Store) -> None:
    submitted(store, a_job(workers="hpc1", priority=9))
    plain = submitted(store)
    assert store.claims.next("w", 10, groups={"hpc2", ""}).job.id == plain.id  # type: ignore[union-attr]
    assert store.claims.next("w", 10, groups={"hpc2", ""}) is None
    assert store.claims.next("w", 10, groups={"hpc1"}) is not None


def test_who_is_waited_for_in_vain_is_known(store: Store) -> None:
    job = submitted(store, a_job(workers="hpc1"))
    store.claims.seen("w1", 4, 15, ["", "hpc2"])
    assert store.claims.unserved() == {"hpc1": 1} and store.claims.group_waited_for(job.id) == "hpc1"
    store.claims.seen("w2", 2, 15, ["hpc1", "hpc2"])
    assert store.claims.unserved() == {} and store.claims.group_waited_for(job.id) is None
    assert store.claims.threads_by_group() == {"": 4, "hpc1": 2, "hpc2": 6}


def test_a_message_has_a_higher_priority_for_a_higher_one_of_the_job() -> None:
    given = [-1_000_000, -100, -5, -1, 0, 1, 5, 50, 500, 5000, 1_000_000]
    levels = [level(priority) for priority in given]
    assert levels == sorted(levels) and (levels[0], levels[-1]) == (0, HIGHEST)
    assert level(0) < level(1) < level(10) < level(100) and level(0) > level(-1) > level(-10) > level(-100)


def test_rooms_and_queues_are_those_of_groups() -> None:
    assert (queue_of(""), queue_of("hpc1")) == ("mistamover", "mistamover.hpc1")
    assert rooms({"": 100, "hpc1": 1, "gone": 0}) == {"": 200, "hpc1": 8}


class Line:
    """Stands for a broker that can be away: what was published, and what was tried."""

    def __init__(self) -> None:
        self.away = self.breaks = False
        self.told: list[str] = []

    def open(self) -> None:
        if self.away:
            raise EngineError("away")

    def publish(self, announcements: list[Announcement]) -> None:
        if self.breaks:
            raise EngineError("broken")
        self.told += [each.job for each in announcements]

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def announcer(store: Store, line: Line) -> Announcer:
    store.claims.seen("w", 4, 1000.0)
    return Announcer(store, EngineSettings(database_url=""), dict, line)


def test_nothing_is_marked_that_was_not_published(store: Store, line: Line, announcer: Announcer) -> None:
    job = submitted(store)
    line.away = True
    assert not announcer.look() and announced(store) == [job.id]
    store.claims.unannounce([job.id])
    line.away, line.breaks = False, True
    assert not announcer.look()
    line.breaks = False
    assert announcer.look() and line.told == [job.id]
    assert announcer.look() and line.told == [job.id]


def test_a_ring_is_answered_and_never_waits(store: Store, line: Line, announcer: Announcer) -> None:
    announcer.start()
    try:
        jobs = [submitted(store).id for _ in range(5)]
        announcer.ring()
        wait_until(lambda: sorted(line.told) == sorted(jobs), 10, "all are announced")
    finally:
        announcer.end(10)
    assert not announcer.is_alive()

"""Whether a job in a worker's hands may go on."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from mistamover.errors import JobCancelled, JobStopping, LostClaim
from mistamover.jobs.model import Claim, ItemState, Job, Standing
from mistamover.jobs.work.hold import Hold
from unit.jobs.test_retries import job

MOVING = ItemState.TRANSFERRING


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def hold(clock: Clock, of: Job | None = None) -> Hold:
    claim = Claim(job=of or job(), items=(), worker="w", token="t", secrets={}, expires=0.0)
    return Hold(claim, 110.0, clock)


def test_each_step_is_told_once_and_the_newest_counts(clock: Clock) -> None:
    held = hold(clock)
    held.tell(0, MOVING, 1, None)
    held.tell(0, MOVING, 2, 9)
    held.tell(3, ItemState.VERIFYING, 9, 9)
    id = held.claim.job.id
    assert held.take_steps() == {(id, 0): (MOVING, 2, 9), (id, 3): (ItemState.VERIFYING, 9, 9)}
    assert held.take_steps() == {}


def test_who_was_silent_for_a_lease_goes_on_with_nothing(clock: Clock) -> None:
    held = hold(clock)
    clock.now = 109.9
    held.check()
    held.renewed(Standing.OK, 120.0)
    clock.now = 119.9
    held.tell(0, MOVING, 1, None)
    clock.now = 120.0
    with pytest.raises(LostClaim):
        held.tell(0, MOVING, 2, None)
    # An answer that came too late for us may have come in time for the store: then it is still ours.
    held.renewed(Standing.OK, 130.0)
    held.check()


def test_what_is_lost_stays_lost(clock: Clock) -> None:
    held = hold(clock)
    held.renewed(Standing.LOST, 120.0)
    held.renewed(Standing.OK, 130.0)
    held.stop()
    with pytest.raises(LostClaim):
        held.check()


def test_who_is_to_be_cancelled_hears_it_at_the_next_step(clock: Clock) -> None:
    held = hold(clock)
    held.renewed(Standing.CANCELLING, 120.0)
    with pytest.raises(JobCancelled):
        held.tell(0, MOVING, 1, None)


def test_a_removal_that_has_begun_is_finished_although_the_job_is_to_be_cancelled(clock: Clock) -> None:
    held = hold(clock, replace(job(), cancelling=True))
    held.renewed(Standing.CANCELLING, 120.0)
    held.check()


def test_who_is_to_stop_is_put_back(clock: Clock) -> None:
    held = hold(clock)
    held.stop()
    with pytest.raises(JobStopping):
        held.check()


def test_nothing_goes_on_after_its_deadline(clock: Clock) -> None:
    hold(clock, replace(job(), deadline=time.time() + 1000)).check()
    with pytest.raises(JobStopping):
        hold(clock, replace(job(), deadline=time.time() - 1)).check()

"""The processes of the job front under their master: started, started again, changed and ended in the right order.

They are real processes, which only sleep; the clock is given.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mistamover.config.load import load
from mistamover.config.settings import Settings
from mistamover.master.front import FRONT, WORKER, JobProcesses, programs
from support import Site


class Sleepers:
    """Runs `sleep` in place of what it is given, and knows what has ended."""

    def __init__(self) -> None:
        self.made: list[subprocess.Popen[bytes]] = []
        self.jobs = JobProcesses(self.fork)

    def fork(self, _run: Callable[[], int]) -> int:
        self.made.append(subprocess.Popen(["sleep", "60"]))
        return self.made[-1].pid

    def pid(self, name: str) -> int | None:
        reports = self.jobs.reports(0.0, 0.0)
        return next((each.pid for each in reports if each.name == f"the job {name}"), None)

    def bury(self, pid: int | None, now: float) -> int:
        """Given one that ends, wait for that, tell of it, and return how it ended."""
        process = next(process for process in self.made if process.pid == pid)
        code = process.wait(10)
        self.jobs.exited(process.pid, code, now)
        return code

    def lives(self, pid: int | None) -> bool:
        return any(process.pid == pid and process.poll() is None for process in self.made)


@pytest.fixture
def sleepers() -> Iterator[Sleepers]:
    made = Sleepers()
    yield made
    for process in made.made:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(Site(tmp_path, front={"enabled": True}, **{"global": {"restart_pause": 1}}).global_ini, {})


def changed(settings: Settings) -> Settings:
    assert settings.jobs is not None
    return replace(settings, jobs=replace(settings.jobs, front=replace(settings.jobs.front, port=7000)))


def off(settings: Settings) -> Settings:
    assert settings.jobs is not None
    return replace(settings, jobs=replace(settings.jobs, enabled=False))


def test_only_who_is_wanted_is_started(sleepers: Sleepers, settings: Settings) -> None:
    sleepers.jobs.consider(replace(settings, jobs=None), 0.0)
    sleepers.jobs.consider(off(settings), 0.0)
    assert sleepers.made == []
    assert sleepers.jobs.at_rest
    sleepers.jobs.consider(settings, 1.0)
    assert len(sleepers.made) == 2
    sleepers.jobs.consider(settings, 2.0)
    assert len(sleepers.made) == 2
    assert not sleepers.jobs.at_rest


def test_they_are_told_where_the_settings_are(settings: Settings) -> None:
    front, worker = programs(settings)
    assert front.arguments == (FRONT, "-c", str(settings.file))
    assert programs(replace(settings, debug=True))[1].arguments == (WORKER, "-c", str(settings.file), "--debug")
    assert worker.stop_timeout == settings.stop_timeout


def test_who_dies_is_started_again_ever_more_slowly_and_alone(sleepers: Sleepers, settings: Settings) -> None:
    jobs = sleepers.jobs
    jobs.consider(settings, 0.0)
    worker = sleepers.pid(WORKER)
    now = 0.0
    for pause in (1.0, 2.0, 4.0):
        front = sleepers.pid(FRONT)
        assert front is not None
        os.kill(front, signal.SIGKILL)
        sleepers.bury(front, now)
        assert sleepers.pid(FRONT) is None
        assert min(moment for moment in jobs.next_moments() if moment is not None) <= now + pause
        jobs.tick(now + pause - 0.01)
        assert sleepers.pid(FRONT) is None
        now += pause
        jobs.tick(now)
        assert sleepers.lives(sleepers.pid(FRONT))
    assert sleepers.pid(WORKER) == worker
    report = next(each for each in jobs.reports(now, 0.0) if each.name == f"the job {FRONT}")
    assert (report.restarts, report.last_exit) == (3, "was killed by SIGKILL")


def test_one_that_ends_by_itself_is_started_again_too(sleepers: Sleepers, settings: Settings) -> None:
    sleepers.jobs.consider(settings, 0.0)
    front = sleepers.pid(FRONT)
    assert front is not None
    sleepers.jobs.exited(front, 0, 1.0)
    sleepers.jobs.hurry(1.0)
    sleepers.jobs.tick(1.0)
    assert sleepers.pid(FRONT) not in (None, front)


def test_the_front_ends_before_the_worker(sleepers: Sleepers, settings: Settings) -> None:
    jobs = sleepers.jobs
    jobs.consider(settings, 0.0)
    front, worker = sleepers.pid(FRONT), sleepers.pid(WORKER)
    jobs.stop(1.0)
    jobs.stop(1.1)
    assert sleepers.bury(front, 2.0) == -signal.SIGTERM
    assert sleepers.bury(worker, 3.0) == -signal.SIGTERM
    assert jobs.at_rest
    jobs.tick(100.0)
    assert len(sleepers.made) == 2


def test_the_worker_is_not_asked_before_the_front_is_gone(sleepers: Sleepers, settings: Settings) -> None:
    jobs = sleepers.jobs
    jobs.consider(settings, 0.0)
    front, worker = sleepers.pid(FRONT), sleepers.pid(WORKER)
    assert front is not None
    # It cannot hear anything.
    os.kill(front, signal.SIGSTOP)
    os.waitid(os.P_PID, front, os.WSTOPPED | os.WNOWAIT)
    jobs.stop(1.0)
    jobs.tick(2.0)
    assert sleepers.lives(worker)
    states = {each.name: each.state for each in jobs.reports(2.0, 0.0)}
    assert states == {f"the job {FRONT}": "STOPPING", f"the job {WORKER}": "STARTING"}
    # It is killed when its time is over.
    jobs.tick(2.0 + settings.stop_timeout + 20)
    assert sleepers.bury(front, 50.0) == -signal.SIGKILL
    assert sleepers.bury(worker, 51.0) == -signal.SIGTERM


def test_other_settings_start_both_anew(sleepers: Sleepers, settings: Settings) -> None:
    jobs = sleepers.jobs
    jobs.consider(settings, 0.0)
    front, worker = sleepers.pid(FRONT), sleepers.pid(WORKER)
    jobs.consider(replace(settings, rescan_interval=9.0), 1.0)
    assert sleepers.lives(front)
    jobs.consider(changed(settings), 2.0)
    sleepers.bury(front, 3.0)
    sleepers.bury(worker, 4.0)
    jobs.tick(5.0)
    assert len(sleepers.made) == 4
    assert sleepers.lives(sleepers.pid(FRONT))
    assert sleepers.lives(sleepers.pid(WORKER))


def test_what_is_wanted_no_more_ends_also_while_it_waits_to_be_started(sleepers: Sleepers, settings: Settings) -> None:
    jobs = sleepers.jobs
    jobs.consider(settings, 0.0)
    front, worker = sleepers.pid(FRONT), sleepers.pid(WORKER)
    assert front is not None
    os.kill(front, signal.SIGKILL)
    sleepers.bury(front, 0.0)
    jobs.consider(off(settings), 0.5)
    sleepers.bury(worker, 1.0)
    assert jobs.reports(1.0, 0.0) == ()
    jobs.tick(100.0)
    assert len(sleepers.made) == 2
    jobs.consider(settings, 101.0)
    assert len(sleepers.made) == 4


def test_at_once_is_at_once(sleepers: Sleepers, settings: Settings) -> None:
    sleepers.jobs.consider(settings, 0.0)
    sleepers.jobs.kill()
    assert sleepers.jobs.at_rest
    # `kill` has waited for them itself.
    for process in sleepers.made:
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)

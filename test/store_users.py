"""Processes that use a store at the same time: `python -m store_users WHAT URL NUMBER THREADS`.

Each prints "ready", waits for a line, does its work in so many threads, and prints what came of it, a line each.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from mistamover.errors import PlaceTaken
from mistamover.jobs.model import JobState
from mistamover.jobs.store.store import Store
from stores import a_job, reserved
from support import TOP

#: Seconds that a process may take.
DEADLINE = 60.0


def claim(store: Store, name: str) -> list[str]:
    """Claim jobs and finish them until none waits; return their ids."""
    ids = []
    while (held := store.claims.next(name, 60.0)) is not None:
        ids.append(held.job.id)
        assert store.claims.finish(held, JobState.DONE)
    return ids


def hold(store: Store, name: str) -> list[str]:
    """Claim a job for a second, and do nothing with it."""
    held = store.claims.next(name, 1.0)
    return [held.job.id if held else ""]


def submit(store: Store, name: str) -> list[str]:
    """Submit the same job with the same key as everybody; return its id and whether it is new."""
    job, created = store.jobs.submit(a_job(key="k", request_hash="h"))
    return [f"{job.id} {created}"]


def reserve(store: Store, name: str) -> list[str]:
    """Submit a job for the same place as everybody; return whether the place was free."""
    try:
        store.jobs.submit(a_job(), objects=[reserved("there", "a")])
    except PlaceTaken:
        return ["taken"]
    return ["won"]


def upgrade(store: Store, name: str) -> list[str]:
    """Make the store."""
    store.prepare()
    return [str(store.jobs.counts()[JobState.DONE])]


WHAT: dict[str, Callable[[Store, str], list[str]]] = {
    act.__name__: act for act in (claim, hold, submit, reserve, upgrade)
}


def main(what: str, url: str, number: str, threads: int) -> None:
    """Do one of these things."""
    with Store(url) as store, ThreadPoolExecutor(threads) as pool:
        print("ready", flush=True)
        sys.stdin.readline()
        for result in pool.map(lambda thread: WHAT[what](store, f"w{number}/{thread}"), range(threads)):
            print(*result, sep="\n", flush=True)
        if what == "hold":
            sys.stdin.readline()


@contextlib.contextmanager
def users(what: str, url: str, *, processes: int, threads: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Give so many processes that are ready, and have been told to begin; they are killed at the end."""
    environment = {**os.environ, "PYTHONPATH": f"{TOP / 'lib'}:{TOP / 'test'}"}
    started: list[subprocess.Popen[str]] = []
    try:
        for number in range(processes):
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "store_users", what, url, str(number), str(threads)],
                    env=environment,
                    text=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
        for process in started:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait(DEADLINE)
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(BrokenPipeError):
                        stream.close()


def results(started: list[subprocess.Popen[str]]) -> list[str]:
    """Given processes, return what all of them have printed, once they have ended without an error."""
    lines = [line for process in started for line in process.communicate(timeout=DEADLINE)[0].splitlines() if line]
    assert [process.returncode for process in started] == [0] * len(started)
    return lines


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))

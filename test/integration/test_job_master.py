"""The master and the job front: one command starts both of its processes, watches over them and ends them in order."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from agents import agent_of, alive, end_all, log_of, master_report, none_left
from mistamover.jobs.model import JobState
from support import TOP, Site, free_port, wait_until
from workers import Shop

LATE = ("sqlalchemy", "alembic", "fastapi", "starlette", "uvicorn", "pydantic", "mistamover.jobs", "mistamover.front")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path, front={"enabled": True, "port": free_port(), "anonymous": "submit"})
    yield made
    made.close()
    end_all(made.site)


def pids(shop: Shop) -> dict[str, int]:
    """Return the processes of the job front, by name."""
    report = master_report(shop.site)
    found = report.helpers if report is not None else ()
    return {each.name.rpartition(" ")[2]: each.pid for each in found if each.pid is not None and alive(each.pid)}


def answers(port: int) -> bool:
    """Whether the front answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        pass
    return False


def until_served(shop: Shop, port: int | None = None, without: Mapping[str, int] | None = None) -> dict[str, int]:
    """Wait until the front answers and a worker is there, neither of them one of `without`; return their pids."""

    def served() -> dict[str, int] | None:
        now = pids(shop)
        fresh = set(now) == {"front", "worker"} and not set(now.values()) & set((without or {}).values())
        return now if fresh and answers(port or shop.jobs.front.port) else None

    found: dict[str, int] = wait_until(served, 40, "the front answers", every=0.1)
    return found


def test_one_command_serves_jobs(shop: Shop) -> None:
    with agent_of(shop.site) as agent:
        first = until_served(shop)
        status = shop.site.status()
        assert status["jobs"]["url"] == f"http://127.0.0.1:{shop.jobs.front.port}"
        assert {each["name"]: each["pid"] for each in status["jobs"]["processes"]} == first
        assert status["jobs"]["endpoints"] == ["here", "there"]
        said = shop.site.ask("status")
        assert re.search(r"^jobs: http://.*front runs \(process \d+\), worker runs \(process \d+\)$", said.stdout, re.M)
        assert said.returncode == 0
        (shop.here / "a").write_bytes(b"a")
        shop.until(shop.submit("here:a"))
        assert agent.process.poll() is None
        titles = [" ".join(psutil.Process(pid).cmdline()).strip() for pid in first.values()]
        assert titles == ["mistamover: front", "mistamover: worker"]
    # In this order, and with nothing left.
    front, worker = (log_of(shop.site, name) for name in ("front", "worker"))
    assert front.rstrip().endswith("stopped")
    assert worker.rstrip().endswith("has stopped")
    none_left(shop.site)


def test_who_is_killed_is_started_again(shop: Shop) -> None:
    with agent_of(shop.site):
        first = until_served(shop)
        os.kill(first["front"], signal.SIGKILL)
        os.kill(first["worker"], signal.SIGKILL)
        second = until_served(shop, without=first)
        (shop.here / "a").write_bytes(b"a")
        shop.until(shop.submit("here:a"))
        assert "the job front was killed by SIGKILL" in log_of(shop.site, "mistamover_ctl")
        os.kill(second["worker"], signal.SIGKILL)
        until_served(shop, without={"worker": second["worker"]})
        assert pids(shop)["front"] == second["front"], "the other one is left alone"


def test_other_settings_are_followed_and_streams_left_alone(shop: Shop) -> None:
    with agent_of(shop.site) as agent:
        first = until_served(shop)
        port = free_port()
        shop.site.write_global(front={"port": port})
        agent.reload()
        second = until_served(shop, port, without=first)
        shop.site.write_global(front={"enabled": False})
        agent.reload()
        wait_until(lambda: not pids(shop), 20, "the job front is gone")
        assert not any(map(alive, second.values()))
        assert shop.site.status()["jobs"] is None


def test_a_front_that_cannot_listen_is_told_and_tried_again(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", shop.jobs.front.port)) as other, agent_of(shop.site):
        wait_until(lambda: "starting it again" in log_of(shop.site, "mistamover_ctl"), 30, "the front has ended")
        # Between two starts, that is; for a moment each of them looks well.
        words = "front ended with status 1 (see front.log)"
        wait_until(lambda: (said := shop.site.ask("status")).returncode == 1 and words in said.stdout, 30, words)
        assert "cannot listen" in log_of(shop.site, "front")
        other.close()
        until_served(shop)


def test_they_die_with_their_master(shop: Shop) -> None:
    with agent_of(shop.site) as agent:
        first = until_served(shop)
        os.kill(agent.pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, first.values())), 20, "front and worker have ended")


def test_a_single_pass_starts_none_of_them(shop: Shop) -> None:
    job = shop.submit("here:a")
    done = shop.site.one_off()
    assert done.returncode == 0, done.stderr
    assert shop.job(job).state is JobState.QUEUED
    assert not (shop.site.logs / "worker.log").exists()
    assert not (shop.site.logs / "front.log").exists()


@pytest.mark.parametrize("command", ["front", "worker"])
def test_a_configuration_without_jobs_is_refused_in_words(tmp_path: Path, command: str) -> None:
    said = Site(tmp_path).ask(command)
    assert said.returncode == 2
    assert "says nothing of jobs" in said.stderr
    assert "Traceback" not in said.stderr


def modules(code: str) -> set[str]:
    """Return what a program has loaded."""
    words: dict[str, Any] = {"env": {**os.environ, "PYTHONPATH": str(TOP / "lib")}, "timeout": 60, "text": True}
    code += "; import sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, **words).stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import mistamover.master.service, mistamover.stream.pipeline, mistamover.handshake.process",
        "import mistamover.cli.run, mistamover.cli.status, mistamover.config.load",
        "import mistamover.alerts.process, mistamover.disk.process, mistamover.transport.registry",
    ],
)
def test_nothing_of_the_job_front_is_loaded_where_files_are_delivered(code: str) -> None:
    loaded = modules(code)
    assert "mistamover.config.serving" in loaded
    assert [name for name in LATE if name in loaded] == []

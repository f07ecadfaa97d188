"""How `mistamover status` shows the job front: where it listens, and whether its processes run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mistamover.cli.common import human_wait, printable
from mistamover.cli.stream_report import SiteReport
from mistamover.config.serving import FrontSettings
from mistamover.report.mastership import ChildReport


def jobs_json(report: SiteReport) -> dict[str, Any] | None:
    """Given the report, return what is known of the job front as JSON takes it; None if none is wanted."""
    jobs = report.settings.jobs
    if jobs is None or not report.serves_jobs:
        return None
    return {
        "url": url_of(jobs.front),
        "endpoints": [endpoint.name for endpoint in jobs.endpoints],
        "processes": [
            {"name": each.name.rpartition(" ")[2], "state": each.state, "pid": each.pid, "restarts": each.restarts}
            for each in (report.master.helpers if report.master is not None else ())
        ],
    }


def jobs_in_words(report: SiteReport) -> Iterator[str]:
    """Given the report, yield the lines about the job front; none if none is wanted."""
    jobs = report.settings.jobs
    if jobs is None or not report.serves_jobs or report.master is None:
        return
    states = ", ".join(_state(each, report.now) for each in report.master.helpers)
    yield f"jobs: {url_of(jobs.front)}: {states or 'not started yet'}"


def url_of(front: FrontSettings) -> str:
    """Given how the front listens, return its URL."""
    host = f"[{front.host}]" if ":" in front.host else front.host
    return f"{'https' if front.certificate is not None else 'http'}://{host}:{front.port}"


def _state(child: ChildReport, now: float) -> str:
    name = child.name.rpartition(" ")[2]
    if child.pid is not None:
        again = f", started again {child.restarts} times" if child.restarts else ""
        return f"{name} runs (process {child.pid}{again})"
    wait = f", is started again {human_wait(child.retry_at, now)}" if child.retry_at is not None else ""
    return f"{name} {printable(child.last_exit) or 'does not run'} (see {name}.log){wait}"

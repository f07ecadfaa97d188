"""How `mistamover status` looks: a table with one line a stream, and below it in full what an operator must know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mistamover.cli.common import human_age, human_bytes, human_time, human_wait, plural, printable, table
from mistamover.cli.disks_view import disks_in_words, disks_json
from mistamover.cli.jobs_view import jobs_in_words, jobs_json
from mistamover.cli.progress import under_way
from mistamover.cli.stream_report import SiteReport, StreamReport
from mistamover.config.settings import StreamStatus
from mistamover.files.names import display
from mistamover.model import StreamState
from mistamover.report.alerting import AlertReport
from mistamover.stream.words import retry_command

_HEADER = (
    "STREAM",
    "STATE",
    "WAITING",
    "SENDING",
    "DELIVERED",
    "IN HISTORY",
    "QUARANTINED",
    "IGNORED",
    "RATE",
    "OLDEST",
)

#: Waiting and quarantined units that are told one by one when a stream was asked for by its name.
_MOST_DETAILS = 20

#: Control files of which it is told what they wait for.
_ARRIVALS_SHOWN = 5


def as_json(report: SiteReport) -> dict[str, Any]:
    """Given the report, return it as JSON takes it."""
    master = report.master
    return {
        "running": master is not None,
        "pid": master.pid or None if master else None,
        "config": printable(report.settings.file),
        "host": master.host or None if master else None,
        "started": master.started or None if master else None,
        "mode": master.mode or None if master else None,
        "problems": [*report.problems, *(master.problems if master else ())],
        "disks": disks_json(report),
        "alerts": asdict(report.alerts) if report.alerts is not None else None,
        "jobs": jobs_json(report),
        "streams": [_stream_json(stream) for stream in report.streams],
    }


def in_words(report: SiteReport, *, details: bool) -> list[str]:
    """Given the report, return its lines; with `details` those that name single units, too."""
    lines = [_master_line(report), ""]
    lines += [f"the configuration has a problem, shown is the last good one: {line}" for line in report.problems]
    if report.master is not None:
        lines += [f"the last good configuration is in force: {printable(line)}" for line in report.master.problems]
    if report.alerts is not None:
        lines += [f"alerts: {line}" for line in _alerts(report.alerts)]
    lines += jobs_in_words(report)
    if report.streams:
        lines += table(_HEADER, (_row(stream, report.now) for stream in report.streams), left=(0, 1))
    else:
        lines.append("There are no streams in the configuration.")
    lines += disks_in_words(report)
    remarks = [f"{printable(s.name)}: {line}" for s in report.streams for line in _remarks(s, report.now, details)]
    return [*lines, "", *remarks] if remarks else lines


def _master_line(report: SiteReport) -> str:
    master, ours = report.master, printable(report.settings.file)
    if master is None:
        return f"MiStaMover does not run (nothing owns {printable(report.settings.state_dir)}; configuration {ours})"
    words = ["MiStaMover runs:"]
    if master.pid:
        words.append(f"process {master.pid} on {printable(master.host)} ({master.mode})")
        words.append(f"since {human_time(master.started)} ({human_age(report.now - master.started)}),")
    words.append(f"configuration {ours}")
    if master.config and printable(master.config) != ours:
        words.append(f"- but it was started with another one: {printable(master.config)}")
    return " ".join(words)


def _alerts(alerts: AlertReport) -> Iterator[str]:
    if alerts.mail_trouble:
        wait = "waits" if alerts.mails == 1 else "wait"
        yield f"{plural(alerts.mails, 'mail')} {wait}: {printable(alerts.mail_trouble)}"
    if alerts.dropped:
        yield f"{plural(alerts.dropped, 'mail')} could not be kept and were dropped"
    if alerts.notify_trouble:
        yield f"notifications wait: {printable(alerts.notify_trouble)}"
    if alerts.amqp_trouble:
        yield f"notifications by AMQP wait: {printable(alerts.amqp_trouble)}"


def _row(stream: StreamReport, now: float) -> tuple[str, ...]:
    last = stream.snapshot
    totals = stream.totals
    return (
        printable(stream.name),
        last.state.value,
        f"{last.waiting}{'+' if last.more_on_disk else ''}",
        str(last.sending),
        f"{last.delivered} ({human_bytes(last.bytes_delivered)})",
        f"{totals.files} ({human_bytes(totals.size)})" if totals else "-",
        str(len(stream.quarantined)),
        str(last.ignored),
        f"{human_bytes(last.rate)}/s" if last.rate else "-",
        human_age(now - last.oldest_waiting) if last.oldest_waiting is not None else "-",
    )


def _remarks(stream: StreamReport, now: float, details: bool) -> Iterator[str]:
    last = stream.snapshot
    yield from _why_not_served(stream)
    if not stream.served and stream.known:
        yield f"no process runs: the numbers are those of {human_time(last.updated)}"
    if last.sending and stream.served:
        yield under_way(last)
    if stream.pause is not None:
        yield stream.pause.words(stream.name)
    elif last.hold:
        yield printable(last.hold)
    if last.retry_at is not None and stream.pause is None:
        yield f"the target is tried again {human_wait(last.retry_at, now)}"
    if last.last_error:
        when = f" {human_age(now - last.last_error_at)} ago" if last.last_error_at is not None else ""
        yield f"last error{when}: {printable(last.last_error)}"
    if last.scan_problems:
        yield f"{last.scan_problems} of its directories cannot be read; its log names them"
    if last.more_on_disk:
        yield "more units wait on the disk than fit into memory; they are taken in as others leave"
    if stream.problem:
        yield f"the history cannot be read: {printable(stream.problem)}"
    if stream.totals and stream.totals.last is not None and details:
        yield f"last delivery {human_time(stream.totals.last)} ({human_age(now - stream.totals.last)} ago)"
    yield from _arrivals(stream)
    if stream.quarantined:
        yield from _quarantine(stream, details)
    if details:
        yield from _waiting(stream)


def _why_not_served(stream: StreamReport) -> Iterator[str]:
    settings = stream.settings
    if settings is None:
        yield "is no longer configured; what it left behind stays where it is"
    elif stream.served:
        return
    elif settings.status is not StreamStatus.RUNNING:
        yield f"does not run: status = {settings.status.value} in {printable(settings.file)}"
    elif settings.parts and not settings.works:
        yield f"each of its targets is a mirror of its own: {', '.join(part.name for part in settings.parts)}"
    elif not settings.works and settings.monitor is None:
        yield f"sends nothing: transfer_protocol = none in {printable(settings.file)}"
    elif not settings.works:
        yield "sends nothing, and takes in what others deliver"
    elif stream.snapshot.state is StreamState.DOWN:
        yield f"no process serves it, although it should run; its log is {printable(log_file(stream))}"


def _arrivals(stream: StreamReport) -> Iterator[str]:
    """Say how the arrival monitor is getting on."""
    settings, last = stream.settings, stream.arrivals
    if settings is None or settings.monitor is None:
        return
    log = printable(settings.log.directory / f"arrmon_{settings.name}.log")
    if stream.should_receive and not stream.receives:
        yield f"no process serves its arrivals, although it should run; its log is {log}"
    elif last is not None:
        yield f"arrivals in {printable(settings.monitor.directory)}: {last.delivered} delivered, {last.waiting} wait"
        for name, reason in last.first[:_ARRIVALS_SHOWN]:
            yield f"arrivals: {printable(name)}: {printable(reason)}"


def log_file(stream: StreamReport) -> str:
    """Given a configured stream, return the path of its log."""
    assert stream.settings is not None
    return str(stream.settings.log.directory / f"dtc_{stream.name}.log")


def _quarantine(stream: StreamReport, details: bool) -> Iterator[str]:
    number = len(stream.quarantined)
    where = f" (see {printable(stream.settings.quarantine_dir)})" if stream.settings else ""
    if not details:
        yield f"{plural(number, 'unit')} in quarantine{where}; `mistamover status {printable(stream.name)}` names them"
        return
    yield f"{plural(number, 'unit')} in quarantine{where}:"
    for trouble in stream.quarantined[:_MOST_DETAILS]:
        yield f"  {display(trouble.name)}: {printable(trouble.reason)}"
    if number > _MOST_DETAILS:
        yield f"  and {number - _MOST_DETAILS} more"
    yield f"to have all of them tried again: {retry_command(stream.name, None)}"


def _waiting(stream: StreamReport) -> Iterator[str]:
    waiting = stream.snapshot.undelivered
    if not waiting or not stream.served:
        return
    yield "waiting:"
    for unit in waiting[:_MOST_DETAILS]:
        yield f"  {printable(unit.name)}: {printable(unit.reason)}"
    more = stream.snapshot.waiting - min(len(waiting), _MOST_DETAILS)
    if more > 0:
        yield f"  and {more} more"


def _stream_json(stream: StreamReport) -> dict[str, Any]:
    totals = stream.totals
    return {
        **stream.snapshot.as_json(),
        "served": stream.served,
        "well": stream.well,
        "unconfigured": stream.settings is None,
        "paused": asdict(stream.pause) if stream.pause is not None else None,
        "in_quarantine": len(stream.quarantined),
        "history_released": totals.released if totals else 0,
        "history_files": totals.files if totals else 0,
        "history_bytes": totals.size if totals else 0,
        "last_delivery": totals.last if totals else None,
        "problem": stream.problem,
        "arrivals": stream.arrivals.as_json() if stream.arrivals is not None else None,
    }

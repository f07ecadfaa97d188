"""How the command `job` shows jobs to people."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from mistamover.cli.common import human_bytes, human_time, printable, table

Job = Mapping[str, Any]


def lines(job: Job) -> list[str]:
    """Given a job, return all that is to be told of it."""
    rows = [
        ("job", str(job["id"])),
        ("does", str(job["op"]) + (f", packed as {job['packaging']}" if job["packaging"] != "none" else "")),
        ("state", state(job)),
        ("owner", str(job["owner"])),
        ("label", str(job["label"])),
        ("submitted", when(job["created"])),
        ("started", when(job["started"])),
        ("ended", when(job["ended"])),
        ("waits until", when(job["not_before"]) if not job["ended"] else ""),
        ("waits for", f"{job['waits_for']}: none runs" if job.get("waits_for") else ""),
        ("progress", progress(job)),
        ("reason", str(job["reason"])),
        ("result", ", ".join(f"{key}: {value}" for key, value in job["result"].items())),
    ]
    found = [f"{name + ':':<13}{printable(text)}" for name, text in rows if text]
    items = job.get("items") or []
    found += [f"  {item_line(item)}" for item in items]
    more = job["progress"]["items"] - len(items)
    return [*found, f"  ... and {more} more"] if items and more > 0 else found


def overview(jobs: Iterable[Job]) -> list[str]:
    """Given jobs, return a line for each below a header."""
    header = ("job", "does", "state", "owner", "submitted", "progress", "label")
    rows = [
        (str(job["id"]), str(job["op"]), state(job), printable(str(job["owner"])), when(job["created"]), progress(job),
         printable(str(job["label"])))
        for job in jobs
    ]  # fmt: skip
    return table(header, rows, left=range(len(header)))


def state(job: Job) -> str:
    """Given a job, return its state, and that it is about to end."""
    return f"{job['state']} (to be cancelled)" if job["cancelling"] and not job["ended"] else str(job["state"])


def progress(job: Job) -> str:
    """Given a job, return how far it is."""
    done = job["progress"]
    size = f", {human_bytes(done['bytes_done'])} of {human_bytes(done['bytes'])}" if done["bytes"] else ""
    return f"{done['items_done']} of {done['items']}{size}"


def item_line(item: Mapping[str, Any]) -> str:
    """Given an item, return one line of it."""
    source = item["source"]
    begin = source.get("url") or (place(source["place"]) if source.get("place") else "what came with the request")
    target = item["landed"] or item["target"]
    end = f" -> {place(target)}" if target else ""
    reason = f": {item['reason']}" if item["reason"] else ""
    return printable(f"{item['state']}: {begin}{end}{reason}")


def place(value: Mapping[str, str]) -> str:
    """Given a place, return it as the command line takes it."""
    return f"{value['endpoint']}:{value['path']}"


def when(text: str | None) -> str:
    """Given a time of the API, return it for people, in local time; nothing for none."""
    return human_time(datetime.datetime.fromisoformat(text).timestamp()) if text else ""


class ProgressLine:
    """One line on a terminal, written over and over; nothing where there is no terminal."""

    def __init__(self, out: TextIO) -> None:
        """Given where people look."""
        self._out = out
        self.shown = out.isatty()

    def show(self, jobs: Sequence[Job]) -> None:
        """Given the jobs that are waited for, tell how far they are."""
        if not self.shown:
            return
        text = "   ".join(f"{job['id'][:8]}: {state(job)}, {progress(job)}" for job in jobs)
        width = shutil.get_terminal_size().columns - 1
        self._out.write(f"\r\x1b[K{text[:width]}")
        self._out.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self.shown:
            self._out.write("\r\x1b[K")
            self._out.flush()

"""`mistamover job`: ask the front for jobs, and look after them, over the same API that every program uses."""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mistamover.cli import job_view
from mistamover.cli.common import emit, print_json, printable
from mistamover.cli.job_client import Client, ServiceAway, add_client_options, client_of, job_path
from mistamover.errors import UsageError

NAME = "job"
HELP = "submit jobs to the front, show, list, cancel, retry them, or wait for them"

_EPILOG = """\
A place is ENDPOINT:PATH, a URL, or @ID for an object of the catalogue. A path that ends with a slash is a directory.
A submission that gets no answer is sent again with the same key: it never becomes two jobs.

Exit status: 0 accepted, or done where it was waited for; 1 failed, refused, or nobody answers; 2 wrong words or
configuration; 3 cancelled; 4 not ended within the time to wait. Of several jobs the worst counts.
`mistamover job VERB --help` says more.

Examples:
  mistamover job submit localhost:in/run7.nc hpc1:runs/             copy a file to the endpoint hpc1
  mistamover job submit --op move localhost:in/*.nc hpc1:runs/ --wait
  mistamover job submit https://data.example.org/x.zip localhost:x.zip --hash sha256:9f86d0...
  mistamover job submit --op delete hpc1:runs/run7.nc
  mistamover job list --state failed                                what failed, the newest first
  mistamover job wait 0a1b2c...                                     until it has ended, with its progress
"""

#: Seconds that one request waits: on a terminal, where progress is shown, and elsewhere.
_GLANCE, _LONG = 1.0, 30.0

#: Seconds for which a front that has answered before may be away.
_AWAY = 60.0

_STATUS = {"done": 0, "failed": 1, "cancelled": 3}
_NOT_YET = 4


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its verbs."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    verbs = parser.add_subparsers(metavar="submit|show|list|cancel|retry|wait", required=True)
    _configure_submit(_verb(verbs, "submit", "ask for a job", _submit))
    _verb(verbs, "show", "show jobs with their items", _show, jobs=True)
    listing = _verb(verbs, "list", "list jobs, the newest first", _list)
    listing.add_argument("--state", choices=("queued", "running", "packaging", "done", "failed", "cancelled"))
    for name in ("op", "owner", "label"):
        listing.add_argument(f"--{name}", help=f"only jobs of this {name}")
    listing.add_argument("--since", metavar="TIME", help="created then or later: 2026-11-22, or 2026-11-22T10:15:00Z")
    listing.add_argument("--limit", metavar="N", type=_count, default=20, help="how many, at most (default: 20)")
    _verb(verbs, "cancel", "end jobs that wait or run, forget those that have ended", _cancel, jobs=True)
    _verb(verbs, "retry", "queue jobs again that failed or were cancelled", _retry, jobs=True)
    waiting = _verb(verbs, "wait", "wait until jobs have ended", _wait, jobs=True)
    waiting.add_argument("--timeout", metavar="SECONDS", type=float, help="give up after so long (default: never)")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, do what it says; return the exit status. Raise MistamoverError."""
    act: Callable[[Client, argparse.Namespace], int] = arguments.act
    return act(client_of(arguments), arguments)


def _verb(
    verbs: Any, name: str, words: str, act: Callable[[Client, argparse.Namespace], int], *, jobs: bool = False
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=words, description=f"{words.capitalize()}.")
    add_client_options(parser)
    if jobs:
        parser.add_argument("jobs", metavar="JOB", nargs="+", help="ids of jobs")
    parser.set_defaults(act=act)
    return parser


def _configure_submit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("places", metavar="PLACE", nargs="+", help="the sources, and at the end the destination")
    parser.add_argument("--op", choices=("copy", "move", "fetch", "import", "delete"), default="copy")
    parser.add_argument("--label", default="", help="your own name for it")
    parser.add_argument("--key", help="an idempotency key: the same key is the same job (default: a new one)")
    parser.add_argument("--priority", type=int, default=0, help="the higher, the sooner")
    parser.add_argument("--packaging", choices=("none", "zip", "tar"), default="none", help="pack the sources into one")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there already")
    parser.add_argument("--recursive", action="store_true", help="with --op delete: a directory with all in it")
    parser.add_argument("--hash", metavar="TYPE:VALUE", help="what the one source must have, as sha256:9f86d0...")
    parser.add_argument(
        "--options-file",
        metavar="FILE",
        type=Path,
        help="a private file with a JSON object: user, password, token, cookies or headers for the sources",
    )
    parser.add_argument("--wait", action="store_true", help="until it has ended; the exit status tells how")


def _submit(client: Client, arguments: argparse.Namespace) -> int:
    body = _body(arguments)
    headers = {"Idempotency-Key": arguments.key or uuid.uuid4().hex}
    job = client.ask("POST", "/jobs", body, headers=headers)
    if arguments.wait:
        return wait_for(client, [str(job["id"])], None, as_json=arguments.json)
    if arguments.json:
        print_json(job)
    else:
        emit(str(job["id"]))
    return 0


def _body(arguments: argparse.Namespace) -> dict[str, Any]:
    deletes = arguments.op == "delete"
    *words, last = arguments.places
    if deletes != (not words):
        raise UsageError(
            "name one place to delete" if deletes else "name at least one source, and then the destination"
        )
    sources = [_place(word) for word in (words or [last])]
    options = _options(arguments.options_file)
    if arguments.hash:
        kind, colon, value = arguments.hash.partition(":")
        if len(sources) > 1 or not colon:
            raise UsageError("--hash is TYPE:VALUE, and for one source")
        sources[0] |= {"hashtype": kind, "hashsum": value}
    if arguments.recursive:
        options["recursive"] = True
    body: dict[str, Any] = {
        "op": arguments.op,
        "sources": sources,
        "label": arguments.label,
        "priority": arguments.priority,
        "packaging": arguments.packaging,
        "overwrite": arguments.overwrite,
        "options": options,
    }
    if not deletes:
        target = _place(last)
        if "object" in target:
            raise UsageError("a destination is ENDPOINT:PATH or a URL")
        body["destination"] = target
    return body


def _place(word: str) -> dict[str, str]:
    """Given a place as written, return it for the API. Raise UsageError."""
    if word.startswith("@"):
        return {"object": word[1:]}
    if "://" in word:
        return {"url": word}
    endpoint, colon, path = word.partition(":")
    if not colon or not endpoint:
        raise UsageError(f"{printable(word)} is no place: write ENDPOINT:PATH, a URL, or @ID for an object")
    return {"endpoint": endpoint, "path": path}


def _options(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    from mistamover.files.private import read_private

    try:
        value = json.loads("\n".join(read_private(path)))
    except ValueError as error:
        raise UsageError(f"{path} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object")
    return value


def _show(client: Client, arguments: argparse.Namespace) -> int:
    for identifier in arguments.jobs:
        job = client.ask("GET", job_path(identifier))
        if arguments.json:
            print_json(job)
        else:
            emit(*job_view.lines(job), "")
    return 0


def _list(client: Client, arguments: argparse.Namespace) -> int:
    filters = {name: getattr(arguments, name) for name in ("state", "op", "owner", "label", "since")}
    query: dict[str, object] = {name: value for name, value in filters.items() if value}
    jobs: list[Mapping[str, Any]] = []
    while len(jobs) < arguments.limit:
        page = client.ask("GET", "/jobs", query={**query, "limit": min(1_000, arguments.limit - len(jobs))})
        jobs += page["jobs"]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    if arguments.json:
        print_json({"jobs": jobs})
    else:
        emit(*job_view.overview(jobs))
    return 0


def _cancel(client: Client, arguments: argparse.Namespace) -> int:
    for identifier in arguments.jobs:
        job = client.ask("DELETE", job_path(identifier))
        if arguments.json:
            print_json(job or {"id": identifier, "state": "forgotten"}, indent=None)
        else:
            emit(f"{printable(identifier)}: {job_view.state(job) if job else 'had ended, and is forgotten'}")
    return 0


def _retry(client: Client, arguments: argparse.Namespace) -> int:
    for identifier in arguments.jobs:
        job = client.ask("POST", f"{job_path(identifier)}/retry")
        if arguments.json:
            print_json(job, indent=None)
        else:
            emit(f"{printable(identifier)}: {job_view.state(job)}")
    return 0


def _wait(client: Client, arguments: argparse.Namespace) -> int:
    return wait_for(client, arguments.jobs, arguments.timeout, as_json=arguments.json)


def wait_for(client: Client, identifiers: Sequence[str], timeout: float | None, *, as_json: bool) -> int:
    """Given ids of jobs, wait until all have ended, or the time is over; say how, and return the exit status."""
    jobs = ended(client, identifiers, timeout)
    for job in jobs:
        if as_json:
            print_json(job, indent=None)
        else:
            reason = f": {printable(str(job['reason']))}" if job["reason"] else ""
            emit(f"{job['id']}: {job_view.state(job)}{reason} ({job_view.progress(job)})")
    return worst(jobs)


def ended(client: Client, identifiers: Sequence[str], timeout: float | None) -> list[Mapping[str, Any]]:
    """Given ids of jobs, return the jobs when all have ended, or the time is over. Raise ServiceError.

    A terminal is shown how far they are.
    """
    until = None if timeout is None else time.monotonic() + timeout
    line = job_view.ProgressLine(sys.stderr)
    jobs: dict[str, Mapping[str, Any]] = {}
    try:
        for identifier in identifiers:
            heard = time.monotonic()
            while identifier not in jobs or not jobs[identifier]["ended"]:
                left = _LONG if until is None else max(0.0, until - time.monotonic())
                wait = min(left, _GLANCE if line.shown else _LONG)
                query = {"items": 0, "wait": f"{wait:.3f}"}
                try:
                    jobs[identifier] = client.ask("GET", job_path(identifier), query=query, wait=wait)
                    heard = time.monotonic()
                except ServiceAway:
                    # It is started again, perhaps; one that was never there is told of at once.
                    if identifier not in jobs or time.monotonic() - heard > _AWAY:
                        raise
                line.show(list(jobs.values()))
                if until is not None and time.monotonic() >= until:
                    break
    finally:
        line.clear()
    return list(jobs.values())


def worst(jobs: Iterable[Mapping[str, Any]]) -> int:
    """Given jobs, return the exit status that tells of the worst of them."""
    found = {_STATUS.get(str(job["state"]), _NOT_YET) for job in jobs}
    return next((status for status in (1, 3, _NOT_YET) if status in found), 0)


def _count(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return number

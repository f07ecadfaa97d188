"""`mistamover check`: logs in at every target, tells what can be had there, and tries it with a file of its own."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mistamover.cli.check_jobs import jobs_that_wait
from mistamover.cli.common import add_config_option, emit, load_settings, print_json, printable, senders_named
from mistamover.config.settings import StreamSettings, TargetSettings, TransferUnit
from mistamover.errors import LinkError, MistamoverError

NAME = "check"
HELP = "log in at every target and try what can be had there"

#: Questions that need no disk, of which the quickest tells the time that the way there and back takes.
_ROUNDS = 3

_EPILOG = """\
It works beside a running service, and takes nothing away from it: it has connections and a directory of its own, and
removes at the target what it has put there. Where jobs are configured, it tells of those that wait for workers of which
none runs.

Exit status: 0 everything works; 1 something does not; 2 wrong words or configuration.

Examples:
  mistamover check -c conf/global.ini            every stream
  mistamover check demo                          one stream
  mistamover check --json | jq '.targets[] | select(.well | not)'
"""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found out about a target."""

    what: str
    well: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that was found out about one target of one stream."""

    stream: StreamSettings
    target: TargetSettings
    findings: tuple[Finding, ...]

    @property
    def well(self) -> bool:
        """Whether everything works."""
        return all(finding.well for finding in self.findings)


class _Told(logging.Handler):
    """Keeps what a transport would tell the operator in the log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`."""
        self.words.append(record.getMessage())


def configure(parser: argparse.ArgumentParser) -> None:
    """Given the command's parser, add its options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Log in at the targets of the streams, tell what can be had there, and try it."
    parser.epilog = _EPILOG
    add_config_option(parser)
    parser.add_argument("streams", metavar="STREAM", nargs="*", help="streams whose targets to try (default: all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Given the parsed command line, try every target; return 1 if something does not work.

    Raise ConfigError or UsageError.
    """
    settings = load_settings(arguments)
    unserved = [] if arguments.streams else jobs_that_wait(settings)
    if not arguments.json:
        for words in unserved:
            emit(f"jobs: FAILED: {printable(words)}")
    every: list[Found] = []
    for stream in senders_named(settings, arguments.streams):
        if not stream.targets and not arguments.json:
            emit(f"{stream.name}: it sends nothing (transfer_protocol = none)")
        for target in stream.targets:
            findings = []
            for finding in _try(stream, target):
                findings.append(finding)
                if not arguments.json:
                    emit(_line(stream, target, finding))
            every.append(Found(stream=stream, target=target, findings=tuple(findings)))
    well = all(found.well for found in every) and not unserved
    if arguments.json:
        targets = [_as_json(found) for found in every]
        print_json({"well": well, "targets": targets, "jobs": unserved})
    return 0 if well else 1


def _line(stream: StreamSettings, target: TargetSettings, finding: Finding) -> str:
    place = printable(f"{stream.name}: {target.host}:{target.directory}")
    return f"{place}: {finding.what}: {'' if finding.well else 'FAILED: '}{printable(finding.words)}"


def _as_json(found: Found) -> dict[str, object]:
    return {
        "stream": found.stream.name,
        "protocol": found.target.protocol,
        "target": found.target.name,
        "well": found.well,
        "findings": [dataclasses.asdict(finding) for finding in found.findings],
    }


def _try(stream: StreamSettings, target: TargetSettings) -> Iterator[Finding]:
    from mistamover.transport import registry

    with tempfile.TemporaryDirectory(prefix="mistamover-check-") as place:
        own = dataclasses.replace(stream, state_dir=Path(place), links_dir=Path(place) / "links")
        (own.state_dir / "run").mkdir(mode=0o700)
        try:
            transport = registry.make(own, target, f"check-{os.urandom(6).hex()}")
        except (MistamoverError, LookupError, ImportError) as error:
            yield Finding(what="protocol", well=False, words=str(error))
            return
        reached = False
        logger, told = logging.getLogger("mistamover"), _Told()
        logger.addHandler(told)
        try:
            opened = _timed(transport.open)
            reached = not isinstance(opened, Finding)
            if isinstance(opened, Finding):
                yield opened
                return
            found, seconds = opened
            yield Finding(what="login", well=True, words=f"{found.description} ({_milliseconds(seconds)})")
            for what, how in found.ways:
                yield Finding(what=what, well=True, words=how or "not to be had here")
            for words in told.words:
                yield Finding(what="note", well=True, words=words)
            if stream.mirror_delete and not found.removal:
                words = "mirror_delete is set, and nothing can be removed there: set it to False"
                yield Finding(what="mirror_delete", well=False, words=words)
            if stream.unit is TransferUnit.DIRECTORY and not found.trees and not stream.zips:
                words = "whole directories cannot appear there at once: they travel as zips"
                yield Finding(what="directory units", well=True, words=words)
            yield from _ask(target, transport.suspended)
            yield _probe(transport.probe)
        finally:
            transport.close(finished=reached)
            logger.removeHandler(told)


def _ask(target: TargetSettings, suspended: Callable[[], bool]) -> Iterator[Finding]:
    rounds = []
    for _ in range(_ROUNDS):
        asked = _timed(suspended)
        if isinstance(asked, Finding):
            yield dataclasses.replace(asked, what="stop file")
            return
        there, seconds = asked
        rounds.append(seconds)
    yield Finding(what="round trip", well=True, words=_milliseconds(min(rounds)))
    if there:
        words = f"{target.stop_file} is there: nothing is sent until it is removed"
        yield Finding(what="stop file", well=True, words=words)


def _probe(probe: Callable[[], None]) -> Finding:
    tried = _timed(probe)
    if isinstance(tried, Finding):
        return dataclasses.replace(tried, what="write, rename and remove")
    return Finding(what="write, rename and remove", well=True, words=f"works ({_milliseconds(tried[1])})")


def _timed(act: Callable[[], _Answer]) -> tuple[_Answer, float] | Finding:
    """Given something to do, return what came of it and how many seconds it took, or why it failed."""
    begin = time.monotonic()
    try:
        answer = act()
    except MistamoverError as error:
        where = "login" if isinstance(error, LinkError) else "target"
        return Finding(what=where, well=False, words=str(error))
    return answer, time.monotonic() - begin


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"

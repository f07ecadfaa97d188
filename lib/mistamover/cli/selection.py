"""Which deliveries of the history are wanted: by time, name, kind of hash and number."""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mistamover.cli.common import printable
from mistamover.errors import UsageError
from mistamover.stream.ledger import Delivery

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which deliveries are wanted."""

    since: float | None = None
    glob: bytes | None = None
    algorithm: str | None = None
    limit: int | None = None


def selection_of(arguments: argparse.Namespace, now: float) -> Selection:
    """Given the parsed command line and the time, return which deliveries are wanted. Raise UsageError."""
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError("--limit takes a number from 1 on")
    return Selection(
        since=moment(arguments.since, now) if arguments.since is not None else None,
        glob=arguments.name.encode("utf-8", "surrogateescape") if arguments.name is not None else None,
        algorithm=arguments.algorithm.lower() if arguments.algorithm is not None else None,
        limit=arguments.limit,
    )


def moment(text: str, now: float) -> float:
    """Given a moment or an age as people write it, and the time, return the moment. Raise UsageError."""
    age = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)\s*([smhdw])", text.strip().lower())
    if age:
        return now - float(age[1]) * _UNITS[age[2]]
    try:
        return datetime.datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f'--since: "{printable(text)}" is no moment; write 2026-11-22, 2026-11-22T10:00, or an age as 2h or 3d'
        ) from None


def select(deliveries: Iterable[Delivery], selection: Selection) -> Iterator[Delivery]:
    """Given deliveries, yield those with the wanted name and algorithm; time and number are the caller's."""
    glob = selection.glob.decode("utf-8", "surrogateescape") if selection.glob is not None else None
    for delivery in deliveries:
        if glob is not None and not fnmatch.fnmatchcase(delivery.name.decode("utf-8", "surrogateescape"), glob):
            continue
        if selection.algorithm is None or delivery.algorithm == selection.algorithm:
            yield delivery

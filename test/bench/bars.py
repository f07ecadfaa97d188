"""What is to be reached, as data; the report prints it beside each result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bench.results import Results, Row

RCLONE = "rclone move"
PER_FILE = "one rsync per file"
LSYNCD = "lsyncd, delay 0"
HANDSHAKE = "ours, with handshake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A limit for one quantity of our ways."""

    workload: str
    quantity: str
    limit: float
    aim: float | None = None
    """What would be better still."""
    way: str = "ours"
    """The beginning of the names of the ways that it is for."""
    ratio: bool = False
    """Whether the limit is for the ratio, not for the value itself."""
    against: str | None = None
    """The other way of the ratio, if it is not the baseline."""
    at_least: bool = False
    """Whether more is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A bar and what was reached."""

    bar: Bar
    number: float

    @property
    def ok(self) -> bool:
        """Whether the bar is reached."""
        return self.number >= self.bar.limit if self.bar.at_least else self.number <= self.bar.limit

    def __str__(self) -> str:
        """Say it in words."""
        bar = self.bar
        limit = f"{'>=' if bar.at_least else '<='} {bar.limit:g}"
        aim = f", aim {bar.aim:g}" if bar.aim is not None else ""
        # What is compared with something else than the baseline is not in the table yet.
        other = f"{self.number:.3g} of {bar.against}, " if bar.against else ""
        return f"{'ok' if self.ok else 'not reached'} ({other}{limit}{aim})"


def _p(workload: str, what: str, share: int, limit: float, aim: float | None = None) -> Bar:
    return Bar(workload=workload, quantity=f"{what}, p{share}", limit=limit, aim=aim)


BARS = (
    Bar(workload="W1 move", quantity="time", ratio=True, limit=1.1, aim=0.9),
    Bar(workload="W1 move", quantity="time", ratio=True, against=RCLONE, limit=1 / 20),
    Bar(workload="W1 move", quantity="time", ratio=True, against=PER_FILE, limit=1 / 1000),
    Bar(workload="W1 move", quantity="time", ratio=True, way=HANDSHAKE, against="ours, running", limit=1.6, aim=1.3),
    Bar(workload="W1 mirror", quantity="time", ratio=True, limit=1.0, aim=0.7),
    Bar(workload="W2 move", quantity="time", ratio=True, limit=1.0, aim=0.8),
    Bar(workload="W2 mirror", quantity="time", ratio=True, limit=1.0, aim=0.8),
    Bar(workload="W3 move", quantity="time", ratio=True, limit=0.9, aim=0.65),
    Bar(workload="W3 mirror", quantity="time", ratio=True, limit=0.9, aim=0.65),
    _p("W4", "to final name", 50, 6, 3),
    _p("W4", "to removal", 50, 20, 10),
    _p("W4", "to final name", 99, 60),
    _p("W4", "to removal", 99, 60),
    Bar(workload="W4", quantity="to final name, p50", ratio=True, against=LSYNCD, limit=1 / 2.5),
    _p("W5", "to final name", 99, 100, 10),
    _p("W5", "to removal", 99, 100, 10),
    Bar(workload="W5", quantity="CPU of both ends", limit=40, aim=20),
    Bar(workload="W6", quantity="first delivery", limit=2),
    Bar(workload="W6", quantity="rate", ratio=True, at_least=True, limit=0.6, aim=0.8),
    Bar(workload="W6", quantity="peak memory, RSS", limit=150),
    Bar(workload="W7", quantity="CPU here", limit=2),
    Bar(workload="W7", quantity="PSS per stream", limit=8, aim=5),
    Bar(workload="W8", quantity="to final name, p95", way="ours, beside", ratio=True, limit=3, aim=2),
    Bar(workload="W8", quantity="to removal, p95", way="ours, beside", ratio=True, limit=3, aim=2),
    Bar(workload="W9", quantity="rate", way="ours, beside", ratio=True, at_least=True, limit=0.9),
    Bar(workload="W10 to ssh", quantity="time", ratio=True, limit=1.15, aim=0.8),
    Bar(workload="W10 from ssh", quantity="time", ratio=True, limit=1.15, aim=0.8),
    # At least 70 % of the throughput.
    Bar(workload="W11 small", quantity="time", ratio=True, limit=1.43, aim=1.0),
    Bar(workload="W11 large", quantity="time", ratio=True, limit=1.43, aim=1.0),
    Bar(workload="W11 small", quantity="first byte", limit=1),
    Bar(workload="W11 small", quantity="memory of the front, RSS", limit=150),
)


def verdicts(results: Results, row: Row) -> Iterator[Verdict]:
    """Given results and one of their rows, yield what the bars say of it."""
    for bar in BARS:
        if (row.workload, row.quantity) != (bar.workload, bar.quantity) or not row.way.startswith(bar.way):
            continue
        if row.way == HANDSHAKE and bar.way != HANDSHAKE:
            continue
        number = results.ratio(row, bar.against) if bar.ratio else row.value
        if number is not None:
            yield Verdict(bar=bar, number=number)

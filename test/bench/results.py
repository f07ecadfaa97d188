"""The values that the benchmark is about: what was measured, by which way, under which settings."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class NotDelivered(Exception):
    """Something was not delivered as it should have been, or a program that delivers failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One quantity of one way to do one workload."""

    workload: str
    way: str
    quantity: str
    unit: str
    values: tuple[float, ...]
    """One value for each round."""
    pooled: float | None = None
    """The value over all rounds together, where it is more than the median of the rounds (percentiles)."""
    baseline: str | None = None
    """The way whose value of the same quantity is 1.0; None where nothing is compared."""

    @property
    def value(self) -> float:
        """What stands in the table."""
        return statistics.median(self.values) if self.pooled is None else self.pooled


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What somebody must know who wants to repeat a measurement: the command and options of one way."""

    workload: str
    way: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What one run of the benchmark found."""

    machine: tuple[tuple[str, str], ...] = ()
    rows: tuple[Row, ...] = ()
    settings: tuple[Setting, ...] = ()
    failures: tuple[str, ...] = ()

    def plus(self, other: Results) -> Results:
        """Given more results of the same run, return both as one."""
        return Results(
            machine=self.machine + other.machine,
            rows=self.rows + other.rows,
            settings=self.settings + other.settings,
            failures=self.failures + other.failures,
        )

    def find(self, workload: str, way: str, quantity: str) -> Row | None:
        """Return the row of that name, or None."""
        wanted = (workload, way, quantity)
        return next((row for row in self.rows if (row.workload, row.way, row.quantity) == wanted), None)

    def ratio(self, row: Row, against: str | None = None) -> float | None:
        """Given a row, return its value divided by that of another way (default: its baseline); None without one."""
        other = self.find(row.workload, against or row.baseline or "", row.quantity)
        return row.value / other.value if other is not None and other.value else None


def write(results: Results, path: Path) -> None:
    """Given results, store them as JSON; values and ratios of the rows are in it for other programs."""
    content = dataclasses.asdict(results)
    for entry, row in zip(content["rows"], results.rows, strict=True):
        entry |= {"value": row.value, "least": min(row.values), "most": max(row.values), "ratio": results.ratio(row)}
    path.write_text(json.dumps(content, indent=1) + "\n")


def read(path: Path) -> Results:
    """Given a file that `write` made, return the results."""
    content = json.loads(path.read_text())
    names = {field.name for field in dataclasses.fields(Row)}

    def row(entry: dict[str, object]) -> Row:
        known = {key: value for key, value in entry.items() if key in names}
        return Row(**{**known, "values": tuple(entry["values"])})  # type: ignore[arg-type]

    return Results(
        machine=tuple((key, value) for key, value in content["machine"]),
        rows=tuple(map(row, content["rows"])),
        settings=tuple(Setting(**entry) for entry in content["settings"]),
        failures=tuple(content["failures"]),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """Given values and a share (0.99: p99), return the least value that so many are not above."""
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered), -int(-share * len(ordered) // 1)) - 1)]

"""The tables: for the terminal, and as reStructuredText for the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from bench.bars import verdicts
from bench.results import Results, Row

HEAD = ("way", "quantity", "value", "least - most", "ratio", "bar")


def as_text(results: Results) -> str:
    """Given results, return them as tables for a terminal, with the settings of every way below."""
    parts = []
    for workload, rows in groupby(results.rows, key=lambda row: row.workload):
        parts += [f"\n{workload}", *_columns([HEAD, *_lines(results, list(rows))])]
    if results.settings:
        parts.append("\nSettings")
        parts += [f"  {each.workload:<10} {each.way}: {each.words}" for each in results.settings]
    if results.failures:
        parts += ["\nNOT DELIVERED", *(f"  {failure}" for failure in results.failures)]
    return "\n".join(parts)


def as_rst(results: Results, plots: Sequence[str]) -> str:
    """Given results and the names of plots beside it, return a page for the documentation."""
    parts = ["Results of the benchmark", "========================", "", ".. Made by test/bench/run.py --doc.", ""]
    parts += [
        "Medians of interleaved rounds; percentiles are of all rounds together.  Ratios are to the baseline of the "
        "same run: use them, seconds differ from machine to machine and from hour to hour.",
        "",
    ]
    parts += [f"* {name}: {words}" for name, words in results.machine]
    for plot in plots:
        parts += ["", f".. image:: {plot}"]
    for workload, rows in groupby(results.rows, key=lambda row: row.workload):
        parts += ["", workload, "-" * len(workload), ""]
        parts += _list_table([HEAD, *_lines(results, list(rows))])
        parts += [""]
        parts += [f"* {each.way}: {each.words}" for each in results.settings if each.workload == workload]
    return "\n".join(parts) + "\n"


def _lines(results: Results, rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    ways = list(dict.fromkeys(row.way for row in rows))
    for row in sorted(rows, key=lambda row: ways.index(row.way)):
        ratio = results.ratio(row)
        spread = f"{_number(min(row.values))} - {_number(max(row.values))}" if len(row.values) > 1 else ""
        yield (
            row.way,
            row.quantity,
            f"{_number(row.value)} {row.unit}".rstrip(),
            spread,
            "" if ratio is None else f"{ratio:.3g}",
            "; ".join(map(str, verdicts(results, row))),
        )


def _number(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _columns(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _list_table(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    yield from (".. list-table::", "   :header-rows: 1", "")
    for line in lines:
        for index, cell in enumerate(line):
            yield f"   {' ' if index else '*'} - {cell}".rstrip()

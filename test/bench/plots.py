"""Two plots of the results: ratios of whole trees, and percentiles of single files."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from bench.results import Results, Row


def require() -> None:
    """Raise SystemExit saying what to install where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("--doc draws with matplotlib, which is not installed: pip install matplotlib")


def draw(results: Results, directory: Path) -> list[str]:
    """Given results and a directory, draw there what there is to draw as SVG; return the names of the files."""
    require()
    import matplotlib

    matplotlib.use("svg")
    # The same results give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "mistamover"
    drawn = []
    ratios = [row for row in results.rows if row.quantity == "time" and row.way != row.baseline]
    if ratios:
        drawn.append(_ratios(results, ratios, directory / "ratios.svg"))
    lags = [row for row in results.rows if row.unit == "ms"]
    if lags:
        drawn.append(_percentiles(lags, directory / "latency.svg"))
    return drawn


def _ratios(results: Results, rows: list[Row], path: Path) -> str:
    figure, axes = _figure(len(rows))
    names = [f"{row.workload}: {row.way}" for row in rows]
    values = [results.ratio(row) or 0.0 for row in rows]
    colours = ["tab:blue" if row.way.startswith("ours") else "tab:gray" for row in rows]
    bars = axes.barh(names, values, color=colours)
    axes.bar_label(bars, fmt="%.3g", padding=3)
    axes.margins(x=0.1)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("time, as a multiple of rsync's in the same run (log scale; less is better)")
    return _save(figure, axes, path)


def _percentiles(rows: list[Row], path: Path) -> str:
    ways = list(dict.fromkeys((row.workload, row.way, row.quantity.partition(",")[0]) for row in rows))
    figure, axes = _figure(len(ways))
    marks = {"p50": "o", "p95": "s", "p99": "^"}
    for share, mark in marks.items():
        points = [row for row in rows if row.quantity.endswith(share)]
        axes.plot(
            [row.value for row in points],
            [ways.index((row.workload, row.way, row.quantity.partition(",")[0])) for row in points],
            mark,
            label=share,
        )
    axes.set_yticks(range(len(ways)), [f"{workload}: {way}, {what}" for workload, way, what in ways])
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds after the close of a 4 KiB file (log scale)")
    axes.legend()
    return _save(figure, axes, path)


def _figure(lines: int) -> tuple[Any, Any]:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 1.5 + 0.35 * lines))
    return figure, axes


def _save(figure: Any, axes: Any, path: Path) -> str:
    axes.invert_yaxis()
    axes.grid(axis="x", which="major", linewidth=0.4)
    axes.set_axisbelow(True)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    return path.name

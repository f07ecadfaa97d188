"""The pure parts of the benchmark: percentiles, ratios, bars, tables, parsing of what the kernel says."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bench import bars, inotify, report, results, rows, trees, usage
from bench.results import NotDelivered, Results, Row, Setting


def row(way: str, *values: float, workload: str = "W1 move", quantity: str = "time") -> Row:
    return Row(
        workload=workload, way=way, quantity=quantity, unit="s", values=values, baseline="rsync --remove-source-files"
    )


FOUND = Results(
    machine=(("kernel", "6.18"),),
    rows=(row("rsync --remove-source-files", 2.0, 1.0, 3.0), row("ours, one-off", 1.0), row("rclone move", 40.0)),
    settings=(Setting(workload="W1 move", way="rclone move", words="--transfers=8"),),
)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)], ids=lambda value: str(value)
)
def test_given_1_to_100_when_a_quantile_is_asked_for_then_so_many_are_not_above(share: float, expected: int) -> None:
    assert results.quantile(range(100, 0, -1), share) == expected


def test_given_one_value_when_a_quantile_is_asked_for_then_it_is_the_value() -> None:
    assert results.quantile([7.0], 0.5) == results.quantile([7.0], 0.99) == 7.0


def test_given_rounds_when_compared_then_the_medians_are_divided() -> None:
    assert FOUND.ratio(FOUND.rows[1]) == 0.5
    assert FOUND.ratio(FOUND.rows[1], "rclone move") == 1 / 40
    assert FOUND.ratio(FOUND.rows[1], "a way that was not measured") is None


def test_given_results_when_stored_then_they_are_read_back_the_same(tmp_path: Path) -> None:
    results.write(FOUND, tmp_path / "results.json")
    assert results.read(tmp_path / "results.json") == FOUND


def test_given_results_when_judged_then_only_ours_are_and_only_by_what_was_measured() -> None:
    verdicts = {each.way: list(map(str, bars.verdicts(FOUND, each))) for each in FOUND.rows}
    assert verdicts["rclone move"] == verdicts["rsync --remove-source-files"] == []
    assert verdicts["ours, one-off"] == ["ok (<= 1.1, aim 0.9)", "ok (0.025 of rclone move, <= 0.05)"]


def test_given_a_bar_that_more_is_better_for_when_less_is_reached_then_it_says_so() -> None:
    rate = [
        Row(workload="W6", way=way, quantity="rate", unit="files/s", values=(value,), baseline="rsync")
        for way, value in (("rsync", 1000.0), ("ours, one-off", 500.0))
    ]
    assert [str(each) for each in bars.verdicts(Results(rows=tuple(rate)), rate[1])] == [
        "not reached (>= 0.6, aim 0.8)"
    ]


def test_given_results_when_shown_then_ways_values_and_failures_are_there() -> None:
    text = report.as_text(FOUND.plus(Results(failures=("W2: lost",))))
    assert "rclone move" in text and "1.00 - 3.00" in text and "W2: lost" in text and "--transfers=8" in text


def test_given_results_when_made_a_page_then_every_row_of_the_table_has_every_cell() -> None:
    lines = report.as_rst(FOUND, ["ratios.svg"]).splitlines()
    table = lines[lines.index(".. list-table::") + 3 :]
    table = table[: table.index("")]
    assert len(table) == len(report.HEAD) * (1 + len(FOUND.rows))
    starts = ["   * -", *["     -"] * (len(report.HEAD) - 1)]
    assert [line[:6] for line in table] == starts * (1 + len(FOUND.rows))


def test_given_events_of_the_kernel_when_parsed_then_names_lose_their_padding() -> None:
    data = struct.pack("iIII16s", 1, inotify.IN_MOVED_TO, 0, 16, b"one") + struct.pack(
        "iIII", 2, inotify.IN_DELETE, 0, 0
    )
    assert inotify.parse(data, 5) == [(1, inotify.IN_MOVED_TO, b"one", 5), (2, inotify.IN_DELETE, b"", 5)]


def test_given_an_overflow_when_parsed_then_nothing_is_measured_from_it() -> None:
    with pytest.raises(OverflowError):
        inotify.parse(struct.pack("iIII", -1, inotify.IN_Q_OVERFLOW, 0, 0), 5)


def test_given_a_process_name_with_blanks_and_brackets_when_its_stat_is_read_then_the_fields_are_right() -> None:
    stat = "7 (a) (b c) S " + " ".join(map(str, range(4, 53)))
    assert usage.dead_children_ticks(stat) == 16 + 17


def test_given_a_tree_when_made_then_it_passes_its_own_check_and_no_other(tmp_path: Path) -> None:
    tree = trees.Tree(directories=2, per_directory=3, size=5000)
    tree.make(tmp_path)
    tree.check(tmp_path)
    (tmp_path / tree.name(4)).write_bytes(trees.content(3, 0, 5000))
    with pytest.raises(NotDelivered, match="another content"):
        tree.check(tmp_path)
    (tmp_path / tree.name(4)).unlink()
    with pytest.raises(NotDelivered, match="5 of 6"):
        tree.check(tmp_path)
    with pytest.raises(NotDelivered, match="still at the source"):
        trees.none_left(tmp_path)


def test_a_job_costs_the_store_three_transactions_and_one_for_each_file(capsys: pytest.CaptureFixture[str]) -> None:
    """What the page about planning sizes computes with."""
    assert rows.main(["--items", "6", "--per-job", "1,3", "--store", "sqlite"]) == 0
    said = [line.strip() for line in capsys.readouterr().out.splitlines() if "transactions" in line]
    assert said == [f"writing transactions a job: 1.00 handed in, {files + 2:.2f} done" for files in (1, 3)]

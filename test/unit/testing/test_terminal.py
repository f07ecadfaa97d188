"""What the quickstart prints."""

from __future__ import annotations

import pytest

from mistamover.testing.terminal import Progress, amount, table


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (51_500_000, "51.5 MB"), (321_000, "321 kB")]
)
def test_amounts_are_for_people(size: int, words: str) -> None:
    assert amount(size) == words


def test_columns_are_aligned() -> None:
    assert table(("", "files", ""), [("removed", "12", "gone"), ("x", "1", "")]).splitlines() == [
        "           files",
        "  removed     12  gone",
        "  x            1",
    ]


def test_where_lines_stay_only_some_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for number in range(100):
            progress.show(f"line {number}")
        progress.show("the end", last=True)
    assert capsys.readouterr().out.splitlines() == ["  line 0", "  the end"]

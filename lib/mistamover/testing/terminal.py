"""How the quickstart prints: headings, a table, sizes, and progress that suits a terminal or a log."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

#: Seconds between two lines of progress where lines cannot be rewritten.
LOG_EVERY: Final = 2.0


def heading(words: str) -> str:
    """Given the words, return a heading, bold on a terminal."""
    return f"\n\x1b[1m{words}\x1b[0m" if sys.stdout.isatty() else f"\n== {words}"


def amount(size: float) -> str:
    """Given a number of bytes, return it for people: 999 B, 1.2 kB, 53 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Given a header and rows of equal length, return aligned lines: first and last column left, others right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *middle, last = (
            cell.ljust(width) if column in (0, len(widths) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  " + "  ".join((first, *middle, last)).rstrip()

    return "\n".join(line(row) for row in (header, *rows))


class Progress:
    """Shows the newest line: rewritten in place on a terminal, now and then where output goes to a file."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._last = float("-inf")
        self._open = False

    def __enter__(self) -> Self:
        """Begin; nothing is printed yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the line that stands open on a terminal."""
        if self._open:
            print(flush=True)
            self._open = False

    def show(self, line: str, *, last: bool = False) -> None:
        """Given a line, show it; where lines stay, only if the one before is old enough or this is the last."""
        if self._terminal:
            width = shutil.get_terminal_size().columns - 3
            print(f"\r  {line[:width]}\x1b[K", end="", flush=True)
            self._open = True
        elif last or time.monotonic() - self._last >= LOG_EVERY:
            print(f"  {line}", flush=True)
            self._last = time.monotonic()

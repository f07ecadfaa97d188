"""The collection of all problems and warnings of one loading, and of whose they are.

Nothing is raised where a problem is found; `load` decides at the end.  This module
imports nothing of this room.
"""

from __future__ import annotations

from collections.abc import Iterable

from mistamover.errors import Problem


class Report:
    """What was found wrong so far.  The same finding may come in often, once for each stream that inherits it."""

    def __init__(self) -> None:
        self._problems: dict[Problem, None] = {}
        self._warnings: dict[Problem, None] = {}
        self._broken: set[str] = set()
        self._whole = False

    def problem(self, problem: Problem, stream: str = "") -> None:
        """Given a problem and the stream that alone is touched by it ("" for all), keep it."""
        self._problems.setdefault(problem)
        if stream:
            self._broken.add(stream)
        else:
            self._whole = True

    def warn(self, warning: Problem) -> None:
        """Given something that the operator should know and that stops nothing, keep it."""
        self._warnings.setdefault(warning)

    def take(self, problems: Iterable[Problem], warnings: Iterable[Problem], stream: str = "") -> None:
        """Given the findings of another place, keep them all."""
        for problem in problems:
            self.problem(problem, stream)
        for warning in warnings:
            self.warn(warning)

    @property
    def whole_broken(self) -> bool:
        """Whether a problem touches more than single streams."""
        return self._whole

    def broken(self, stream: str) -> bool:
        """Given the name of a stream, return whether a problem is its own."""
        return stream in self._broken

    def problems(self) -> list[Problem]:
        """Return all problems, ordered by file and line."""
        return sorted(self._problems, key=_position)

    def warnings(self) -> tuple[str, ...]:
        """Return all warnings as lines of text, ordered by file and line."""
        return tuple(str(warning) for warning in sorted(self._warnings, key=_position))


def _position(problem: Problem) -> tuple[str, int, str, str]:
    return problem.file, problem.line or 0, problem.section, problem.key

"""The queues at the broker, one for each group of workers, and what becomes of a job's priority there. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: What all of them begin with.
NAME: Final = "mistamover"
#: The highest priority of a message; the lowest is 0.
HIGHEST: Final = 9
#: That of a job that nothing was said of.
_MIDDLE: Final = 4
#: Priorities of jobs from which a message has one more.
_STEPS: Final = (1, 2, 10, 100, 1000)
#: Jobs that are announced ahead for each thread of the workers, and at least.
_AHEAD: Final = 2
_LEAST: Final = 8


def queue_of(group: str) -> str:
    """Given a group of workers, return the name of its queue; that of no group has no more to its name."""
    return f"{NAME}.{group}" if group else NAME


def level(priority: int) -> int:
    """Given the priority of a job, return that of its message: never lower for a higher one."""
    steps = sum(abs(priority) >= step for step in _STEPS)
    return min(HIGHEST, max(0, _MIDDLE + steps if priority >= 0 else _MIDDLE - steps))


def rooms(threads: Mapping[str, int]) -> dict[str, int]:
    """Given how many jobs the workers of each group do at a time, return how many of each are announced ahead.

    Nobody is told of jobs whose workers do not live: the first that comes looks for itself.
    """
    return {group: max(_LEAST, _AHEAD * many) for group, many in threads.items() if many > 0}

"""How much room there is, and which streams must wait because of it.  Pure: nothing is measured or made here.

A *level* follows from the numbers of one moment.  A *hold* is what is done about it, and remembers: once streams are
held, those of base priority and below are let go by GOOD only, so that they are not stopped and started around one
threshold.

    level   hold before          hold after
    GOOD    any                  none
    OKAY    all                  base: streams of higher priority go on
    OKAY    base, none           as before
    LOW     none                 base
    LOW     base, all            as before
    VLOW    none, base           base; all, if what may be deleted makes no room
    VLOW    all                  all
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from mistamover.config.settings import DiskSettings, Levels, StreamSettings


class Level(enum.IntEnum):
    """The room on a filesystem; the greater, the better."""

    VLOW = 0
    LOW = 1
    OKAY = 2
    GOOD = 3


class Hold(enum.IntEnum):
    """Who must wait on a filesystem."""

    NONE = 0
    BASE = 1  # streams of base priority and below
    ALL = 2


class Shortage(NamedTuple):
    """How much is missing."""

    space: int
    """Bytes."""
    inodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What a filesystem has left for users other than root."""

    free: int
    total: int
    """Bytes."""
    inodes_free: int
    inodes: int
    """0 where the filesystem makes them as they are needed."""

    @property
    def inodes_percent(self) -> float | None:
        """The share of inodes that is free; None where they are not counted."""
        return 100.0 * self.inodes_free / self.inodes if self.inodes else None


def level_of(space: Space, settings: DiskSettings) -> Level:
    """Given what is left and the thresholds, return the level: the worse of that of space and that of inodes."""
    percent = space.inodes_percent
    return min(_level(space.free, settings.space), Level.GOOD if percent is None else _level(percent, settings.inodes))


def _level(free: float, levels: Levels) -> Level:
    if free < levels.vlow:
        return Level.VLOW
    if free < levels.low:
        return Level.LOW
    return Level.GOOD if free > levels.good or not levels.good else Level.OKAY


def hold_after(before: Hold, level: Level, *, nothing_helps: bool = False) -> Hold:
    """Given the hold so far and the level, return the hold from now on; see the module.

    `nothing_helps` says that the level is still VLOW after what may be deleted has been.
    """
    if level is Level.GOOD:
        return Hold.NONE
    if level is Level.OKAY:
        return min(before, Hold.BASE)
    if level is Level.VLOW and nothing_helps:
        return Hold.ALL
    return max(before, Hold.BASE)


def in_order(streams: Iterable[StreamSettings]) -> list[StreamSettings]:
    """Given streams, return them in the order in which they have to give way: the least important first."""
    return sorted(streams, key=lambda stream: (stream.priority, stream.name))


def held(hold: Hold, streams: Iterable[StreamSettings], base_priority: int) -> list[StreamSettings]:
    """Given the hold, the streams of a filesystem and the base priority, return those that must wait, in order."""
    if hold is Hold.NONE:
        return []
    return [stream for stream in in_order(streams) if hold is Hold.ALL or stream.priority <= base_priority]


def shortage(space: Space, settings: DiskSettings) -> Shortage | None:
    """Given what is left, return how much must become free for a level above VLOW; None if it is above."""
    if level_of(space, settings) is not Level.VLOW:
        return None
    inodes = int(space.inodes * settings.inodes.vlow / 100) + 1 - space.inodes_free if space.inodes else 0
    return Shortage(space=max(0, int(settings.space.vlow) - space.free), inodes=max(0, inodes))

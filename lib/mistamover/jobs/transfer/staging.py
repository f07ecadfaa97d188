"""When an archive is asked again whether it has files on disk, and when nobody waits for it any more. Pure."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds, the shortest and the longest pause between two looks.
_FIRST, _LONGEST = 1.0, 60.0

#: How much of a pause is left to chance, so that many carts do not ask at once.
_JITTER = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What an archive tells of a file."""

    on_disk: bool = True
    """It can be had at once; otherwise it comes from tape."""
    size: int | None = None
    """Bytes; None if that is not known."""
    mtime: int = 0
    """Seconds since the epoch; 0 if that is not known."""


def next_look(began: float, now: float, timeout: float, chance: float) -> float | None:
    """Given when a job began, the time, the seconds that the archive has in all, and a number from 0 to 1, return when
    it is asked again; None if its time is over.

    Each pause is about as long as all the time before, so that nothing has to be remembered: they double.
    """
    over = began + timeout
    if now >= over:
        return None
    pause = min(_LONGEST, max(_FIRST, now - began)) * (1.0 + _JITTER * (2.0 * chance - 1.0))
    return min(now + pause, over)

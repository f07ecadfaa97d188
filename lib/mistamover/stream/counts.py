"""What a stream has counted since its process started, and how fast it is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

#: Seconds over which the rate is taken.
_WINDOW = 10.0


@dataclass(slots=True, kw_only=True)
class Counts:
    """seen = delivered + quarantined + released + ignored + (what is on the roll).

    What was put back from quarantine is seen anew: it is counted once.
    """

    seen: int = 0
    delivered: int = 0
    quarantined: int = 0
    released: int = 0
    ignored: int = 0
    bytes_delivered: int = 0
    _recent: deque[tuple[float, float, int]] = field(default_factory=deque)

    def sent(self, started: float, ended: float, size: int) -> None:
        """Given when a batch began and ended and its bytes, count them for the rate."""
        self.bytes_delivered += size
        self._recent.append((started, ended, size))
        while len(self._recent) > 1 and self._recent[0][1] < ended - _WINDOW:
            self._recent.popleft()

    def rate(self, now: float) -> float:
        """Given the time, return bytes a second over the last seconds; 0 when nothing was delivered in them."""
        recent = [(start, size) for start, end, size in self._recent if end >= now - _WINDOW]
        if not recent:
            return 0.0
        return sum(size for _, size in recent) / max(now - min(start for start, _ in recent), 0.001)

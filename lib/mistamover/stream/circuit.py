"""The circuit of one target: closed while it works, open for a while after a fault that is not a file's.

Pure: the clock and the chance are given.  A fault opens it for a time that doubles
up to a limit; then one probe is let through, and its success closes it.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds of the first pause, and of the longest.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0

#: How much of a pause is left to chance, so that many streams do not knock at once.
_JITTER = 0.2


@dataclass(slots=True, kw_only=True)
class Circuit:
    """Whether a target may be tried now, and why not."""

    failures: int = 0
    """Faults in a row; 0 is closed."""
    retry_at: float = 0.0
    """When the next probe may go (seconds, of the caller's clock)."""
    reason: str = ""
    since: float = 0.0
    trusted: bool = False
    """Whether something was delivered since the connection was last lost."""
    lost_at: float = -1.0
    """When a connection was last lost that had served until then."""

    @property
    def closed(self) -> bool:
        """Whether batches may go."""
        return self.failures == 0

    def failed(self, reason: str, now: float, chance: float) -> None:
        """Given why, the time, and a number from 0 to 1, open the circuit (longer, if it was open)."""
        if self.closed:
            self.since = now
        self.failures += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10))
        self.retry_at = now + pause * (1.0 + _JITTER * (2.0 * chance - 1.0))
        self.reason = reason

    def worked(self) -> bool:
        """Close the circuit; return whether it was open."""
        was_open = not self.closed
        self.failures = 0
        self.retry_at = 0.0
        self.reason = ""
        return was_open

    def proved(self) -> None:
        """Something was delivered: when the connection is lost next, that is worth a new one at once."""
        self.trusted = True

    def forgives(self, began: float, now: float) -> bool:
        """Given when an errand began that met a lost connection, and the time, tell whether that is no failure yet.

        The first loss after a delivery is none, nor is what was under way then: it costs a new connection.
        """
        if not self.closed:
            return False
        if self.trusted:
            self.trusted = False
            self.lost_at = now
            return True
        return began <= self.lost_at

    def probe_due(self, now: float) -> bool:
        """Given the time, tell whether an open circuit may be probed."""
        return not self.closed and now >= self.retry_at

    def hurry(self, now: float) -> None:
        """Given the time, let the next probe go at once, and the pauses begin anew: the operator asked for it."""
        self.retry_at = min(self.retry_at, now)
        self.failures = min(self.failures, 1)

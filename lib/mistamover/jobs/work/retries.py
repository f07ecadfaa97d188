"""When a worker tries again: decided from times and numbers alone.

Pure: the clock and the chance are given.  What an item that failed is worth is decided where it is moved; here it is
decided what becomes of the whole job, and of an endpoint that cannot be reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mistamover.jobs.model import Circuit, Job, JobState

#: Seconds of the first pause of an endpoint, and of the longest.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0

#: How much of a pause is left to chance, so that many workers do not knock at once.
_JITTER = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A job that has ended."""

    state: JobState
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """A job that waits in the queue once more."""

    not_before: float | None
    """Seconds since the epoch; None: as soon as it may."""
    reason: str


def pause_of(failures: int, chance: float) -> float:
    """Given how often in a row an endpoint could not be reached, and a number from 0 to 1, return seconds to wait."""
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(max(0, failures - 1), 10))
    return pause * (1.0 + _JITTER * (2.0 * chance - 1.0))


def after(
    job: Job,
    *,
    reason: str,
    not_before: float | None,
    unreachable_since: float | None,
    now: float,
    give_up_after: float,
) -> End | Again:
    """Given a job that could not be ended, why, when it may be tried again, since when its endpoint cannot be reached
    (None: it can), the time, and the seconds after which waiting for it is given up, return what becomes of the job.
    """
    if job.deadline is not None and max(now, not_before or now) >= job.deadline:
        return End(state=JobState.FAILED, reason=late(reason))
    if unreachable_since is not None and given_up(job.created, unreachable_since, now, give_up_after):
        return End(state=JobState.FAILED, reason=hopeless(reason, give_up_after))
    return Again(not_before=not_before, reason=reason)


def given_up(created: float, unreachable_since: float, now: float, give_up_after: float) -> bool:
    """Given since when a job waits and its endpoint cannot be reached, tell whether it has waited for long enough."""
    return now - max(created, unreachable_since) >= give_up_after


def late(reason: str) -> str:
    """Given what happened last, return why a job failed whose deadline is over."""
    return f"it did not end before its deadline; last: {reason}" if reason else "it did not end before its deadline"


def hopeless(reason: str, give_up_after: float) -> str:
    """Given why an endpoint cannot be reached, return why a job failed that has waited for it."""
    return f"{reason} (given up after {give_up_after:g} s)"


@dataclass(slots=True)
class Unreachable:
    """Since when endpoints cannot be reached, as one worker knows it; changed by one thread at a time."""

    _since: dict[str, float] = field(default_factory=dict)

    def failed(self, endpoint: str, failures: int, now: float) -> float:
        """Given an endpoint that just failed for so many times in a row, and the time, return since when it does."""
        if failures <= 1:
            # The circuit was closed in between, be it by another worker.
            self._since[endpoint] = now
        return self._since.setdefault(endpoint, now)

    def known(self, circuits: Mapping[str, Circuit], now: float) -> None:
        """Given all circuits and the time, take in what other workers have found out."""
        for endpoint in set(self._since) - set(circuits):
            del self._since[endpoint]
        for endpoint in circuits:
            self._since.setdefault(endpoint, now)

    def hopeless(self, now: float, give_up_after: float) -> Iterable[str]:
        """Given the time and the patience in seconds, return the endpoints that nobody has to wait for any more."""
        return [endpoint for endpoint, since in self._since.items() if now - since >= give_up_after]

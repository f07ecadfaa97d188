"""What goes wrong with an item: who is to blame, and whether trying again can help. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mistamover.config.serving import EngineSettings
from mistamover.errors import JobRefused, LinkError, TargetError
from mistamover.files.names import display
from mistamover.jobs.transfer.places import Missing
from mistamover.model import FaultClass
from mistamover.transport.far import FarRefusal

#: Characters of a reason.
_LONGEST = 500

#: Seconds, the longest pause between two attempts.
_LONGEST_PAUSE = 60.0


#: Seconds, the longest pause before another worker may take a job.
_NEXT_WORKER = 5.0


class Trouble(Exception):
    """An item comes to nothing for now."""

    def __init__(
        self, fault: FaultClass, reason: str, *, final: bool = False, endpoint: str = "", elsewhere: bool = False
    ) -> None:
        """Given who is to blame, why, whether that is for good, the endpoint that it is about, and whether another
        worker can do what this one cannot, be raised.
        """
        self.fault = fault
        self.final = final
        self.endpoint = endpoint
        self.elsewhere = elsewhere
        self.seq: int | None = None
        """The item that it is about, where several are handled as one."""
        self.pause = 0.0
        """Seconds before another attempt, at least."""
        self.within: float | None = None
        """Seconds from the begin of its job on, for which it is only a matter of time; None if it is none."""
        super().__init__(one_line(reason))

    @property
    def is_patient(self) -> bool:
        """Whether it is an endpoint of ours that cannot be reached, or another worker that is waited for: that costs no
        attempt, but its time is limited.
        """
        return (
            self.elsewhere
            or self.within is not None
            or (self.fault is FaultClass.LINK and bool(self.endpoint) and "://" not in self.endpoint)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """When an item is tried again."""

    not_before: float
    whole: bool
    """Nothing of the job can go on before, because an endpoint is not to be reached."""


def trouble(error: Exception, endpoint: str = "") -> Trouble:
    """Given what a far end raised, or the system, and the endpoint that it was about, return what it means."""
    if isinstance(error, Trouble):
        return error
    if isinstance(error, Missing):
        return Trouble(FaultClass.VANISHED, str(error), final=True, endpoint=endpoint)
    if isinstance(error, FarRefusal):
        return Trouble(FaultClass.REFUSED, str(error), final=True, endpoint=endpoint)
    if isinstance(error, LinkError):
        return Trouble(FaultClass.LINK, str(error), endpoint=endpoint)
    if isinstance(error, TargetError):
        return Trouble(FaultClass.TARGET, str(error), endpoint=endpoint)
    if isinstance(error, JobRefused):
        return Trouble(FaultClass.REFUSED, str(error), final=True, endpoint=endpoint)
    if isinstance(error, OSError):
        return Trouble(FaultClass.HERE, f"this host: {error.strerror or error}", endpoint=endpoint)
    return Trouble(FaultClass.BUG, f"{type(error).__name__}: {error}", endpoint=endpoint)


def decide_retry(
    error: Trouble, settings: EngineSettings, *, attempts: int, began: float, now: float, deadline: float | None
) -> Again | None:
    """Given what went wrong, the settings, how often the item failed before, when its job began, the time, and when it
    must be done, return when it is tried again; None if it is not.
    """
    if error.final:
        return None
    pause = min(settings.retry_pause * 2.0 ** min(attempts, 16), max(_LONGEST_PAUSE, settings.retry_pause))
    if error.elsewhere:
        # Who gets it next may be the right one.
        pause = min(pause, _NEXT_WORKER)
    when = now + max(pause, error.pause)
    patience = settings.give_up_after if error.within is None else error.within
    if error.is_patient and when - began > patience:
        return None
    if not error.is_patient and attempts >= settings.retry_count:
        return None
    if when >= (math.inf if deadline is None else deadline):
        return None
    return Again(not_before=when, whole=error.is_patient)


def one_line(text: str) -> str:
    """Given any words, return them as one printable line that is not too long."""
    line = display(" ".join(text.split()).encode("utf-8", "surrogateescape"))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."

"""Every exception of the package, in one tree.

Each class says whether trying again can help (`retryable`) and which exit status
a command ends with when the error reaches the top (`exit_status`).  Exceptions
of libraries and of the operating system are turned into these at the edge of
the room that called them.
"""

from __future__ import annotations

from dataclasses import dataclass


class MistamoverError(Exception):
    """Base of all errors of this package; the message is written for an operator."""

    retryable = False
    exit_status = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong in the configuration: where it is, what it is, what was expected."""

    file: str
    line: int | None
    section: str
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        what = f"[{self.section}] {self.key}".strip() if self.section else self.key
        text = f"{where}: {what}: {self.message}" if what else f"{where}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


class ConfigError(MistamoverError):
    """The configuration cannot be used; `problems` holds every reason, not only the first."""

    exit_status = 2

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in problems))


class UsageError(MistamoverError):
    """A command was called with words that it cannot take."""

    exit_status = 2


class AlreadyRunning(MistamoverError):
    """Another process owns this state directory or this stream."""


class LedgerError(MistamoverError):
    """The ledger of a stream cannot be read or written."""

    retryable = True


class TransportError(MistamoverError):
    """Base of what goes wrong between this host and a target."""

    retryable = True


class LinkError(TransportError):
    """The target cannot be reached: ssh, network, login, host key."""


class SessionRefused(LinkError):
    """A connection stands, but its server allows no further session on it."""


class NobodyShares(LinkError):
    """The process that keeps shared connections is gone, or gives no answer."""


class TargetError(TransportError):
    """The target was reached and refuses: disk full, read-only, permission, missing."""


class TransportBug(TransportError):
    """A transport behaved in a way that its contract excludes."""


class PeerFileError(MistamoverError):
    """A control, receipt or thank-you file does not say what it should."""


class SecretError(MistamoverError):
    """A file that holds a secret cannot be used: others may read it, or nobody can."""

    exit_status = 2


class AlertError(MistamoverError):
    """A mail or a notification could not be handed over."""

    retryable = True


class AlertRefused(AlertError):
    """One message is not taken; others may be."""

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


class StoreError(MistamoverError):
    """The store of jobs cannot be used."""

    retryable = True


class EngineError(MistamoverError):
    """The broker that tells workers of jobs cannot be used."""

    retryable = True


class JobError(MistamoverError):
    """Base of what is wrong with a job, or with a request for one; `code` is a word for programs."""

    code = "job"


class JobRefused(JobError):
    """A request that is not accepted, and for which nothing was done."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class KeyReused(JobError):
    """An idempotency key comes again, with another request."""

    code = "key-reused"

    def __init__(self, job: str) -> None:
        self.job = job
        super().__init__(f"this idempotency key belongs to job {job}, which was another request: use a new key")


class PlaceTaken(JobError):
    """An object of the catalogue is where another one is to be."""

    code = "place-taken"

    def __init__(self, endpoint: str, path: str) -> None:
        self.endpoint, self.path = endpoint, path
        super().__init__("the catalogue has an object of this place already")


class ObjectLocked(JobError):
    """Another job is changing an object."""

    code = "object-locked"

    def __init__(self, object_id: str, job: str) -> None:
        self.object_id, self.job = object_id, job
        super().__init__(f"object {object_id} is being changed by job {job}: wait until that has ended")


class TooManyJobs(JobError):
    """An owner has as many unfinished jobs as are allowed."""

    code = "too-many-jobs"

    def __init__(self, most: int) -> None:
        self.most = most
        super().__init__(f"{most} of your jobs wait or run, which is the limit: try again when some have ended")


class NoSpace(JobError):
    """The volume of carts cannot hold another one."""

    code = "no-space"

    def __init__(self) -> None:
        # In these words old clients know it.
        super().__init__("No Space Available")


class BundleBroken(JobError):
    """A bundle cannot be made of the files that a cart has."""

    code = "bundle-broken"


class RetryRefused(JobError):
    """A job cannot be tried again."""

    code = "retry-refused"


class LostClaim(JobError):
    """A worker's right to a job has ended: another worker may have it, and nothing was changed."""

    code = "lost-claim"


class JobCancelled(JobError):
    """Somebody wants the job to end."""

    code = "cancelled"


class JobStopping(JobError):
    """The worker is to end: what is under way is put back."""

    code = "stopping"


class FrontError(MistamoverError):
    """The front cannot listen."""

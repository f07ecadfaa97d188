"""The methods of the XML-RPC dialect: one explicit table, and what each does.

There is no look-up of attributes: what is not in the table cannot be called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from mistamover.errors import JobError, JobRefused
from mistamover.front import words as front_words
from mistamover.front.context import Front
from mistamover.front.legacy import xmlrpc_moves as moves
from mistamover.front.legacy import xmlrpc_wire as wire
from mistamover.front.legacy import xmlrpc_words as words
from mistamover.front.legacy.xmlrpc_words import Rejected
from mistamover.jobs import paths
from mistamover.jobs.model import Job, JobState, Location, Packaging, Scope
from mistamover.jobs.submission import Caller, Destination, Request, SourceSpec

#: Calls that one `system.multicall` may hold.
_MOST_CALLS = 1_000


class CallFault(Exception):
    """A call that ends in a fault; never leaves the front."""

    def __init__(self, code: int, words: str) -> None:
        self.code = code
        super().__init__(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One entry of the table."""

    do: Callable[..., object]
    """Called with the caller, then the parameters."""
    scope: Scope
    least: int
    most: int
    signatures: Sequence[Sequence[str]]
    help: str


class Methods:
    """The table, over one desk."""

    def __init__(self, front: Front) -> None:
        """Given the front, fill the table."""
        self._front = front
        self._settings = front.settings.front
        self._store = front.store
        self._desk = front.desk
        self._table = self._filled()

    def call(self, call: wire.Call, caller: Caller) -> object:
        """Given a call and who makes it, return its result. Raise CallFault if it is none of ours."""
        method = self._table.get(call.method)
        if method is None:
            known = "system.listMethods tells those that there are"
            raise CallFault(wire.UNKNOWN_METHOD, f"there is no method {call.method[:100]!r}; {known}")
        if not method.least <= len(call.parameters) <= method.most:
            raise CallFault(
                wire.INVALID_PARAMETERS, f"{call.method} takes {_count(method)}, not {len(call.parameters)}"
            )
        if not caller.scope.includes(method.scope):
            raise CallFault(wire.REFUSED, f"{call.method} needs a token with the scope {method.scope.value}")
        return method.do(caller, *call.parameters)

    # ---- moves ----

    def _move(self, caller: Caller, source: object, destination: object, zipped: object = None) -> dict[str, str]:
        try:
            return self._submitted(caller, moves.asked(source, destination, zipped))
        except Rejected as error:
            return words.rejection(str(error))

    def _pull_ala(self, caller: Caller, lsid: object = None) -> dict[str, str]:
        if not isinstance(lsid, str) or not lsid:
            return words.rejection("Missing or incorrect parameters")
        endpoint, _, path = self._settings.ala_destination.partition("/")
        if not endpoint:
            return words.rejection("Unknown destination: set ala_destination = ENDPOINT/PATH in [front]")
        place = moves.Place(host=endpoint, path=(path or ".") + "/")
        move = moves.Move(sources=[moves.Place(url=moves.ala_url(lsid))], destination=place, dialect="swapped")
        try:
            return self._submitted(caller, move)
        except Rejected as error:
            return words.rejection(str(error))

    def _submitted(self, caller: Caller, move: moves.Move) -> dict[str, str]:
        """Given a move whose parameters are in order, make it a job. Raise Rejected if the desk refuses it."""
        sources = [self._source(place, move.dialect) for place in move.sources]
        location = self._located(move.destination, "destination", move.dialect)
        target = Destination(url=move.destination.url) if location is None else Destination(location=location)
        origin = words.ORIGIN if move.dialect == "url" else words.STRUCT_ORIGIN
        try:
            job, _ = self._desk.copy(
                Request(who=caller, origin=origin),
                sources,
                target,
                packaging=Packaging.ZIP if move.zipped else Packaging.NONE,
                # As scp did: who imports data anew wants to have the new ones.
                overwrite=True,
            )
        except JobError as error:
            raise Rejected(self._public(words.refusal(error))) from error
        return words.status(job)

    def _source(self, place: moves.Place, dialect: str) -> SourceSpec:
        location = self._located(place, "source", dialect)
        return SourceSpec(url=place.url) if location is None else SourceSpec(location=location)

    def _located(self, place: moves.Place, end: str, dialect: str) -> Location | None:
        """Given one end of a move, return where it is; None for a URL that says so itself.

        Raise Rejected if it is on a host that no endpoint stands for.
        """
        if place.host:
            if self._desk.endpoints.get(place.host) is None:
                raise Rejected(_unknown(end, place.host, dialect))
            return Location(endpoint=place.host, path=place.path)
        try:
            # The desk takes a URL of an endpoint as it is: a slash at its end says something.
            known = self._desk.endpoints.resolve_url(place.url, empty=True) is not None
            return None if known else self._by_name(place, end, dialect)
        except JobRefused as error:
            raise Rejected(self._public(words.refusal(error))) from error

    def _by_name(self, place: moves.Place, end: str, dialect: str) -> Location | None:
        """Given an end that falls under no endpoint, return where it is, if its host is the name of one.

        That is how object stores were written; ssh goes by endpoints only.  Raise Rejected, JobRefused.
        """
        parts = urlsplit(place.url)
        if parts.scheme in ("scp", "sftp"):
            raise Rejected(_unknown(end, parts.hostname or "", dialect))
        if not parts.scheme.startswith("swift") or parts.scheme in self._settings.url_schemes:
            return None
        # A name of ours, with its capitals.
        host = parts.netloc.rpartition("@")[2]
        if self._desk.endpoints.get(host) is None:
            raise Rejected(f"{_unknown(end, host, dialect)}: {words.NO_SWIFT}")
        return Location(endpoint=host, path=paths.decoded(parts.path).lstrip("/"))

    # ---- their end ----

    def _check(self, caller: Caller, identity: object = None) -> dict[str, str]:
        return self._checked(identity, downloading=False)

    def _check_ala(self, caller: Caller, identity: object = None) -> dict[str, str]:
        return self._checked(identity, downloading=True)

    def _checked(self, identity: object, *, downloading: bool) -> dict[str, str]:
        try:
            job = self._job(identity)
        except Rejected as error:
            return words.rejection(str(error))
        if (
            job.state is JobState.DONE
            and self._settings.xmlrpc_forget_completed
            and job.origin.startswith(words.ORIGIN)
        ):
            self._store.jobs.drop(job.id)
        return self._shown(job, downloading=downloading)

    def _cancel(self, caller: Caller, identity: object = None) -> dict[str, str]:
        try:
            job = self._job(identity)
        except Rejected as error:
            return words.rejection(str(error))
        if job.owner != caller.name and not caller.scope.includes(Scope.ADMIN):
            raise CallFault(wire.REFUSED, "only who submitted a job may cancel it, or a token with the scope admin")
        cancelled = self._store.jobs.cancel(job.id) or job
        self._front.ring()
        return self._shown(cancelled)

    def _job(self, identity: object) -> Job:
        if identity is None or identity == "":
            raise Rejected("Missing or incorrect parameter 'id'")
        if not isinstance(identity, str):
            raise Rejected("Invalid parameter 'id must be a string'")
        # Some print it with dashes, as the other dialects do.
        job = self._store.jobs.get(identity.replace("-", "").lower())
        if job is None:
            raise Rejected(words.NO_SUCH_JOB)
        return job

    def _shown(self, job: Job, *, downloading: bool = False) -> dict[str, str]:
        failed = job.state is JobState.FAILED and job.origin == words.STRUCT_ORIGIN
        struct = words.status(job, self._store.jobs.items(job.id) if failed else (), downloading=downloading)
        if "reason" in struct:
            struct["reason"] = self._public(struct["reason"])
        return struct

    def _public(self, reason: str) -> str:
        """Given a reason, return it as one line without the directories of this host."""
        return front_words.line(front_words.masked(reason, self._front.known.instead()))

    # ---- about the table ----

    def _list(self, caller: Caller) -> list[str]:
        return sorted(self._table)

    def _help(self, caller: Caller, name: object) -> str:
        return self._named(name).help

    def _signature(self, caller: Caller, name: object) -> list[list[str]]:
        return [list(signature) for signature in self._named(name).signatures]

    def _named(self, name: object) -> Method:
        method = self._table.get(name) if isinstance(name, str) else None
        if method is None:
            raise CallFault(wire.UNKNOWN_METHOD, "there is no method of this name")
        return method

    def _many(self, caller: Caller, calls: object) -> list[object]:
        if not isinstance(calls, list) or len(calls) > _MOST_CALLS:
            raise CallFault(wire.INVALID_PARAMETERS, f"system.multicall takes an array of at most {_MOST_CALLS} calls")
        return [self._one_of_many(caller, one) for one in calls]

    def _one_of_many(self, caller: Caller, one: object) -> object:
        name = one.get("methodName") if isinstance(one, dict) else None
        parameters = one.get("params", []) if isinstance(one, dict) else None
        try:
            if not isinstance(name, str) or not isinstance(parameters, list):
                raise CallFault(wire.INVALID_PARAMETERS, "a call is a struct of methodName and params")
            if name == "system.multicall":
                raise CallFault(wire.INVALID_PARAMETERS, "system.multicall does not take itself")
            return [self.call(wire.Call(method=name, parameters=tuple(parameters)), caller)]
        except CallFault as error:
            return {"faultCode": error.code, "faultString": str(error)}

    def _filled(self) -> dict[str, Method]:
        check = Method(
            do=self._check,
            scope=Scope.READ,
            least=0,
            most=1,
            signatures=(("struct", "string"),),
            help="check_move_status(id): the status of a job: PENDING, IN_PROGRESS, COMPLETED, FAILED with a reason,"
            " or REJECTED with a reason if there is none of this id.",
        )
        return {
            "move": Method(
                do=self._move,
                scope=Scope.SUBMIT,
                least=2,
                most=3,
                signatures=(
                    ("struct", "string", "string"),
                    ("struct", "array", "string"),
                    ("struct", "string", "string", "boolean"),
                    ("struct", "array", "string", "boolean"),
                    ("struct", "struct", "struct"),
                ),
                help="move(source, destination[, zip]): copy one source or several to a destination, in the background."
                " Both are URLs, or structs with a type and with a host; returns the job's id and status,"
                " or REJECTED with a reason. With zip all files arrive as one, move-job-ID.zip.",
            ),
            "check_move_status": check,
            "checkMoveStatus": check,
            "check": check,
            "pullOccurrenceFromALA": Method(
                do=self._pull_ala,
                scope=Scope.SUBMIT,
                least=0,
                most=1,
                signatures=(("struct", "string"),),
                help="pullOccurrenceFromALA(lsid): fetch the occurrences of a species"
                " to the place of [front] ala_destination.",
            ),
            "checkALAJobStatus": Method(
                do=self._check_ala,
                scope=Scope.READ,
                least=0,
                most=1,
                signatures=(("struct", "string"),),
                help="checkALAJobStatus(id): as check_move_status; DOWNLOADING stands for IN_PROGRESS.",
            ),
            "cancel": Method(
                do=self._cancel,
                scope=Scope.SUBMIT,
                least=0,
                most=1,
                signatures=(("struct", "string"),),
                help="cancel(id): end a job; what was delivered stays. Returns its status.",
            ),
            "system.listMethods": Method(
                do=self._list,
                scope=Scope.READ,
                least=0,
                most=0,
                signatures=(("array",),),
                help="system.listMethods(): the names of all methods.",
            ),
            "system.methodHelp": Method(
                do=self._help,
                scope=Scope.READ,
                least=1,
                most=1,
                signatures=(("string", "string"),),
                help="system.methodHelp(name): what a method does.",
            ),
            "system.methodSignature": Method(
                do=self._signature,
                scope=Scope.READ,
                least=1,
                most=1,
                signatures=(("array", "string"),),
                help="system.methodSignature(name): the types of its result and its parameters,"
                " for each way to call it.",
            ),
            "system.multicall": Method(
                do=self._many,
                scope=Scope.READ,
                least=1,
                most=1,
                signatures=(("array", "array"),),
                help="system.multicall(calls): several calls in one request, each a struct of methodName and params.",
            ),
        }


def _unknown(end: str, host: str, dialect: str) -> str:
    if dialect == "swapped":
        return f"Unknown {end}"
    return f"Unknown {end} '{host}'"


def _count(method: Method) -> str:
    if method.least == method.most:
        return f"{method.least} parameters"
    return f"{method.least} to {method.most} parameters"

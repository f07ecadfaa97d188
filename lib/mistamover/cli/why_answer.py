"""What `mistamover why` finds out: the facts about one name, and the decision that the engine takes on the same facts.

Leases are taken for an instant and released; nothing is changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mistamover.cli.common import is_served, printable, reading
from mistamover.cli.openers import Openers, OpenFile, openers_of
from mistamover.cli.stream_report import should_run, state_now
from mistamover.cli.why_arrival import Arrival, arrival_of
from mistamover.cli.why_place import Place
from mistamover.config.settings import StreamSettings, StreamStatus, TransferMode, TransferUnit
from mistamover.errors import MistamoverError
from mistamover.files import leases, stopfile
from mistamover.files.identity import identity_of, kind_of
from mistamover.files.names import base, display
from mistamover.model import Action, Decision, Kind, Reason, StreamState, Writers
from mistamover.report import snapshot as snapshots
from mistamover.report.snapshot import Snapshot
from mistamover.stream import pause
from mistamover.stream.decide import Facts, Rules, decide, ignored_by_name
from mistamover.stream.examine import examine, facts_of
from mistamover.stream.ledger import Delivery, Ledger, Release, Trouble
from mistamover.stream.quarantine import SUFFIX
from mistamover.stream.roll import Candidate
from mistamover.stream.zips import beside_zips


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All that is known about one name."""

    place: Place
    now: float
    served: bool
    snapshot: Snapshot | None
    kind: Kind | None = None
    """What is on the disk; None if nothing is."""
    decision: Decision | None = None
    otherwise: Decision | None = None
    """What would be done if nothing held the whole stream back."""
    trouble: Trouble | None = None
    """What the ledger notes about failed attempts, or about a quarantine."""
    releases: tuple[Release, ...] = ()
    """When it was taken out of the stream for good, the latest first."""
    deliveries: tuple[Delivery, ...] = ()
    openers: Openers | None = None
    quarantine_note: str = ""
    """The text that lies beside a quarantined unit."""
    remarks: tuple[str, ...] = ()
    arrival: Arrival | None = None
    """What an arrival monitor has of it, or had."""

    @property
    def known(self) -> bool:
        """Whether anything is known about the name."""
        remembered = self.trouble or self.releases or self.deliveries or self.quarantine_note
        return bool(self.kind or remembered or self.arrival)


def answer(place: Place, now: float) -> Answer:
    """Given a place and the time, return what is known about it. Raise LedgerError, MistamoverError."""
    served = is_served(place.stream.state_dir)
    known = snapshots.read(place.stream.state_dir)
    if place.in_quarantine:
        return _in_quarantine(place, now, served, known)
    arrival = arrival_of(place.stream, place.name)
    if place.in_incoming:
        return Answer(place=place, now=now, served=served, snapshot=known, arrival=arrival)
    with reading(place.stream.state_dir) as ledger:
        trouble = _trouble(ledger, lambda note: note.name == place.unit)
        found = Answer(
            place=place,
            now=now,
            served=served,
            snapshot=known,
            trouble=trouble,
            releases=tuple(ledger.releases(name=place.unit)) if ledger is not None else (),
            deliveries=_deliveries(ledger, place),
            remarks=(place.remark,) if place.remark else (),
            arrival=arrival,
        )
        try:
            status = os.lstat(_unit_path(place))
        except (FileNotFoundError, NotADirectoryError):
            return found
        except OSError as error:
            raise MistamoverError(
                f"{display(_unit_path(place))} cannot be looked at: {error.strerror}: "
                f"ask as the user of the service, or as root"
            ) from error
        return _decided(found, status, ledger)


# -- what is there ----------------------------------------------------------------------------


def _decided(found: Answer, status: os.stat_result, ledger: Ledger | None) -> Answer:
    """Given what is known so far and the unit's lstat, add the decision and who has it open."""
    place, stream = found.place, found.place.stream
    kind = _kind(place, status)
    holds = holds_of(stream, found.snapshot, served=found.served)
    rules = Rules.of(stream)
    candidate = Candidate(place.unit, kind, identity_of(status), status.st_nlink, found.now)
    # When the process last heard of it is not published: the longest pause is what can be promised.
    candidate.heard_at = 0.0
    trouble = found.trouble
    if trouble is not None and not trouble.quarantined:
        candidate.attempts, candidate.retry_at = trouble.attempts, trouble.retry_at
        candidate.failure, candidate.first_seen = trouble.reason, trouble.since
    facts, remarks = _facts(candidate, stream, rules, found.now, status)
    if facts is None:
        return found
    if trouble is not None and trouble.quarantined and trouble.identity == facts.identity:
        # Another file of that name is another matter.
        facts = replace(facts, quarantined=trouble.reason)
    if found.releases and found.releases[0].identity == facts.identity:
        facts = replace(facts, released=found.releases[0].words)
    if ledger is not None and stream.mode is TransferMode.MIRROR and stream.targets:
        facts = replace(facts, delivered=ledger.mirrored(place.unit, stream.targets[0].name))
    if rules.zips:
        facts = beside_zips(facts, os.fsencode(stream.directory), rules, ledger)
    plain = _plain_decision(facts, stream, rules, found.now)
    decision = _held(plain, holds)
    return replace(
        found,
        kind=kind,
        decision=decision,
        otherwise=plain if decision is not plain else None,
        openers=openers_of(_files(candidate)) if kind in (Kind.FILE, Kind.TREE) else None,
        remarks=(*found.remarks, *remarks, *_of_the_part(place)),
    )


def _facts(
    candidate: Candidate, stream: StreamSettings, rules: Rules, now: float, status: os.stat_result
) -> tuple[Facts | None, list[str]]:
    """Look at the unit as the engine does; return the facts, and what an operator must know about them."""
    remarks: list[str] = []
    if ignored_by_name(candidate.name, candidate.kind, rules) is not None:
        return facts_of(candidate, None), remarks
    # Without this, a writer that comes in the instant of our lease would end us.
    leases.hear_breaks()
    try:
        facts = examine(os.fsencode(stream.directory), candidate, now)
    finally:
        candidate.release()
    if facts is not None and facts.writers is Writers.UNKNOWN:
        # Only the stream's process knows since when it has seen the file so; we come too late to know.
        facts = replace(facts, unchanged_since=min(now, status.st_ctime))
        remarks.append(
            "the kernel does not tell us who writes to it (filesystem, or not our file): the time since its last "
            "change counts; the stream's process counts from its own first look, which may be later"
        )
    return facts, remarks


def _plain_decision(facts: Facts, stream: StreamSettings, rules: Rules, now: float) -> Decision:
    """What `decide` says when nothing holds the stream; a directory that is no unit has its own answer."""
    if (
        facts.kind is Kind.DIRECTORY
        and stream.mode is TransferMode.MOVE
        and ignored_by_name(facts.name, facts.kind, rules) is None
    ):
        try:
            number = len(os.listdir(os.fsencode(stream.directory) + b"/" + facts.name))
        except OSError as error:
            text = f"a directory that cannot be read: {error.strerror or error}"
            return Decision(action=Action.WAIT, reasons=(Reason(code="directory", words=text),))
        if number:
            text = f"a directory that holds {number} names: they leave one by one, it goes when it is empty and quiet"
            return Decision(action=Action.WAIT, reasons=(Reason(code="directory", words=text),))
    return decide(facts, rules, now)


def _held(plain: Decision, holds: tuple[Reason, ...]) -> Decision:
    """Given the decision on the unit alone and what holds the whole stream, return the decision in force."""
    if not holds or plain.action not in (Action.SEND, Action.WAIT):
        return plain
    return Decision(action=Action.WAIT, reasons=(*holds, *plain.reasons))


def holds_of(stream: StreamSettings, last: Snapshot | None, *, served: bool) -> tuple[Reason, ...]:
    """Given a stream, what its process last said and whether it lives, return why the whole stream sends nothing."""
    holds: list[Reason] = []
    if not served:
        holds.append(Reason(code="down", words=f"no process serves this stream: {_why_down(stream, last)}"))
    paused = pause.reason(stream.state_dir, stream.name)
    if paused is not None:
        holds.append(paused)
    here = f"{stream.stop_file} is in the stream's directory"
    if stopfile.pauses(stopfile.of(stream.directory, stream.stop_file)):
        holds.append(Reason(code="stop-here", words=here))
    state = state_now(stream, last, served=served)
    if served and last is not None and last.hold and last.hold != here:
        # A mirror that refuses to remove says so in the same place, but it goes on sending.
        if state is StreamState.UNREACHABLE:
            holds.append(Reason(code="circuit", words=last.hold))
        elif state is StreamState.SUSPENDED:
            holds.append(Reason(code="stop-there", words=last.hold))
    return tuple(holds)


def _why_down(stream: StreamSettings, last: Snapshot | None) -> str:
    if stream.status is not StreamStatus.RUNNING:
        return f"status = {stream.status.value} in {printable(stream.file)}"
    if not should_run(stream):
        return f"transfer_protocol = none in {printable(stream.file)}"
    if last is not None and last.state is StreamState.COMPLETE:
        return "its completion file was delivered, and it ended"
    return "the service does not run, or the stream's process is down; see `mistamover status`"


def _kind(place: Place, status: os.stat_result) -> Kind:
    kind = kind_of(status)
    whole = place.stream.unit is TransferUnit.DIRECTORY and b"/" not in place.unit
    return Kind.TREE if kind is Kind.DIRECTORY and whole else kind


def _files(candidate: Candidate) -> list[OpenFile]:
    if candidate.kind is Kind.FILE:
        dev, ino = candidate.identity[:2]
        return [OpenFile(dev=dev, ino=ino, last_name=base(candidate.name), links=candidate.links)]
    return [
        OpenFile(dev=entry.identity.dev, ino=entry.identity.ino, last_name=base(entry.name))
        for entry in candidate.manifest
        if entry.kind is Kind.FILE
    ]


def _of_the_part(place: Place) -> list[str]:
    if place.name == place.unit or os.path.lexists(place.path):
        return []
    return [f"{display(place.name)} itself does not exist; what is said here is about {display(place.unit)}"]


def _unit_path(place: Place) -> bytes:
    return os.fsencode(place.stream.directory) + b"/" + place.unit


# -- what is remembered -----------------------------------------------------------------------


def _deliveries(ledger: Ledger | None, place: Place) -> tuple[Delivery, ...]:
    if ledger is None:
        return ()
    # Below a directory unit each part has a record of its own, with its hash.
    return tuple(ledger.deliveries_of(place.name) or ledger.deliveries_of(place.unit))


def _trouble(ledger: Ledger | None, wanted: Callable[[Trouble], bool]) -> Trouble | None:
    if ledger is None:
        return None
    found = sorted(filter(wanted, ledger.troubles()), key=lambda note: (note.moved_to is None, note.since))
    # What has the name now goes before what had it and was moved away, of that the latest.
    return found[-1] if found else None


def _in_quarantine(place: Place, now: float, served: bool, last: Snapshot | None) -> Answer:
    """What is noted about a path in the quarantine directory: in the ledger, and in the text beside it."""
    unit = os.fsencode(place.stream.quarantine_dir) + b"/" + place.unit
    with reading(place.stream.state_dir) as ledger:
        trouble = _trouble(ledger, lambda note: note.moved_to is not None and _is_or_holds(note.moved_to, place.path))
        releases = tuple(ledger.releases(place=unit)) if ledger is not None else ()
        name = trouble.name if trouble is not None else releases[0].name if releases else place.unit
        deliveries = tuple(ledger.deliveries_of(name)) if ledger is not None else ()
    try:
        kind = kind_of(os.lstat(place.path))
    except OSError:
        kind = None
    return Answer(
        place=place,
        now=now,
        served=served,
        snapshot=last,
        kind=kind,
        trouble=trouble,
        releases=releases,
        deliveries=deliveries,
        quarantine_note=_note_beside(trouble.moved_to if trouble is not None and trouble.moved_to else unit),
    )


def _is_or_holds(unit: bytes, path: bytes) -> bool:
    return path == unit or path.startswith(unit + b"/")


def _note_beside(unit: bytes) -> str:
    note = unit if unit.endswith(SUFFIX) else unit + SUFFIX
    try:
        return Path(os.fsdecode(note)).read_bytes().decode("utf-8", "backslashreplace")
    except OSError:
        return ""

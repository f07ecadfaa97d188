"""What an rsync that has ended means for each unit: confirmed, or failed with somebody to blame.

rsync's exit status alone decides nothing; see `rsync_ssh`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace

from mistamover.files.identity import identity_of
from mistamover.files.names import base
from mistamover.model import Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport.rsync_output import Complaints, Line, parse_errors
from mistamover.transport.rsync_run import Ended

#: errno values with which a target says that the fault is not the file's: full, quota, read-only, I/O, stale.
_TARGET_ERRNOS = frozenset({28, 122, 30, 5, 116})

#: rsync statuses after which single files may have failed while others arrived: partial, vanished, file I/O.
PARTIAL = frozenset({23, 24, 11, 3})


def judge(
    source: bytes,
    units: Sequence[Unit],
    run: Ended,
    *,
    lost: bool,
    second_look: Callable[[Sequence[Unit]], dict[bytes, Line] | None],
    algorithm: str = "",
) -> list[Verdict]:
    """Given the source directory, the units of a run that has ended, whether the connection was lost with it, and how
    to compare units at both ends (lines of those that match, None if that is impossible), return one verdict for each.

    `algorithm` is the hash of the lines, where it is not the one that the target's settings name.
    """
    complaints = parse_errors(run.stderr)

    def verdicts(lines: dict[bytes, Line], *, proven: bool, lost: bool = False) -> list[Verdict]:
        return verdicts_of(source, units, lines, complaints, run, proven=proven, lost=lost, algorithm=algorithm)

    if run.status != 0 and lost:
        # Whatever it complained of, and what had arrived: that is nobody's fault but the connection's.
        return verdicts({}, proven=False, lost=True)
    if run.status == 0 or (run.abandoned and not run.lines):
        return verdicts(run.lines, proven=run.status == 0)
    if run.status in PARTIAL or run.abandoned:
        seen = [unit for unit in units if unit.name in run.lines]
        matching = second_look(seen) if seen else {}
        if matching is None:
            return verdicts({}, proven=False, lost=True)
        return verdicts(matching, proven=True)
    return verdicts({}, proven=False)


def verdicts_of(
    source: bytes,
    units: Sequence[Unit],
    lines: dict[bytes, Line],
    complaints: Complaints,
    run: Ended,
    *,
    proven: bool,
    lost: bool = False,
    algorithm: str = "",
) -> list[Verdict]:
    """Given the source directory, the units of a run, the lines and complaints about them, the run itself, whether the
    lines prove anything, and whether the connection was lost after it, return one verdict for every unit.  `algorithm`
    is the hash of the lines, where it is not the one that the target's settings name.
    """
    by_inode = {
        unit.identity[:2]: lines[unit.name].digest for unit in units if unit.name in lines and lines[unit.name].digest
    }
    result: list[Verdict] = []
    for unit in units:
        line = lines.get(unit.name) if proven else None
        digest = line.digest if line is not None else ""
        if line is not None and line.kind == "f" and not digest:
            digest = by_inode.get(unit.identity[:2], "")
        if line is not None and _proves(unit, line, digest):
            result.append(Confirmed(unit=unit, digest=digest, algorithm=algorithm if digest else ""))
        else:
            result.append(_blame(source, unit, complaints, run, lost=lost))
    return result


def worst(failures: Sequence[Failed]) -> Failed | None:
    """Given what failed of a directory unit, itself among it, return what says most of the whole; None for nothing.

    Where a part has gone or changed, all else that is said follows from that, and the unit has changed.
    """
    for failure in failures:
        if failure.fault in (FaultClass.VANISHED, FaultClass.CHANGED):
            return replace(failure, fault=FaultClass.CHANGED)
    return next(iter(failures), None)


def _blame(source: bytes, unit: Unit, complaints: Complaints, run: Ended, *, lost: bool) -> Failed:
    def failed(fault: FaultClass, reason: str) -> Failed:
        return Failed(unit=unit, fault=fault, reason=reason)

    try:
        now = os.lstat(source + b"/" + unit.name)
    except (FileNotFoundError, NotADirectoryError):
        return failed(FaultClass.VANISHED, "removed at the source before it was sent")
    except OSError as error:
        return failed(FaultClass.SOURCE, f"cannot be looked at: {error.strerror}")
    if unit.kind is not Kind.DIRECTORY and identity_of(now) != unit.identity:
        return failed(FaultClass.CHANGED, "changed while it was being sent")
    complaint = complaints.about(base(unit.name))
    if complaint is not None and complaint.role == "sender":
        return failed(FaultClass.SOURCE, complaint.text)
    if lost:
        return failed(FaultClass.LINK, "the connection was lost before it was known what had arrived")
    if complaints.errnos() & _TARGET_ERRNOS:
        return failed(FaultClass.TARGET, complaints.summary())
    if complaint is not None:
        return failed(FaultClass.REFUSED, complaint.text)
    if run.abandoned:
        return failed(FaultClass.ABANDONED, "the attempt was ended because something else came first")
    if run.status in PARTIAL:
        return failed(FaultClass.REFUSED, complaints.summary() or "rsync did not confirm it and gave no reason")
    if run.status == 0:
        return failed(FaultClass.BUG, "rsync said that all went well, but did not confirm it")
    words = complaints.summary() or f"rsync ended with status {run.status}"
    if "not found" in words or run.status == 127:
        return failed(FaultClass.TARGET, f"{words}: is rsync installed at the target?")
    return failed(FaultClass.LINK, words)


def _proves(unit: Unit, line: Line, digest: str) -> bool:
    if unit.kind is Kind.FILE:
        return line.kind == "f" and bool(digest) and line.size == unit.identity.size
    return line.kind == ("L" if unit.kind is Kind.LINK else "d")

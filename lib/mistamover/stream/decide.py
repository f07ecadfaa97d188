"""The one place that decides what happens to a unit.

`decide` is pure: facts, rules and the time in, a decision out.  The engine and
`mistamover why` call the same function, so what is explained is what is done.
No I/O here, and nothing is imported that does any.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

from mistamover.config.settings import DotFiles, LinkPolicy, StreamSettings, TransferMode, TransferUnit
from mistamover.files.names import LONGEST_NAME, ZIP, base, display, is_ours, looks_like_rsync_temporary, zip_names
from mistamover.model import Action, Decision, FaultClass, Identity, Kind, Reason, Writers

#: Seconds between two looks at a file that a process holds open.  Its close is an event, but the kernel sends that a
#: moment before it lets go of the file (__fput in fs/file_table.c): the first looks follow at once, later ones rarely.
_OPEN_RECHECK_FIRST = 0.002
_OPEN_RECHECK_LAST = 5.0

#: Seconds that an empty file must have been as it is.  A new file has a name a moment before the kernel counts its
#: creator as a writer (do_dentry_open in fs/open.c): in that moment it looks like an empty file that nobody writes.
_EMPTY_QUIET = 0.5

#: Seconds that a file with several names must have had them: names that are made one after the other travel together,
#: and are names of one file at the target as well.
_LINKED_QUIET = 0.5

#: Seconds between two looks at a unit that waits for another one, which would have its name at the target.
_BESIDE_RECHECK = 5.0

_NOUNS = {Kind.LINK: "a symbolic link", Kind.DIRECTORY: "a directory", Kind.TREE: "a directory unit"}

_STOP_FILE = Reason(code="stop-file", words="the stop file of this stream")
_CLOSED = Reason(code="closed", words="no process has it open for writing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What of a stream's settings bears on the decision, in the form that is quickest to apply."""

    mode: TransferMode
    unit: TransferUnit
    send_dot_files: bool
    symlinks: LinkPolicy
    stop_file: bytes
    ignore: re.Pattern[bytes] | None
    ignore_paths: re.Pattern[bytes] | None
    """Patterns with a slash: matched against the whole relative name."""
    temporary_suffixes: tuple[bytes, ...]
    reserved: re.Pattern[bytes] | None
    settle_time: float
    minimum_age: float
    empty_directory_age: float
    retry_count: int
    zips: bool = False
    """Directory units travel as zips."""
    dir_size_limit: int = 0
    """Bytes that a directory unit may hold to be zipped; 0 is no limit."""

    @classmethod
    def of(cls, settings: StreamSettings) -> Rules:
        """Given a stream's settings, return its rules."""
        paths = [pattern for pattern in settings.ignore if "/" in pattern]
        names = [pattern for pattern in settings.ignore if "/" not in pattern]
        endings = "|".join(re.escape(suffix) for suffix in settings.reserved_suffixes)
        dots = settings.dot_files
        return cls(
            mode=settings.mode,
            unit=settings.unit,
            send_dot_files=dots is DotFiles.SEND or (dots is DotFiles.AUTO and settings.mode is TransferMode.MIRROR),
            symlinks=settings.symlinks,
            stop_file=settings.stop_file.encode(),
            ignore=_any_of(names),
            ignore_paths=_any_of(paths),
            temporary_suffixes=tuple(suffix.encode() for suffix in settings.temporary_suffixes),
            reserved=re.compile(rb"\..*(%s)(_tmp)?" % endings.encode(), re.DOTALL) if endings else None,
            settle_time=settings.settle_time,
            minimum_age=settings.minimum_age,
            empty_directory_age=settings.empty_directory_age,
            retry_count=settings.retry_count,
            zips=settings.zips,
            dir_size_limit=settings.dir_size_limit,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known about one unit at one moment; times in seconds since the epoch."""

    name: bytes
    kind: Kind
    identity: Identity
    writers: Writers
    unchanged_since: float
    """Since when it is known to be as it is: first seen so, or its own last change, whichever is later."""
    links: int = 1
    """How many names the file has."""
    heard_at: float = 0.0
    """When an event or a scan last told of it."""
    attempts: int = 0
    retry_at: float = 0.0
    last_failure: str = ""
    quarantined: str = ""
    """Why it was quarantined as it is now; empty if it was not."""
    released: str = ""
    """Who released it from quarantine as it is now; empty if nobody did."""
    delivered: Identity | None = None
    """Mirror: what it was when it was last delivered."""
    hold: Reason | None = None
    """Why the whole stream sends nothing at the moment."""
    unreadable: str = ""
    """Why it cannot be opened; empty if it can."""
    beside: str = ""
    """What it must not travel beside, because both would have one name at the target; empty if nothing is."""
    taken: str = ""
    """What has its name at the target for good; empty if nothing has."""


def decide(facts: Facts, rules: Rules, now: float) -> Decision:
    """Given what is known about a unit, the stream's rules and the time, return what to do, why, and when to look."""
    ignored = ignored_by_name(facts.name, facts.kind, rules)
    if ignored is not None:
        return _decision(Action.IGNORE, ignored)
    if facts.kind is Kind.LINK and rules.symlinks is not LinkPolicy.KEEP:
        if rules.symlinks is LinkPolicy.IGNORE:
            return _decision(Action.IGNORE, Reason(code="link", words="a symbolic link, and symlinks = ignore"))
        return _decision(Action.QUARANTINE, Reason(code="link", words="a symbolic link, and symlinks = quarantine"))
    if facts.quarantined:
        return _decision(Action.QUARANTINE, Reason(code="quarantined", words=f"quarantined: {facts.quarantined}"))
    if facts.released:
        return _decision(Action.IGNORE, Reason(code="released", words=facts.released))
    if rules.mode is TransferMode.MIRROR and facts.delivered == facts.identity:
        return _decision(Action.DONE, Reason(code="delivered", words="delivered, and unchanged since"))
    reasons = [_wanted(facts)]
    if rules.zips and facts.kind is Kind.TREE:
        reasons.append(Reason(code="zip", words=f"it travels as one file, {display(facts.name + ZIP)}"))
    if facts.attempts:
        text = f"{facts.attempts} of {max(1, rules.retry_count)} attempts failed, the last one: {facts.last_failure}"
        reasons.append(Reason(code="attempts", words=text))
    if facts.attempts >= max(1, rules.retry_count):
        return _decision(Action.QUARANTINE, *reasons)
    return _when(facts, rules, now, reasons)


def ignored_by_name(name: bytes, kind: Kind, rules: Rules) -> Reason | None:
    """Given a name and what it is, return why it is never sent, or None."""
    if kind is Kind.SPECIAL:
        return Reason(code="special", words="a FIFO, socket or device: only files, links and directories are sent")
    last = base(name)
    if (name.startswith(b".") or b"/." in name) and (reason := _ignored_with_dot(name, last, kind, rules)) is not None:
        return reason
    if name == rules.stop_file:
        return _STOP_FILE
    if rules.ignore is not None and rules.ignore.match(last):
        return Reason(code="ignore", words="matches a pattern of the key ignore")
    if rules.ignore_paths is not None and rules.ignore_paths.match(name):
        return Reason(code="ignore", words="matches a pattern of the key ignore")
    if last.endswith(rules.temporary_suffixes):
        return Reason(code="suffix", words="its ending marks a file that is still being written (temporary_suffixes)")
    return None


def _ignored_with_dot(name: bytes, last: bytes, kind: Kind, rules: Rules) -> Reason | None:
    """Given a name of which some part begins with a dot, and its last part, return why it is never sent, or None."""
    if is_ours(name):
        return Reason(code="ours", words="made by MiStaMover itself")
    if name == rules.stop_file:
        return _STOP_FILE
    if rules.reserved is not None and rules.reserved.fullmatch(last):
        return Reason(code="handshake", words="a control, receipt or thank-you file")
    if kind is Kind.FILE and looks_like_rsync_temporary(last):
        return Reason(code="temporary", words="looks like the temporary file of an rsync that delivers here")
    if not rules.send_dot_files:
        return Reason(code="dot", words="its name, or that of a directory above it, begins with a dot")
    return None


def counts_as_attempt(fault: FaultClass) -> bool:
    """Given who is to blame for a failed delivery, tell whether it counts as one of the unit's attempts."""
    return fault in (FaultClass.SOURCE, FaultClass.REFUSED)


def _when(facts: Facts, rules: Rules, now: float, reasons: list[Reason]) -> Decision:
    if facts.hold is not None:
        return _wait([*reasons, facts.hold], None)
    if facts.retry_at > now:
        text = facts.last_failure or "it was given back for a while"
        return _wait([*reasons, Reason(code="retry", words=f"tried again later: {text}")], facts.retry_at)
    if facts.writers is Writers.SOME:
        reasons.append(Reason(code="open", words="a process has it open for writing"))
        pause = min(_OPEN_RECHECK_LAST, max(_OPEN_RECHECK_FIRST, now - facts.heard_at))
        return _wait(reasons, now + pause)
    quiet = max(rules.minimum_age, _needed_quiet(facts, rules))
    if now - facts.unchanged_since < quiet:
        text = f"changed {max(0.0, now - facts.unchanged_since):.1f} s ago; it must be unchanged for {quiet:g} s"
        return _wait([*reasons, Reason(code="settle", words=text)], facts.unchanged_since + quiet)
    if rules.zips and (other := _hindered(facts, rules, now, reasons)) is not None:
        return other
    if facts.unreadable:
        reasons.append(Reason(code="unreadable", words=facts.unreadable))
    elif facts.kind is Kind.FILE and facts.writers is Writers.NONE:
        reasons.append(_CLOSED)
    else:
        reasons.append(Reason("settled", "unchanged for {:.1f} s", (now - facts.unchanged_since,)))
    return Decision(action=Action.SEND, reasons=tuple(reasons))


def _hindered(facts: Facts, rules: Rules, now: float, reasons: list[Reason]) -> Decision | None:
    """Given a unit that might leave a stream that zips, return what hinders it, or None."""
    if facts.taken:
        return _decision(Action.QUARANTINE, *reasons, Reason(code="taken", words=facts.taken))
    if facts.beside:
        return _wait([*reasons, Reason(code="beside", words=facts.beside)], now + _BESIDE_RECHECK)
    if facts.kind is not Kind.TREE:
        return None
    if not any(zip_names(facts.name, numbered=False)):
        text = f"its zip would have a name of more than {LONGEST_NAME} bytes"
        return _decision(Action.QUARANTINE, *reasons, Reason(code="long", words=text))
    size, limit = facts.identity.size, rules.dir_size_limit
    if limit and size > limit:
        text = f"it holds {size} bytes, more than may be zipped: dir_size_limit = {limit / 2**20:g} MiB ({limit} bytes)"
        return _decision(Action.QUARANTINE, *reasons, Reason(code="size", words=text))
    return None


def _needed_quiet(facts: Facts, rules: Rules) -> float:
    """A lease proves that nobody writes to a file; nothing proves that nobody adds to a directory but time."""
    if facts.kind is Kind.TREE:
        return rules.settle_time
    if facts.kind is Kind.DIRECTORY:
        return rules.empty_directory_age if rules.mode is TransferMode.MOVE else 0.0
    if facts.kind is Kind.FILE and facts.writers is Writers.UNKNOWN:
        return rules.settle_time
    if facts.kind is Kind.FILE and not facts.identity.size:
        return _EMPTY_QUIET
    if facts.kind is Kind.FILE and facts.links > 1:
        return _LINKED_QUIET
    return 0.0


def _wanted(facts: Facts) -> Reason:
    noun = _NOUNS.get(facts.kind, "a file of {} byte" if facts.identity.size == 1 else "a file of {} bytes")
    state = "not yet delivered" if facts.delivered is None else "changed since it was delivered"
    return Reason("wanted", noun + ", " + state, (facts.identity.size,))


def _wait(reasons: Sequence[Reason], until: float | None) -> Decision:
    return Decision(action=Action.WAIT, reasons=tuple(reasons), look_again=until)


def _decision(action: Action, *reasons: Reason) -> Decision:
    return Decision(action=action, reasons=reasons)


def _any_of(patterns: Sequence[str]) -> re.Pattern[bytes] | None:
    if not patterns:
        return None
    return re.compile(b"|".join(fnmatch.translate(pattern).encode() for pattern in patterns))

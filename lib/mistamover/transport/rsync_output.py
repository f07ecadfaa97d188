r"""What rsync says, understood.  Pure: bytes in, values out.

Each delivered name is one line of `--out-format=%i|%C|%l|%n`: eleven or more characters
of itemised changes, the hash of the whole file (blank where there is none), the
length, the name with unprintable bytes as `\#ooo`.  See rsync(1), --itemize-changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mistamover.files.names import from_rsync

OUT_FORMAT = "--out-format=%i|%C|%l|%n"

_LINE = re.compile(rb"([<>ch.*])([fdLDS])([^|]*)\|([0-9a-f]*) *\|(\d+)\|(.+)", re.DOTALL)
_COMPLAINT = re.compile(
    rb"(?:rsync: )?(?:\[(?P<role>\w+)(?:=[^]]*)?\] )?"
    rb'(?P<text>.*?"(?P<path>.+)".*?\((?P<errno>\d+)\)|file has vanished: "(?P<gone>.+)")'
)
_CLOSING = (b"rsync error: some files", b"rsync warning: some files")
_PROGRESS = re.compile(rb"\r +([0-9,]+) +[0-9]+%")
_ERRNO = re.compile(rb"\((\d+)\)\s*$")


class Line(NamedTuple):
    """One itemised name."""

    update: str
    """`<` sent, `c` created or changed, `h` hard link, `.` content unchanged."""
    kind: str
    """`f` file, `d` directory, `L` link."""
    flags: str
    digest: str
    size: int
    name: bytes
    """Without the slash that rsync puts behind a directory."""


def parse_line(raw: bytes) -> Line | None:
    """Given one line of output without its end, return it understood, or None if it is something else."""
    match = _LINE.fullmatch(raw)
    if match is None:
        return None
    update, kind, flags, digest, size, name = match.groups()
    if kind == b"d":
        name = name.rstrip(b"/")
    return Line(update.decode(), kind.decode(), flags.decode(), digest.decode(), int(size), from_rsync(name))


def parse_progress(chunk: bytes) -> int | None:
    """Given output of a run with --info=progress2, return the bytes that the last progress in it tells, or None."""
    told = _PROGRESS.findall(chunk)
    return int(told[-1].replace(b",", b"")) if told else None


def content_matches(line: Line) -> bool:
    """Given a line of a dry run with --checksum, tell whether source and target hold the same content."""
    if line.kind == "f":
        return bool(line.digest) and line.flags[:1] not in ("c", "+") and line.flags[1:2] != "s"
    return line.update == "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """One error that rsync reported."""

    role: str
    """`sender`, `receiver` or `generator`; empty when rsync does not say (before 3.2)."""
    errno: int | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaints:
    """Everything on rsync's stderr."""

    by_name: dict[bytes, Complaint] = field(default_factory=dict)
    """Keyed by the last part of the path that was complained about, temporary decorations taken off."""
    general: tuple[Complaint, ...] = ()

    def about(self, last: bytes) -> Complaint | None:
        """Given the last part of a name, return what was said about it."""
        return self.by_name.get(last)

    def errnos(self) -> set[int]:
        """Return every error number that was reported by the target's side."""
        every = [*self.by_name.values(), *self.general]
        return {c.errno for c in every if c.errno is not None and c.role != "sender"}

    def summary(self) -> str:
        """Return the most telling words, for an operator."""
        every = [*self.by_name.values(), *self.general]
        telling = [c for c in every if c.errno is not None] or every
        return "; ".join(dict.fromkeys(c.text for c in telling[:3]))


def parse_errors(stderr: bytes) -> Complaints:
    """Given all of rsync's stderr, return it sorted by what it is about."""
    by_name: dict[bytes, Complaint] = {}
    general: list[Complaint] = []
    for raw in _relevant(stderr.splitlines()):
        match = _COMPLAINT.match(raw)
        role = (match["role"] or b"").decode() if match else ""
        number = match["errno"] if match and match["errno"] else None
        if number is None and (tail := _ERRNO.search(raw)):
            number = tail[1]
        complaint = Complaint(
            role="sender" if match and match["gone"] else role,
            errno=int(number) if number else None,
            text=raw.removeprefix(b"rsync: ").decode("utf-8", "backslashreplace"),
        )
        path = (match["gone"] or match["path"]) if match else None
        if path is None:
            general.append(complaint)
        else:
            last = from_rsync(path).rstrip(b"/").rpartition(b"/")[2]
            by_name.setdefault(_undecorated(last), complaint)
    return Complaints(by_name=by_name, general=tuple(general))


def _relevant(lines: Iterable[bytes]) -> list[bytes]:
    """Leave out the closing line, which only repeats that there were errors, unless it is all there is."""
    every = [line.strip() for line in lines if line.strip()]
    telling = [line for line in every if not line.startswith(_CLOSING)]
    return telling or every


def _undecorated(last: bytes) -> bytes:
    """Turn the name of a receiver's temporary file (`.NAME.XXXXXX`) back into NAME."""
    if last.startswith(b".") and len(last) > 8 and last[-7:-6] == b".":
        return last[1:-7]
    return last

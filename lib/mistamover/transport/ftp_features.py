"""What an FTP server says that it can do, and how it tells of files: texts to values, no I/O."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from mistamover.model import Kind
from mistamover.transport.far import There

#: Commands that hash a file, older than HASH; in the order of trust.
_COMMANDS = {"sha256": "XSHA256", "sha512": "XSHA512", "sha1": "XSHA1", "md5": "XMD5"}

_TIME = re.compile(rb"(\d{14})(\.\d+)?")
_LENGTHS = {"sha256": 64, "sha512": 128, "sha1": 40, "md5": 32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What a server answers to FEAT, as far as it is used."""

    listings: bool
    """It has MLST and MLSD."""
    times: bool
    """It sets times, by MFMT."""
    resume: bool
    utf8: bool
    """Names are UTF-8; a server that says so may alter those that are not."""
    free: bool
    hashes: Mapping[str, str]
    """The command for each algorithm, named as by hashlib; for HASH it is the algorithm's own name, behind a blank."""

    @classmethod
    def of(cls, answer: str) -> Features:
        """Given the answer to FEAT ("" where there is none), return what it says."""
        lines = [line.strip() for line in answer.splitlines()[1:-1]]
        features = {
            words[0].upper(): words[1] if len(words) > 1 else "" for line in lines if (words := line.split(" ", 1))
        }
        hashes = {name: command for name, command in _COMMANDS.items() if command in features}
        for offered in features.get("HASH", "").split(";"):
            name = offered.strip().rstrip("*")
            if (plain := name.lower().replace("-", "")) in _LENGTHS:
                hashes[plain] = f" {name}"
        return cls(
            listings="MLST" in features,
            times="MFMT" in features,
            resume="STREAM" in features.get("REST", "").upper(),
            utf8="UTF8" in features,
            free="AVBL" in features,
            hashes=hashes,
        )


def find_hash(answer: str, algorithm: str) -> str | None:
    """Given the answer to a command that hashes and the algorithm, return the hash; None if there is none."""
    found = re.search(rf"(?<![0-9A-Za-z])[0-9A-Fa-f]{{{_LENGTHS[algorithm]}}}(?![0-9A-Za-z])", answer)
    return found[0].lower() if found else None


def entry(line: bytes) -> tuple[There, bytes, str] | None:
    """Given a line of MLST or MLSD, return what it tells of, the name, and the type in the server's word; None if it
    is no such line.
    """
    facts, blank, name = line.lstrip(b" ").partition(b" ")
    if not blank:
        return None
    values = {key.lower(): value for key, _, value in (fact.partition(b"=") for fact in facts.split(b";"))}
    word = values.get(b"type", b"").decode("ascii", "replace").lower()
    kinds = {"file": Kind.FILE, "dir": Kind.DIRECTORY, "cdir": Kind.DIRECTORY, "pdir": Kind.DIRECTORY}
    kind = kinds.get(word, Kind.LINK if "link" in word else Kind.SPECIAL)
    size = values.get(b"size", b"")
    return (
        There(kind=kind, size=int(size) if size.isdigit() else 0, mtime=moment(values.get(b"modify", b""))),
        name,
        word,
    )


def moment(stamp: bytes) -> float:
    """Given a time as FTP writes it, in UTC, return seconds since the epoch; 0.0 if it is none."""
    found = _TIME.search(stamp)
    if found is None:
        return 0.0
    try:
        return float(calendar.timegm(time.strptime(found[1].decode(), "%Y%m%d%H%M%S")))
    except ValueError:
        return 0.0


def stamp(mtime_ns: int) -> str:
    """Given a time, return it as FTP writes it, in UTC, or the nearest one that can be written."""
    seconds = min(max(mtime_ns // 1_000_000_000, 0), 253_402_300_799)
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(seconds))

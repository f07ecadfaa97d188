"""What the quickstart drops into a watched directory, and how it is compared with what arrived.

Names are bytes.  Contents are random, made here, and hashed while they are written: the comparison at the
end does not rest on anything that the agent says.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

SMALL_FILES = 300
BIG_FILE_BYTES = 50 * 1000 * 1000
BLOCK = 1 << 20
#: Seconds between two small files: about the pace of a busy instrument.
PACE = 0.01
AWKWARD_NAMES = (
    b"with blanks  and a trailing one ",
    b"-rf",
    b"--delete",
    b"two\nlines",
    "Ärger mit Übergrößen – 数据.nc".encode(),
    b"not utf-8 \xff\xfe",
    b"quotes ' and \" and `backticks`",
    b"$(touch PWNED);&|*?[x]",
    b"back\\slash\\#012",
    b"n" * 255,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """One file as it was written: size and SHA-256 of its content."""

    name: bytes
    size: int
    digest: str


@dataclass(slots=True, kw_only=True)
class Drop:
    """All that was dropped so far; grows in one thread, read by another."""

    files: list[Dropped] = field(default_factory=list)
    started: float = 0.0
    finished: float | None = None
    error: Exception | None = None

    @property
    def size(self) -> int:
        """Bytes of all files dropped so far."""
        return sum(file.size for file in tuple(self.files))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What became of the files dropped: each list holds those for which it holds."""

    delivered: list[Dropped]
    verified: list[Dropped]
    removed: list[Dropped]


def drop(directory: Path, record: Drop, stop: Event) -> None:
    """Given the watched directory, write the files one after the other, until done or told to stop."""
    record.started = time.monotonic()
    chance = random.Random(20260401)  # noqa: S311 - test data, the same every time
    try:
        for name, size in _plan(chance):
            if stop.is_set():
                return
            record.files.append(_write(directory, name, size, chance))
            stop.wait(PACE)
    except OSError as error:
        record.error = error
    finally:
        record.finished = time.monotonic()


def compare(files: list[Dropped], source: Path, target: Path) -> Comparison:
    """Given what was dropped, look at the target and at the source, and hash what is at the target."""
    delivered = [file for file in files if os.path.lexists(_path(target, file.name))]
    return Comparison(
        delivered=delivered,
        verified=[file for file in delivered if _digest(_path(target, file.name)) == file.digest],
        removed=[file for file in files if not os.path.lexists(_path(source, file.name))],
    )


def left(files: list[Dropped], source: Path) -> int:
    """Given what was dropped, return how many are still at the source."""
    return sum(os.path.lexists(_path(source, file.name)) for file in files)


def _plan(chance: random.Random) -> Iterator[tuple[bytes, int]]:
    """Return names and sizes in the order of writing: the big file in the middle of the small ones."""
    for number in range(SMALL_FILES):
        if number == SMALL_FILES // 3:
            yield b"big-image.raw", BIG_FILE_BYTES
        yield b"run-%04d.dat" % number, chance.randrange(0, 8192)
    for name in AWKWARD_NAMES:
        yield name, chance.randrange(1, 4096)
    for station in (b"alpha", b"beta"):
        for day in range(1, 6):
            yield b"campaign/%s/2026-04-%02d/profile.csv" % (station, day), chance.randrange(1, 65536)


def _write(directory: Path, name: bytes, size: int, chance: random.Random) -> Dropped:
    """Given a name and a size, write such a file of random bytes, in blocks, straight under its final name."""
    path = _path(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for start in range(0, size, BLOCK):
            block = chance.randbytes(min(BLOCK, size - start))
            digest.update(block)
            file.write(block)
    return Dropped(name=name, size=size, digest=digest.hexdigest())


def _path(directory: Path, name: bytes) -> bytes:
    return os.path.join(os.fsencode(directory), name)


def _digest(path: bytes) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

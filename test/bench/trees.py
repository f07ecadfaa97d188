"""Trees of files whose content is known: made quickly, and checked at the target."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.results import NotDelivered

_PIECE = 2**20
#: Files whose content is compared after a measurement, and pieces of each of them.
_SAMPLE, _PIECES = 40, 16
#: Files from which on a tree is made by several processes.
_MANY = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Directories with the same number of files of the same size in each."""

    directories: int
    per_directory: int
    size: int

    @property
    def files(self) -> int:
        """How many files there are."""
        return self.directories * self.per_directory

    @property
    def bytes(self) -> int:
        """How many bytes of content there are."""
        return self.files * self.size

    def __str__(self) -> str:
        """Describe it in words."""
        amount, unit = next(
            (self.size // step, unit)
            for step, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes"))
            if self.size >= step
        )
        where = "1 directory" if self.directories == 1 else f"{self.directories:,} directories"
        return f"{self.files:,} x {amount} {unit} in {where}"

    def make(self, top: Path) -> None:
        """Given a directory that may be missing, fill it, and wait until all is on disk."""
        top.mkdir(parents=True, exist_ok=True)
        if self.files < _MANY:
            _fill(self, top, range(self.directories))
        else:
            workers = os.cpu_count() or 1
            parts = [range(first, self.directories, workers) for first in range(workers)]
            with concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
                list(pool.map(functools.partial(_fill, self, top), parts))
        os.sync()

    def check(self, top: Path) -> None:
        """Given where it should be, raise NotDelivered unless all files are there and a sample is right."""
        found = 0
        for path in files_below(top):
            found += 1
            if os.path.basename(path).startswith("."):
                raise NotDelivered(f"left behind at the target: {path}")
        if found != self.files:
            raise NotDelivered(f"{found:,} of {self.files:,} files are in {top}")
        chosen = range(self.files) if self.files <= _SAMPLE else random.sample(range(self.files), _SAMPLE)
        for number in chosen:
            self.check_file(top / self.name(number), number)

    def name(self, number: int) -> str:
        """Given a file's number, return its name relative to the top."""
        return f"{_directory(number // self.per_directory)}/{_file(number % self.per_directory)}"

    def check_file(self, path: Path, number: int) -> None:
        """Given a path and the number of the file that should be there, raise NotDelivered unless it is."""
        if path.stat().st_size != self.size:
            raise NotDelivered(f"{path} has {path.stat().st_size} of {self.size} bytes")
        pieces = range(-(-self.size // _PIECE))
        with path.open("rb") as file:
            for piece in pieces if len(pieces) <= _PIECES else random.sample(pieces, _PIECES):
                file.seek(piece * _PIECE)
                if file.read(_PIECE) != content(number, piece, self.size):
                    raise NotDelivered(f"{path} has another content than its source")


def content(number: int, piece: int, size: int) -> bytes:
    """Given a file's number and size, return one MiB of its content, or less at its end: no two are the same."""
    length = min(_PIECE, size - piece * _PIECE)
    return (number.to_bytes(8, "big") + piece.to_bytes(8, "big") + _noise())[:length]


def files_below(top: Path) -> Iterator[str]:
    """Given a directory, which may be missing, yield the path of every file below it."""
    for directory, _, names in os.walk(top):
        yield from (os.path.join(directory, name) for name in names)


def none_left(top: Path) -> None:
    """Given a source that should be empty, raise NotDelivered if a file is left there."""
    left = next(files_below(top), None)
    if left is not None:
        raise NotDelivered(f"still at the source: {left}")


@functools.cache
def _noise() -> bytes:
    return random.Random(0).randbytes(_PIECE)


def _directory(number: int) -> str:
    return f"d{number:05d}"


def _file(number: int) -> str:
    return f"f{number:05d}"


def _fill(tree: Tree, top: Path, directories: Sequence[int]) -> None:
    for directory in directories:
        path = top / _directory(directory)
        path.mkdir()
        handle = os.open(path, os.O_DIRECTORY)
        try:
            for index in range(tree.per_directory):
                _write(tree, directory * tree.per_directory + index, _file(index), handle)
        finally:
            os.close(handle)


def _write(tree: Tree, number: int, name: str, directory: int) -> None:
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory)
    try:
        for piece in range(-(-tree.size // _PIECE)):
            os.write(handle, content(number, piece, tree.size))
    finally:
        os.close(handle)

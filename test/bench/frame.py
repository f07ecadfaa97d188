"""What every workload needs: how much to do, where, and the rounds in which the ways take turns."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from bench.place import Place, flush_times, prepared
from bench.results import NotDelivered, Results, Row, Setting
from mistamover.testing.sshd import PrivateSshd

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What the user asked for."""

    quick: bool = False
    rounds: int | None = None
    """None: as many as fit the workload."""
    peers: bool = True
    """Whether programs other than the baselines are measured too."""
    place: Path | None = None

    def size(self, full: int, quick: int) -> int:
        """Return the first, or the second in a quick run."""
        return quick if self.quick else full

    def times(self, usual: int = 5) -> int:
        """Given how many rounds are usual for a workload, return how many to run."""
        return self.rounds or (min(usual, 2) if self.quick else usual)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Where one measurement takes place: a directory that is empty, and the server."""

    directory: Path
    sshd: PrivateSshd

    @property
    def source(self) -> Path:
        """The source of whoever has no opinion."""
        return self.directory / "source"

    @property
    def target(self) -> Path:
        """The target of whoever has no opinion."""
        return self.directory / "target"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way(Generic[T]):
    """One way to do a workload."""

    name: str
    settings: str
    """The command and its options, in words."""
    run: Callable[[Arena], T]
    """Prepare, measure, verify; raise NotDelivered."""
    most: int | None = None
    """Rounds after which it is left out, because it takes long."""
    peer: bool = False
    """Whether it can be left out (--no-peers)."""


@dataclass(slots=True)
class Taken(Generic[T]):
    """What one way gave in its rounds."""

    name: str
    values: list[T] = field(default_factory=list)


class Stage:
    """One workload: its place and server, its rounds, and what went wrong in them."""

    def __init__(self, bench: Bench, name: str, place: Place, server: PrivateSshd) -> None:
        """Given where and what, begin; see `open_stage`."""
        self.name = name
        self._bench, self._place, self._server = bench, place, server
        with place.fresh() as directory:
            flush = statistics.median(flush_times(directory))
        words = f"{place.words}; a flush of 4 KiB takes {1000 * flush:.1f} ms there; load {os.getloadavg()[0]:.2f}"
        self._settings = [Setting(workload=name, way="place", words=words)]
        print(f"\n{name}\n  on {words}", flush=True)
        self._failures: list[str] = []

    def take_turns(self, ways: Sequence[Way[T]], rounds: int) -> list[Taken[T]]:
        """Given ways, let them take turns (A B A B) on fresh filesystems; a way that fails is out, and noted."""
        playing = [(way, Taken[T](way.name)) for way in ways if self._bench.peers or not way.peer]
        taken = [each for _, each in playing]
        self._settings += [Setting(workload=self.name, way=way.name, words=way.settings) for way, _ in playing]
        for number in range(rounds):
            for way, each in list(playing):
                if way.most is not None and number >= way.most:
                    continue
                self._say(f"round {number + 1} of {rounds}: {way.name}")
                begin = time.monotonic()
                try:
                    with self._place.fresh() as directory:
                        each.values.append(way.run(Arena(directory=directory, sshd=self._server)))
                except (NotDelivered, AssertionError, OSError) as error:
                    self._failures.append(f"{self.name}, {way.name}: {error}")
                    self._say(f"  FAILED: {error}")
                    playing.remove((way, each))
                else:
                    self._say(f"  done in {time.monotonic() - begin:.1f} s, preparation and checks included")
        return [each for each in taken if each.values]

    def results(self, rows: Sequence[Row]) -> Results:
        """Given the rows of the workload, return all that is to be kept of it."""
        return Results(rows=tuple(rows), settings=tuple(self._settings), failures=tuple(self._failures))

    def _say(self, words: str) -> None:
        print(f"  {words}", flush=True)


@contextmanager
def open_stage(bench: Bench, name: str, *, size: int, files: int, sshd: Sequence[str] = ()) -> Iterator[Stage]:
    """Given a workload's name, the bytes and files of its source and options for sshd, yield its stage."""
    with prepared(bench.place, size=size, files=files) as place, PrivateSshd(options=sshd) as server:
        yield Stage(bench, name, place, server)

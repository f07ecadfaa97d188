"""W6: a million small files wait when the agent starts."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

import agents
from bench import ours
from bench.command import finish, started
from bench.frame import Arena, Bench, Taken, Way, open_stage
from bench.inotify import IN_CREATE, IN_ISDIR, IN_MOVED_TO, Inotify
from bench.peers import rsync_argv
from bench.results import Results, Row
from bench.trees import Tree, none_left
from bench.usage import Peak
from support import Site

_OURS = "ours, one-off"
_BASELINE = "rsync --remove-source-files"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One way through the backlog."""

    seconds: float
    first: float
    """Seconds from the start of the command to the first final name at the target."""
    rss: int = 0
    pss: int = 0


def w6(bench: Bench) -> Results:
    """A backlog."""
    tree = Tree(directories=bench.size(1000, 50), per_directory=1000, size=256)
    ways = [
        Way(
            name=_BASELINE,
            settings="rsync -a --remove-source-files over a new ssh connection",
            run=lambda arena: _rsync(arena, tree),
        ),
        Way(
            name=_OURS,
            settings="mistamover --one-off, transfer_mode = move, empty_directory_age = 0; memory is that of the "
            "stream's process, looked at five times a second",
            run=lambda arena: _ours(arena, tree),
        ),
    ]
    with open_stage(bench, "W6", size=tree.bytes, files=tree.files) as stage:
        print(f"  {tree}", flush=True)
        taken = stage.take_turns(ways, bench.times(1))
        return stage.results([row for each in taken for row in _rows(each, tree)])


def _rows(each: Taken[Run], tree: Tree) -> list[Row]:
    def row(quantity: str, unit: str, value: Callable[[Run], float], baseline: str | None = None) -> Row:
        values = tuple(map(value, each.values))
        return Row(workload="W6", way=each.name, quantity=quantity, unit=unit, values=values, baseline=baseline)

    rows = [
        row("rate", "files/s", lambda run: tree.files / run.seconds, _BASELINE),
        row("first delivery", "s", lambda run: run.first, _BASELINE),
    ]
    if each.name == _OURS:
        rows += [
            row("peak memory, RSS", "MiB", lambda run: run.rss / 2**20),
            row("peak memory, PSS", "MiB", lambda run: run.pss / 2**20),
        ]
    return rows


def _rsync(arena: Arena, tree: Tree) -> Run:
    arena.target.mkdir()
    tree.make(arena.source)
    seconds, first = _watched(rsync_argv(arena, f"{arena.source}/", "-a", "--remove-source-files"), arena.target)
    tree.check(arena.target)
    none_left(arena.source)
    return Run(seconds=seconds, first=first)


def _ours(arena: Arena, tree: Tree) -> Run:
    site = ours.make_site(arena)
    stream = site.add("one", data_stream=ours.EMPTY_AT_ONCE)
    tree.make(stream.source)
    try:
        with Peak(lambda: _stream_process(site)) as peak:
            seconds, first = _watched(
                ours.one_off_argv(site), stream.target, env=site.environment(), cwd=arena.directory
            )
    finally:
        agents.end_all(site)
    ours.verify(stream, tree, "move")
    return Run(seconds=seconds, first=first, rss=peak.rss, pss=peak.pss)


def _stream_process(site: Site) -> int | None:
    """Return the pid of the site's only stream: the process of the agent that has said its name in its title."""
    for process in agents.processes_of(site):
        with contextlib.suppress(psutil.Error):
            if any("mistamover: stream" in word for word in process.cmdline()):
                return process.pid
    return None


def _watched(
    argv: Sequence[str], target: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> tuple[float, float]:
    """Given a command and the target, run it; return its seconds, and those until the first final name."""
    with tempfile.TemporaryFile() as said, FirstName(target) as name:
        begin = time.monotonic()
        with started(argv, output=said, env=env, cwd=cwd) as process:
            while name.at is None and process.poll() is None:
                name.look(0.2)
            first = (name.at or time.monotonic()) - begin
            name.close()
            finish(process, argv, said)
            return time.monotonic() - begin, first


class FirstName:
    """Waits for the first final name of a file in a directory or in the directories that appear in it."""

    def __init__(self, top: Path) -> None:
        """Given the directory, watch it."""
        self._inotify: Inotify | None = Inotify()
        self._paths = {self._inotify.add(top, IN_CREATE | IN_MOVED_TO): top}
        self.at: float | None = None
        """When it appeared, on the monotonic clock."""

    def __enter__(self) -> FirstName:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no more."""
        self.close()

    def close(self) -> None:
        """Watch no more, so that it costs nothing any more."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def look(self, seconds: float) -> None:
        """Given a limit, wait for something to happen."""
        assert self._inotify is not None
        for event in self._inotify.read(seconds):
            if event.name.startswith(b"."):
                continue
            if not event.mask & IN_ISDIR:
                self.at = self.at or event.at_ns / 1e9
                continue
            path = self._paths[event.watch] / os.fsdecode(event.name)
            with contextlib.suppress(FileNotFoundError):
                self._paths[self._inotify.add(path, IN_CREATE | IN_MOVED_TO)] = path
                if any(not name.startswith(".") for name in os.listdir(path)):
                    self.at = self.at or event.at_ns / 1e9

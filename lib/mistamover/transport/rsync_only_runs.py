"""The runs of an rsync whose other end is nothing but rsync: each begins, is heard, and is over.

What the other end refuses is left out, and what it lets in one at a time waits for its turn.  Everything is asked by
sending, never by fetching: so it works where one may only write.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mistamover.files.names import from_rsync
from mistamover.transport.base import Guard
from mistamover.transport.rsync_calls import FETCH, PUT, Command, Runs
from mistamover.transport.rsync_far import RsyncFar
from mistamover.transport.rsync_output import Line, parse_errors
from mistamover.transport.rsync_run import Ended
from mistamover.transport.rsync_terms import Terms, explain, is_busy
from mistamover.transport.rsync_verdicts import PARTIAL

logger = logging.getLogger(__name__)

#: Seconds that somebody else's run is waited for, where the target lets in one at a time; and between two tries.
_PATIENCE = 60.0
_PAUSE = 0.1

#: A name is there, and is something else than what was held against it.
_IN_THE_WAY = re.compile(rb"could not make way for [^:]*: (.*)")


@dataclass(slots=True)
class NotRun:
    """A run that never began, because something else came first."""

    lines: dict[bytes, Line] = field(default_factory=dict)
    stderr: bytes = b""
    status: int = -1
    abandoned: bool = True


class OnlyRuns:
    """All that is run for one target; used by several threads."""

    def __init__(self, *, command: Command, far: RsyncFar, directory: str, terms: Terms, run_dir: Path) -> None:
        """Given how rsync is called, the way to the far end, the target directory, what has been agreed on, and a
        private directory, do nothing yet.
        """
        self.command = command
        self.far = far
        self.directory = directory
        self.terms = terms
        self._run_dir = run_dir
        self._runs = Runs(run_dir, command.section)
        self._turn = threading.Lock()
        self._pause = threading.Event()
        self.one_at_a_time = False
        """Whether the target was found to let in one at a time."""

    def run(
        self,
        words: Callable[[], list[str]],
        names: Collection[bytes],
        *,
        here: bytes,
        below: str = "",
        top: str | None = None,
        guard: Guard | None = None,
        needs: str = "",
    ) -> Ended:
        """Given what makes the words, the names, the directory here and the one below the target directory (or below
        `top`), run rsync to its end, again and again without what is refused, except for `needs`.

        Raise LinkError or TargetError if nothing can be begun.
        """
        base = self.directory if top is None else top
        there = self.far.place(f"{base}/{below}" if below else base)
        return self._agreeing(words, names, [_slashed(here), there], guard, needs)

    def _back(self, words: Sequence[str], names: Iterable[bytes], here: bytes) -> Ended:
        """Fetch names into a directory here, as far as they are there."""
        base, before = self.far.fetching(self.directory)
        ends = [self.far.place(base), _slashed(here)]
        return self._agreeing(lambda: self.command.small(*words), [before + name for name in names], ends, None, "")

    def _agreeing(
        self,
        words: Callable[[], list[str]],
        names: Collection[bytes],
        ends: list[str],
        guard: Guard | None,
        needs: str,
    ) -> Ended:
        while True:
            argv = [*words(), *self.terms.some("--secluded-args")]
            run = self._in_turn(argv, ends, names, guard)
            if run.status == 0 or run.abandoned:
                return run
            refused = self.terms.learn(run.stderr, argv)
            if refused:
                logger.info("%s does not take the option %s", self.far.description(), refused)
            if not refused or refused == needs:
                return run

    def abort(self) -> None:
        """End all at once, from any thread."""
        self._runs.abort()
        self.far.abort()

    # -- what is asked ------------------------------------------------------------------------

    def existing(self, files: Iterable[bytes], directories: Iterable[bytes]) -> set[bytes]:
        """Given names, return those that something at the target has; `.` is the target directory itself.

        Raise LinkError or TargetError.
        """
        names = [*files, *directories]
        with self.staging() as staging:
            for name in directories:
                os.makedirs(staging + b"/" + name, exist_ok=True)
            for name in files:
                os.makedirs(os.path.dirname(staging + b"/" + name), exist_ok=True)
                with open(staging + b"/" + name, "wb"):
                    pass
            words = ("--dry-run", "--existing", "--no-implied-dirs")
            run = self.run(lambda: self.command.small(*words), names, here=staging)
        in_the_way = {from_rsync(name) for name in _IN_THE_WAY.findall(run.stderr)}
        if run.status != 0 and not (run.status in PARTIAL and (in_the_way or run.lines)):
            raise explain(words_of(run))
        return {name for name in names if name in run.lines or name in in_the_way}

    def can_remove(self) -> bool:
        """Tell whether names can be removed at the target, and learn what else it knows. Raise as `existing`."""
        with self.staging() as staging:
            words = self._removing()
            name = b".mistamover-%s" % os.urandom(6).hex().encode()
            run = self.run(
                lambda: [*words(), *self.terms.hashing(), *self.terms.some("--fsync")],
                [name],
                here=staging,
                needs="--delete",
            )
        if not self.terms.allows("--delete"):
            return False
        if run.status not in (0, *PARTIAL):
            raise explain(words_of(run))
        return True

    def _removing(self) -> Callable[[], list[str]]:
        # A name that is not here is removed there; no attribute of a directory above it is touched.
        return lambda: self.command.small("--delete-missing-args", "--no-implied-dirs")

    # -- what is done -------------------------------------------------------------------------

    def remove(self, names: Iterable[bytes]) -> set[bytes]:
        """Given names, remove them, content before its directory; return those that are gone. Raise as `existing`."""
        every = set(names)
        gone: set[bytes] = set()
        for depth in sorted({name.count(b"/") for name in every}, reverse=True):
            level = sorted(name for name in every if name.count(b"/") == depth)
            # An rsync before 3.4 chokes on a missing name in a directory that is here: so there is nothing at all here.
            with self.staging() as staging:
                run = self.run(self._removing(), level, here=staging, needs="--delete")
            if run.status not in (0, *PARTIAL):
                raise explain(words_of(run))
            gone |= {name for name in level if name in run.lines and run.lines[name].update == "*"}
        rest = every - gone
        return gone | (rest - self.existing(rest, ())) if rest else gone

    def make_directories(self, names: Sequence[bytes], *, top: str | None = None, mode: int | None = None) -> None:
        """Given names of directories, upper ones first, make those that are not there, below the target directory or
        `top`. Raise as `existing`.
        """
        with self.staging() as staging:
            for name in names:
                os.makedirs(staging + b"/" + name, mode=0o700, exist_ok=True)
            words = ("--no-implied-dirs",) if mode is None else ("--no-implied-dirs", "--perms", f"--chmod=D{mode:o}")
            run = self.run(lambda: self.command.small(*words), names, here=staging, top=top)
        if run.status != 0:
            raise explain(words_of(run))

    def keep_only(self, below: str, directories: Sequence[str], patterns: Sequence[str]) -> None:
        """Given a directory at the target, remove what is in it except the directories, which stay as they are or are
        made, and names that patterns fit. Raise as `existing`.
        """
        with self.staging() as staging:
            for name in directories:
                os.mkdir(staging + b"/" + os.fsencode(name), mode=0o700)
            words = ("--dirs", "--delete", "--perms", *(f"--exclude=/{pattern}" for pattern in patterns))
            run = self.run(lambda: self.command.small(*words), [b"./"], here=staging, below=below, needs="--delete")
        if run.status != 0:
            raise explain(words_of(run))

    # -- small files --------------------------------------------------------------------------

    def put(self, staging: Path, names: Iterable[bytes]) -> Ended:
        """See `small_files.Carrier`."""
        return self.run(lambda: self.command.small(*PUT), list(names), here=os.fsencode(staging))

    def fetch(self, staging: Path, names: Iterable[bytes], longest: int) -> Ended:
        """See `small_files.Carrier`."""
        return self._back((*FETCH, f"--max-size={longest}"), names, os.fsencode(staging))

    def readable(self, name: bytes) -> bool | None:
        """Given a name, tell whether it can be fetched, and so is there; None where nothing can be read there."""
        with self.staging() as staging:
            run = self._back(("--dry-run", *FETCH, "--links"), [name], staging)
        return name in run.lines if run.status in (0, *PARTIAL) else None

    def links(self, names: Sequence[bytes]) -> dict[bytes, bytes] | None:
        """Given names of links at the target, return where they lead; None where nothing can be read there."""
        with self.staging() as staging:
            run = self._back((*FETCH, "--links"), names, staging)
            if run.status != 0 and run.status not in PARTIAL:
                return None
            return {name: os.readlink(staging + b"/" + name) for name in names if os.path.islink(staging + b"/" + name)}

    @contextlib.contextmanager
    def staging(self) -> Iterator[bytes]:
        """Yield an empty directory here, for the length of the context."""
        with tempfile.TemporaryDirectory(prefix=b"staging-", dir=os.fsencode(self._run_dir)) as staging:
            yield staging

    # -- one run ------------------------------------------------------------------------------

    def _in_turn(self, argv: list[str], ends: list[str], names: Collection[bytes], guard: Guard | None) -> Ended:
        if not self.one_at_a_time:
            run = self._once(argv, ends, names, guard)
            if not is_busy(run.stderr):
                return run
            self.one_at_a_time = True
            logger.warning("%s lets in one rsync at a time: large files hold up small ones", self.far.description())
        while not self._turn.acquire(timeout=_PAUSE):
            if _given_up(guard):
                return NotRun()
        try:
            until = time.monotonic() + _PATIENCE
            while True:
                run = self._once(argv, ends, names, guard)
                # Somebody else's then; or ours of a moment ago, that is being buried there.
                if not is_busy(run.stderr) or time.monotonic() >= until:
                    return run
                if _given_up(guard):
                    return NotRun()
                self._pause.wait(_PAUSE)
        finally:
            self._turn.release()

    def _once(self, argv: list[str], ends: list[str], names: Collection[bytes], guard: Guard | None) -> Ended:
        stack = contextlib.ExitStack()
        try:
            passage = stack.enter_context(self.far.passage())
            run = self._runs.start(
                [*argv, *passage.words, "--", *ends],
                stack,
                environment=self.terms.environment(),
            )
        except BaseException:
            stack.close()
            raise
        run.send(names, guard)
        return run


def words_of(run: Ended) -> str:
    """Given a run that came to nothing, return why: the server's words first, for its end is only their consequence."""
    said = [line.strip() for line in run.stderr.decode("utf-8", "backslashreplace").splitlines()]
    if telling := [line for line in said if "ERROR: " in line or "rrsync error" in line]:
        return "; ".join(telling[:3])
    return parse_errors(run.stderr).summary() or f"rsync ended with status {run.status}"


def _slashed(path: bytes) -> str:
    return os.fsdecode(path.rstrip(b"/")) + "/"


def _given_up(guard: Guard | None) -> bool:
    deadline = guard.deadline() if guard is not None else None
    return deadline is not None and time.monotonic() >= deadline

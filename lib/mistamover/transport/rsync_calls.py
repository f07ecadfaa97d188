"""How rsync is called, whoever is called: the options of each kind of run, and all that run, to be ended at once."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mistamover.config.settings import TargetSettings
from mistamover.transport.rsync_output import OUT_FORMAT
from mistamover.transport.rsync_run import RsyncRun

#: Takes the names, each ended by NUL, and says of each one what it did.  The names are read from the input.
LISTENING = ("-8", "-ii", "--from0", "--files-from=-", OUT_FORMAT)

#: Keeps a name with all special characters away from a shell at the other end.
SECLUDED = "-s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What the operator wants of rsync, for one target."""

    rsync: tuple[str, ...]
    """The program and its extra options."""
    section: str
    """Where the operator has written that."""
    use_checksum: bool
    bandwidth_limit: str | None
    compress: bool = False

    @classmethod
    def of_ssh(cls, target: TargetSettings) -> Command:
        """Given a target that is reached by ssh, return what is wanted there."""
        settings = target.ssh
        return cls(
            rsync=settings.rsync,
            section="rsync_ssh",
            use_checksum=settings.use_checksum,
            bandwidth_limit=settings.bandwidth_limit,
            compress=settings.compress,
        )

    def data(self, *extra: str) -> list[str]:
        """Return the words for files of a stream: whole, with all that belongs to them, and a hash for each."""
        argv = [*self.rsync, "-lptgoHS", *LISTENING, "--outbuf=L", "--timeout=300"]
        if self.compress:
            argv.append("--compress")
        if self.bandwidth_limit:
            argv.append(f"--bwlimit={self.bandwidth_limit}")
        return [*argv, *extra]

    def resent(self) -> str:
        """Return the option that says which of the files that are there already are sent again."""
        return "--checksum" if self.use_checksum else "--ignore-times"

    def small(self, *extra: str) -> list[str]:
        """Return the words for files of ours: names with their directories, no attributes, whatever is there now."""
        return [*self.rsync, "-I", *LISTENING, "--timeout=60", *extra]


#: Beyond what `Command.small` says: files to a target whose directories are there, and back as far as they are there.
PUT = ("--no-implied-dirs", "--chmod=F644")
FETCH = ("--ignore-missing-args", "--chmod=F600", "--no-implied-dirs")


@dataclass(slots=True)
class Runs:
    """The runs of one target that have not ended."""

    run_dir: Path
    section: str
    _running: set[RsyncRun] = field(default_factory=set)

    def start(
        self,
        argv: Sequence[str],
        stack: contextlib.ExitStack,
        *,
        background: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> RsyncRun:
        """Given the whole command, what is to be undone when it has ended, and what else it needs, start it.

        Raise TargetError if there is no rsync here.
        """
        run = RsyncRun(
            list(argv),
            self.run_dir,
            stack.close,
            section=self.section,
            background=background,
            environment=environment,
        )
        self._running.add(run)
        stack.callback(self._running.discard, run)
        return run

    def abort(self) -> None:
        """Kill all that run, from any thread."""
        for run in list(self._running):
            run.abort()

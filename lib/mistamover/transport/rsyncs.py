"""The rsync processes of one target: how they are called, and one that is kept warm for the next batch."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

from mistamover.config.settings import TargetSettings
from mistamover.links.link import OwnLink
from mistamover.model import Unit
from mistamover.transport.rsync_output import OUT_FORMAT
from mistamover.transport.rsync_run import RsyncRun
from mistamover.transport.ssh import SshConnection


class Rsyncs:
    """Starts what a target needs; everything it started can be aborted at once."""

    def __init__(
        self, *, source: bytes, target: TargetSettings, ssh: SshConnection, apart: OwnLink, run_dir: Path
    ) -> None:
        """Given the stream's directory, the target, its connection, the one for large files, and a private directory,
        do nothing yet.
        """
        self._source = source
        self._target = target
        self._ssh = ssh
        self._apart = apart
        self._run_dir = run_dir
        self._runs: set[RsyncRun] = set()
        self._lock = threading.Lock()
        self._warm: RsyncRun | None = None
        self._warm_login = 0

    def take(self) -> RsyncRun:
        """Return one for a batch of single files: the warm one if it is good, else a new one."""
        with self._lock:
            run, self._warm = self._warm, None
        if run is not None and (self._warm_login != self._ssh.generation or not run.alive):
            run.end()
            run = None
        return run or self.start()

    def prepare(self) -> None:
        """Start the next one at both ends now, unless there is one, so that the next batch need not wait for it."""
        warm = self._warm is not None and self._warm.alive and self._warm_login == self._ssh.generation
        if self._ssh.alive and not warm:
            login = self._ssh.generation
            run = self.start()
            with self._lock:
                self._warm, spare = run, self._warm
                self._warm_login = login
            if spare is not None:
                spare.end()

    def start(self, *, resume: Unit | None = None, apart: bool = False) -> RsyncRun:
        """Start one for single files; with `resume` for that file alone, which goes on where an attempt broke off; with
        `apart` over the connection that gives way to others.
        """
        extra = ["--checksum" if self._target.ssh.use_checksum else "--ignore-times"]
        if resume is not None:
            extra.append(f"--partial-dir={self._ssh.directory}/{self._ssh.place}/p-{resume.key()}")
            extra.append(f"--temp-dir={self._ssh.session_place}")
            extra += ["--info=progress2", "--outbuf=N"]
        argv = self._arguments(*extra)
        if apart:
            # Blocks that are there before the data come: on ext4 whoever flushes a small file would otherwise wait for
            # the data of all blocks that were given out since the last commit (data=ordered).
            argv.append("--preallocate")
            return self._start(argv, self._ssh.directory, self._apart.rsync_shell(), background=True)
        return self._start(argv, self._ssh.directory)

    def start_tree(self, staging: str, temporary: str) -> RsyncRun:
        """Given where a directory unit is built, relative to the target directory, and where in it files are written
        until they are whole, start one for it.
        """
        argv = self._arguments("--ignore-times", f"--temp-dir={temporary}")
        return self._start(argv, f"{self._ssh.directory}/{staging}")

    def start_zip(self, source: bytes, staging: str) -> RsyncRun:
        """Given the directory that holds a zip, and where it is built at the target, start one for it; what an attempt
        that broke off has left there is gone on with.
        """
        argv = self._arguments("--ignore-times", "--inplace", "--info=progress2", "--outbuf=N")
        return self._start(argv, f"{self._ssh.directory}/{staging}", source=source)

    def compare(self, source: bytes | None = None) -> RsyncRun:
        """Start one that sends nothing, and only compares the content of files at both ends: here those of the stream,
        or those of the given directory.
        """
        return self._start(self._arguments("--dry-run", "--checksum"), self._ssh.directory, source=source)

    def start_put(self, staging: Path) -> RsyncRun:
        """Given a directory here, start one for small files in it, whose directories exist at the target."""
        argv = [*self._small(), "--no-implied-dirs", "--chmod=F644"]
        return self._start(argv, self._ssh.directory, source=os.fsencode(staging))

    def start_fetch(self, staging: Path, longest: int) -> RsyncRun:
        """Given a directory here, start one that brings small files of the target, as far as they are there."""
        argv = [*self._small(), "--ignore-missing-args", f"--max-size={longest}", "--chmod=F600", "--no-implied-dirs"]
        return self._start(argv, self._ssh.directory, fetch_to=f"{staging}/")

    def abort(self) -> None:
        """Kill all that run, from any thread."""
        for run in list(self._runs):
            run.abort()

    def close(self) -> None:
        """End the warm one."""
        with self._lock:
            warm, self._warm = self._warm, None
        if warm is not None:
            warm.end()

    def _small(self) -> list[str]:
        """What is of one line each: names with their directories, no attributes, whatever has the name now."""
        return [
            *self._target.ssh.rsync,
            "-8",
            "-s",
            "-ii",
            "-I",
            "--from0",
            "--files-from=-",
            OUT_FORMAT,
            "--timeout=60",
        ]

    def _arguments(self, *extra: str) -> list[str]:
        settings = self._target.ssh
        argv = [*settings.rsync, "-lptgoHS", "-8", "-s", "-ii", "--from0", "--files-from=-", "--outbuf=L", OUT_FORMAT]
        argv += ["--checksum-choice=" + self._target.hash, "--timeout=300", "--modify-window=-1"]
        if settings.compress:
            argv.append("--compress")
        if settings.bandwidth_limit:
            argv.append(f"--bwlimit={settings.bandwidth_limit}")
        return [*argv, *extra]

    def _start(
        self,
        argv: list[str],
        destination: str,
        shell: contextlib.AbstractContextManager[str] | None = None,
        *,
        background: bool = False,
        source: bytes | None = None,
        fetch_to: str | None = None,
    ) -> RsyncRun:
        here = os.fsdecode((source or self._source).rstrip(b"/") + b"/")
        host = f"[{self._target.host}]" if ":" in self._target.host else self._target.host
        there = f"{host}:{destination}/"
        ends = [here, there] if fetch_to is None else [there, fetch_to]
        stack = contextlib.ExitStack()
        words = ["-e", stack.enter_context(shell or self._ssh.rsync_shell()), "--", *ends]
        run = RsyncRun([*argv, *words], self._run_dir, stack.close, background=background)
        self._runs.add(run)
        stack.callback(self._runs.discard, run)
        return run

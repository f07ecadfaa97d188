"""The rsync processes of one target: how they are called, and one that is kept warm for the next batch."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from mistamover.config.settings import TargetSettings
from mistamover.links.link import OwnLink
from mistamover.model import Unit
from mistamover.transport.rsync_calls import FETCH, PUT, SECLUDED, Command, Runs
from mistamover.transport.rsync_run import RsyncRun
from mistamover.transport.rsync_terms import OLD_HASH, Terms
from mistamover.transport.ssh import SshConnection

logger = logging.getLogger(__name__)


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
        self._command = Command.of_ssh(target)
        self._runs = Runs(run_dir, self._command.section)
        self._terms = Terms(hash=target.hash)
        self._agreed = False
        self._lock = threading.Lock()
        self._warm: RsyncRun | None = None
        self._warm_login = 0

    @property
    def algorithm(self) -> str:
        """The hash of what rsync says, where it is not the one that was asked for; else empty."""
        return self._terms.algorithm

    @property
    def proof(self) -> str:
        """The hash by which rsync proves files here."""
        if not self._agreed:
            self._agree()
        return self._terms.proof

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
        extra = [self._command.resent()]
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

    def put(self, staging: Path, names: Iterable[bytes]) -> RsyncRun:
        """See `small_files.Carrier`."""
        argv = self._command.small(SECLUDED, *PUT)
        run = self._start(argv, self._ssh.directory, source=os.fsencode(staging))
        run.send(names, None)
        return run

    def fetch(self, staging: Path, names: Iterable[bytes], longest: int) -> RsyncRun:
        """See `small_files.Carrier`."""
        argv = self._command.small(SECLUDED, *FETCH, f"--max-size={longest}")
        run = self._start(argv, self._ssh.directory, fetch_to=f"{staging}/")
        run.send(names, None)
        return run

    def abort(self) -> None:
        """Kill all that run, from any thread."""
        self._runs.abort()

    def close(self) -> None:
        """End the warm one."""
        with self._lock:
            warm, self._warm = self._warm, None
        if warm is not None:
            warm.end()

    def _arguments(self, *extra: str) -> list[str]:
        if not self._agreed:
            self._agree()
        return self._command.data(SECLUDED, *self._terms.exact(), *extra)

    def _agree(self) -> None:
        """Find out whether the other end knows the hash; where it is too old for that, another one is used.

        Any other trouble is met again by whoever sends something, and told there.
        """
        for _ in range(2):
            argv = self._command.data(SECLUDED, "--dry-run", *self._terms.exact())
            run = self._start(argv, self._ssh.directory)
            run.send([b"."], None)
            self._agreed = run.status == 0
            if self._agreed or not self._terms.learn(run.stderr, argv):
                return
            logger.info("%s: rsync there does not know %s: using %s", self._target.host, self._terms.hash, OLD_HASH)

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
        environment = self._terms.environment()
        return self._runs.start([*argv, *words], stack, background=background, environment=environment)

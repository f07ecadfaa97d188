"""Zips on their way by rsync: built under a dot-name, proven, flushed, and then shown under a name that is free."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from mistamover.files.identity import identity_of
from mistamover.files.names import base, display
from mistamover.model import Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport.base import Guard, Zip
from mistamover.transport.rsync_output import content_matches, parse_errors
from mistamover.transport.rsync_verdicts import verdicts_of
from mistamover.transport.rsyncs import Rsyncs
from mistamover.transport.sftp import Sftp, There
from mistamover.transport.ssh import SshConnection

#: Where a zip is built, in our place at the target: half a zip stays there for the next attempt.
_STAGING = "z"


class ZipDelivery:
    """The delivery of zips to one target; see `Transport.deliver_zip`."""

    def __init__(self, *, ssh: SshConnection, sftp: Sftp, rsyncs: Rsyncs) -> None:
        """Given the connection, its SFTP channel and its rsyncs, do nothing yet."""
        self._ssh = ssh
        self._sftp = sftp
        self._rsyncs = rsyncs

    def deliver(self, made: Zip, guard: Guard) -> Verdict:
        """Given a zip and the guard of the delivery, deliver it. Raise LinkError or TargetError."""
        preferred = made.names[0]
        for name in made.names:
            there = self._sftp.look(name)
            if there is None:
                return self._send(made, name, guard, replace=False)
            digest = self._digest_there(made, name, there)
            if digest:
                self._ssh.flush()
                return Confirmed(unit=_unit(made, name), digest=digest, algorithm=self._rsyncs.algorithm)
            if name == preferred and _may_go(there, made):
                return self._send(made, name, guard, replace=True)
        taken = f"{display(preferred)} is at the target already, with another content: it is never overwritten"
        return Failed(unit=_unit(made, preferred), fault=FaultClass.REFUSED, reason=taken)

    def _digest_there(self, made: Zip, name: bytes, there: There) -> str:
        """Given a zip and a name that is taken, return the hash of what is there if it is the zip; else nothing."""
        if not there.regular or there.size != os.lstat(made.path).st_size:
            return ""
        directory = os.path.dirname(made.path)
        # rsync compares what has the same name at both ends.
        with _also_named(made.path, name):
            run = self._rsyncs.compare(directory)
            run.send([name], None)
        line = run.lines.get(name)
        return line.digest if line is not None and run.status == 0 and content_matches(line) else ""

    def _send(self, made: Zip, name: bytes, guard: Guard, *, replace: bool) -> Verdict:
        unit = _unit(made, base(made.path))
        staging = f"{self._ssh.place}/{_STAGING}"
        staged = os.fsencode(f"{staging}/") + unit.name
        self._sftp.make_directory(staging)
        run = self._rsyncs.start_zip(os.path.dirname(made.path), staging)
        run.send([unit.name], guard)
        [verdict] = verdicts_of(
            os.path.dirname(made.path), [unit], run.lines, parse_errors(run.stderr), run, proven=run.status == 0
        )
        if isinstance(verdict, Failed):
            return verdict
        self._ssh.flush()
        if not made.unchanged():
            return Failed(unit=unit, fault=FaultClass.CHANGED, reason="changed while its zip was being sent")
        if replace:
            self._sftp.rename(staged, name)
        elif not self._sftp.appear(staged, name):
            reason = f"{display(name)} has come to the target meanwhile: another name is looked for"
            return Failed(unit=unit, fault=FaultClass.ABANDONED, reason=reason)
        self._ssh.flush()
        return Confirmed(unit=_unit(made, name), digest=verdict.digest, algorithm=self._rsyncs.algorithm)


def _may_go(there: There, made: Zip) -> bool:
    """Whether what has the zip's name is the one that a mirror put there itself, untouched since."""
    return any(there == There(regular=True, size=old.size, mtime=old.mtime_ns // 10**9) for old in made.replaces)


def _unit(made: Zip, name: bytes) -> Unit:
    return Unit(name=name, kind=Kind.FILE, identity=identity_of(os.lstat(made.path)))


@contextlib.contextmanager
def _also_named(path: bytes, name: bytes) -> Iterator[None]:
    """Give a file of ours another name beside its own, for as long as the context lasts."""
    other = os.path.dirname(path) + b"/" + name
    if other == path:
        yield
        return
    os.link(path, other)
    try:
        yield
    finally:
        os.unlink(other)

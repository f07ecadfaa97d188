"""Zips on their way to a far end: written under a name of ours, proven, flushed, shown under a name that is free."""

from __future__ import annotations

import os
from collections.abc import Callable

from mistamover.files import digests
from mistamover.files.identity import identity_of
from mistamover.files.names import base, display
from mistamover.model import Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport.base import Zip
from mistamover.transport.far import FarRefusal, There
from mistamover.transport.far_source import NotSent
from mistamover.transport.far_writing import Writing

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class ZipWriting:
    """The delivery of one zip over one connection; see `Transport.deliver_zip`."""

    def __init__(self, writing: Writing) -> None:
        """Given what writes files from the zip's directory, do nothing yet."""
        self._far = writing.far
        self._writing = writing

    def deliver(self, made: Zip) -> Verdict:
        """Given a zip, deliver it. Raise LinkError or TargetError."""
        preferred = made.names[0]
        for name in made.names:
            there = self._far.look(name)
            if there is None:
                return self._send(made, name, replace=None)
            digest = self._digest_if_same(made, name, there)
            if digest:
                self._writing.flush([name])
                return Confirmed(unit=_unit(made, name), digest=digest, algorithm=self._writing.algorithm)
            if name == preferred and _may_go(there, made):
                return self._send(made, name, replace=there)
        taken = f"{display(preferred)} is at the target already, with another content: it is never overwritten"
        return Failed(unit=_unit(made, preferred), fault=FaultClass.REFUSED, reason=taken)

    def _digest_if_same(self, made: Zip, name: bytes, there: There) -> str:
        """Given a zip and a name that is taken, return the hash of what is there if it is the zip; else nothing."""
        if there.kind is not Kind.FILE or there.size != os.lstat(made.path).st_size:
            return ""
        handle = os.open(made.path, _OPEN)
        try:
            digest, _ = digests.of_file(handle, self._writing.algorithm)
        finally:
            os.close(handle)
        try:
            self._writing.prove(name, there.size, digest)
        except FarRefusal:
            return ""
        return digest

    def _send(self, made: Zip, name: bytes, *, replace: There | None) -> Verdict:
        unit = _unit(made, base(made.path))
        try:
            digest = self._writing.file(unit, flush=True, final=self._when_ready(made, name, replace))
        except NotSent as error:
            return error.verdict(unit)
        except FarRefusal as error:
            return Failed(unit=unit, fault=FaultClass.REFUSED, reason=str(error))
        self._writing.flush([name])
        return Confirmed(unit=_unit(made, name), digest=digest, algorithm=self._writing.algorithm)

    def _when_ready(self, made: Zip, name: bytes, replace: There | None) -> Callable[[], bytes]:
        """Return what says the final name in the last moment, or why it must not appear."""

        def final() -> bytes:
            if not made.unchanged():
                raise NotSent(FaultClass.CHANGED, "changed while its zip was being sent")
            if self._far.look(name) != replace:
                reason = f"{display(name)} has come to the target meanwhile: another name is looked for"
                raise NotSent(FaultClass.ABANDONED, reason)
            return name

        return final


def _may_go(there: There, made: Zip) -> bool:
    """Whether what has the zip's name is the one that a mirror put there itself, untouched since."""
    return there.kind is Kind.FILE and any(
        there.size == old.size and int(there.mtime) == old.mtime_ns // 10**9 for old in made.replaces
    )


def _unit(made: Zip, name: bytes) -> Unit:
    return Unit(name=name, kind=Kind.FILE, identity=identity_of(os.lstat(made.path)))

"""Directory units: built in our own place at the far end, and shown by one rename.

What has the name already is put aside first, so that the new one appears at one blow.  What only the old one held is
then moved into the new one, name by name (in move mode, and in a mirror that removes nothing); what is put aside goes
back if we are killed meanwhile.
"""

from __future__ import annotations

from mistamover.files.names import base, display
from mistamover.model import Confirmed, Failed, FaultClass, Kind, Unit, Verdict
from mistamover.transport.far import FarRefusal
from mistamover.transport.far_place import Place, put_back, remove_all
from mistamover.transport.far_source import NotSent, Source
from mistamover.transport.far_writing import Writing


class Tree:
    """One directory unit on its way."""

    def __init__(self, writing: Writing, *, source: Source, place: Place, keep_extra: bool) -> None:
        """Given what writes single files, the source, our place, and whether what only an older unit of the name holds
        is kept, do nothing yet.
        """
        self._far = writing.far
        self._means = writing.means
        self._writing = writing
        self._source = source
        self._place = place
        self._keep_extra = keep_extra

    def deliver(self, unit: Unit) -> Verdict:
        """Given the unit, deliver it; return the verdict. Raise LinkError or TargetError."""
        self._place.make(self._far, self._means)
        staging = self._place.inside(b"u")
        clean = False
        try:
            confirmed = self._build(unit, staging)
            self._swap(staging, unit.name)
            clean = True
        except _PartNotSent as error:
            return error.verdict(unit)
        except FarRefusal as error:
            return Failed(unit=unit, fault=FaultClass.REFUSED, reason=str(error))
        finally:
            if not clean:
                self._place.forget(staging)
        return Confirmed(unit=unit, digest="", parts=confirmed)

    def _build(self, unit: Unit, staging: bytes) -> list[Confirmed]:
        parts = []
        self._part(unit, unit.name, staging, Kind.DIRECTORY)
        paths = [staging]
        for entry in sorted(unit.manifest, key=lambda each: each.name):
            if entry.kind is Kind.SPECIAL:
                continue
            part = Unit(
                name=unit.name + b"/" + entry.name,
                kind=entry.kind,
                identity=entry.identity,
                first_seen=unit.first_seen,
            )
            path = staging + b"/" + entry.name
            digest = self._part(part, unit.name, path, entry.kind)
            paths.append(path)
            parts.append(Confirmed(unit=part, digest=digest, algorithm=self._writing.algorithm if digest else ""))
        self._writing.dress()
        self._writing.flush(paths)
        self._source.go_on()
        return parts

    def _part(self, part: Unit, unit: bytes, path: bytes, kind: Kind) -> str:
        """Write one part of the unit; return its hash, if it has one."""
        try:
            self._source.go_on()
            if kind is Kind.DIRECTORY:
                self._writing.make(part.name, path)
            elif kind is Kind.LINK:
                self._writing.link(part, path)
            else:
                return self._writing.write(part, path)
        except NotSent as error:
            raise _PartNotSent(error, part.name[len(unit) + 1 :]) from error
        return ""

    def _swap(self, staging: bytes, final: bytes) -> None:
        """Let what is built appear; what was there before goes, or what only it held comes in."""
        aside = b""
        if self._far.look(final) is not None:
            above = self._place.inside(b"o")
            self._far.make_directory(above)
            aside = above + b"/" + base(final)
            self._far.rename(final, aside)
        try:
            self._far.rename(staging, final)
        except BaseException:
            if aside:
                self._place.forget(above)
            raise
        changed = {b""}
        if aside:
            try:
                changed |= put_back(self._far, aside, final, merge=self._keep_extra)
                self._writing.dress_again(staging, final, changed)
                self._writing.flush(sorted(changed - {b""}))
                remove_all(self._far, above)
            except BaseException:
                self._place.forget(above)
                raise
        self._writing.flush([final])


class _PartNotSent(NotSent):
    """A part of the unit could not be sent, and so the unit is not."""

    def __init__(self, error: NotSent, part: bytes) -> None:
        super().__init__(error.fault, f"{display(part)}: {error}" if part else str(error))

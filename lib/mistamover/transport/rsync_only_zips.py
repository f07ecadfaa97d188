"""Zips on their way by an rsync that can neither rename nor be asked: built under a dot-name, then shown by a link.

rsync makes a hard link to a file of the same content elsewhere at the target (--link-dest) rather than sending it: so a
zip that was built in our place appears under its final name in one step.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from mistamover.files.identity import identity_of
from mistamover.files.names import base, display
from mistamover.model import Confirmed, Failed, FaultClass, Identity, Kind, Unit, Verdict
from mistamover.transport.base import Guard, Zip
from mistamover.transport.rsync_only_place import OwnPlace
from mistamover.transport.rsync_only_runs import OnlyRuns, words_of
from mistamover.transport.rsync_output import Line, content_matches
from mistamover.transport.rsync_terms import Terms, explain
from mistamover.transport.rsync_verdicts import PARTIAL, judge

#: Where a zip is built, in our place: half a zip stays there for the next attempt.
_STAGING = "z"


class OnlyZips:
    """The delivery of zips to one target; see `Transport.deliver_zip`."""

    def __init__(self, *, runs: OnlyRuns, place: OwnPlace, terms: Terms) -> None:
        """Given what runs rsync, our place at the target and what has been agreed on, do nothing yet."""
        self._runs = runs
        self._place = place
        self._terms = terms

    def deliver(self, made: Zip, guard: Guard) -> Verdict:
        """Given a zip and the guard of the delivery, deliver it. Raise LinkError or TargetError."""
        preferred = made.names[0]
        for name in made.names:
            line = self._compare(made, name)
            if line is not None and content_matches(line):
                return self._confirmed(made, name, line)
            if line is None:
                return self._send(made, name, guard, replace=False)
            if name == preferred and any(self._is_there(old, name) for old in made.replaces):
                return self._send(made, name, guard, replace=True)
        taken = f"{display(preferred)} is at the target already, with another content: it is never overwritten"
        return Failed(unit=_unit(made, preferred), fault=FaultClass.REFUSED, reason=taken)

    def _compare(self, made: Zip, name: bytes) -> Line | None:
        """Hold the zip against what has a name at the target; None if nothing has. Raise LinkError or TargetError."""
        with _named(made.path, name) as directory:
            run = self._runs.run(
                lambda: self._runs.command.data("--dry-run", "--checksum", "--existing", *self._terms.exact()),
                [name],
                here=directory,
            )
        if run.status not in (0, *PARTIAL):
            raise explain(words_of(run))
        if run.status in PARTIAL and name not in run.lines:
            # Something that is no file.
            return Line(">", "f", "c", "", 0, name)
        return run.lines.get(name)

    def _is_there(self, old: Identity, name: bytes) -> bool:
        """Whether what has a name at the target has the size and the time of what was put there."""
        with self._runs.staging() as staging:
            path = staging + b"/" + name
            with open(path, "wb") as file:
                file.truncate(old.size)
            os.utime(path, ns=(old.mtime_ns, old.mtime_ns))
            # Times to the second, as not every filesystem keeps more.
            words = ("--dry-run", "--existing", "--modify-window=0")
            run = self._runs.run(lambda: self._runs.command.data(*words), [name], here=staging)
        line = run.lines.get(name)
        return (
            run.status == 0 and line is not None and line.kind == "f" and not set("+st") & set(line.flags.lower()[:3])
        )

    def _send(self, made: Zip, name: bytes, guard: Guard, *, replace: bool) -> Verdict:
        # What is there already gets no link in its place: rsync sends it, and renames.
        links = self._place.usable and not replace
        if links and (failure := self._build(made, name, guard)) is not None:
            return failure
        if not made.unchanged():
            reason = "changed while its zip was being sent"
            return Failed(unit=_unit(made, base(made.path)), fault=FaultClass.CHANGED, reason=reason)
        with _named(made.path, name) as directory:
            run = self._runs.run(
                lambda: self._showing(links=links, replace=replace), [name], here=directory, guard=guard
            )
            [verdict] = judge(directory, [_unit(made, name)], run, lost=False, second_look=lambda _: {})
        line = self._compare(made, name)
        if line is not None and content_matches(line):
            if links:
                # Else it would keep the room of a zip that somebody has taken away.
                self._runs.remove([self._built(name)])
            return self._confirmed(made, name, line)
        if run.status == 0 and line is not None:
            reason = f"{display(name)} has come to the target meanwhile: another name is looked for"
            return Failed(unit=_unit(made, name), fault=FaultClass.ABANDONED, reason=reason)
        return verdict

    def _showing(self, *, links: bool, replace: bool) -> list[str]:
        argv = self._runs.command.data("--checksum", *self._terms.exact(), *self._terms.some("--fsync"))
        if links:
            argv += self._terms.some("--link-dest", self._place.anchored(f"{self._place.path}/{_STAGING}"))
        return argv if replace else [*argv, "--ignore-existing"]

    def _built(self, name: bytes) -> bytes:
        return os.fsencode(f"{self._place.path}/{_STAGING}/") + name

    def _build(self, made: Zip, name: bytes, guard: Guard) -> Failed | None:
        """Build the zip in our place, under the name that it is to have: a link is looked for by its name.

        Return why it is not there.
        """
        staging = f"{self._place.path}/{_STAGING}"
        with self._place.slot() as slot:
            # What is left of others is gone now; ours is in another directory.
            if slot is not None:
                slot.clean = True
        self._runs.make_directories([os.fsencode(staging)], mode=0o700)

        def words() -> list[str]:
            # What an attempt that broke off has left there is gone on with.
            argv = self._runs.command.data("--ignore-times", "--inplace", "--info=progress2", "--outbuf=N")
            return [*argv, *self._terms.exact(), *self._terms.some("--fsync")]

        with _named(made.path, name) as directory:
            run = self._runs.run(words, [name], here=directory, below=staging, guard=guard)
            [verdict] = judge(directory, [_unit(made, name)], run, lost=False, second_look=lambda _: None)
        return verdict if isinstance(verdict, Failed) else None

    def _confirmed(self, made: Zip, name: bytes, line: Line) -> Verdict:
        with self._place.slot() as slot:
            if slot is not None and self._terms.allows("--fsync"):
                if why := self._place.prove(slot):
                    return Failed(unit=_unit(made, name), fault=FaultClass.LINK, reason=why)
                slot.clean = True
        return Confirmed(unit=_unit(made, name), digest=line.digest, algorithm=self._terms.algorithm)


def _unit(made: Zip, name: bytes) -> Unit:
    return Unit(name=name, kind=Kind.FILE, identity=identity_of(os.lstat(made.path)))


@contextlib.contextmanager
def _named(path: bytes, name: bytes) -> Iterator[bytes]:
    """Give a file of ours another name beside its own, for as long as the context lasts; yield their directory."""
    directory = os.path.dirname(path)
    other = directory + b"/" + name
    if other == path:
        yield directory
        return
    os.link(path, other)
    try:
        yield directory
    finally:
        os.unlink(other)

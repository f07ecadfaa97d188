"""The main flow of the disk guard: look at every filesystem, hold or let go, make room where that is allowed.

What is intended is written down before it is done; the stop files themselves carry a sign by which they are known, so
that neither a crash nor a full disk makes an operator's file one of ours, or ours an operator's.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from mistamover.config.settings import StreamSettings
from mistamover.disk import deletion
from mistamover.disk.filesystem import by_filesystem, delivered_into, lies_on, space_on
from mistamover.disk.level import Hold, Level, Shortage, Space, held, hold_after, in_order, level_of, shortage
from mistamover.disk.watch import Watch
from mistamover.errors import LedgerError
from mistamover.files import stopfile
from mistamover.files.names import display
from mistamover.report import disks
from mistamover.report.disks import DisksReport, FilesystemReport

logger = logging.getLogger(__name__)

#: Deleted files that the message names; it counts all of them.
_MOST_NAMED = 20

_MIB = 1024 * 1024


class DiskGuard:
    """All filesystems of one service, under watch."""

    def __init__(self, watch: Watch, *, stopping: Callable[[], bool] = lambda: False) -> None:
        """Given what to watch, take up what the guard before has left; `stopping` ends a long deletion early."""
        self._watch = watch
        self._stopping = stopping
        last = disks.read(watch.state_dir)
        self._holds = {each.mount: _hold_called(each.hold) for each in last.filesystems} if last else {}
        self._stops = {os.fsencode(path) for path in last.stops} if last else set()
        self._problems: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._levels: dict[str, Level] = {}

    def round(self) -> DisksReport:
        """Look once at every filesystem, do what is to be done, and return what is so now."""
        self._problems = {}
        filesystems = by_filesystem(self._watch.streams)
        spaces = dict(self._spaces(filesystems))
        for mount, space in spaces.items():
            self._judge(mount, space)
        self._hold_streams(filesystems)
        for mount in spaces:
            if self._levels[mount] is Level.VLOW:
                spaces[mount] = self._make_room(mount, filesystems[mount])
        self._hold_streams(filesystems)
        report = self._report(spaces, filesystems)
        self._write(report, durable=False)
        self._tell_problems()
        return report

    def release(self) -> None:
        """Nothing is watched any more: remove every stop file that a guard made, and what it has written down."""
        self._remove(self._stops | {_stop_file(stream) for stream in self._watch.streams})
        self._tell_problems()
        if not self._stops:
            disks.forget(self._watch.state_dir)

    # -- one filesystem -----------------------------------------------------------------------

    def _spaces(self, filesystems: dict[str, list[StreamSettings]]) -> Iterator[tuple[str, Space]]:
        for mount in sorted(filesystems):
            try:
                yield mount, space_on(Path(mount))
            except OSError as error:
                # What is not known changes nothing: a hold stays, and none begins.
                self._problems[mount] = f"{mount}: cannot ask for its free space: {error.strerror or error}"

    def _judge(self, mount: str, space: Space) -> None:
        before, level = self._levels.get(mount, Level.GOOD), level_of(space, self._watch.disk)
        self._levels[mount] = level
        self._holds[mount] = hold_after(self._holds.get(mount, Hold.NONE), level)
        if level is not before:
            severity = logging.ERROR if level is Level.VLOW else logging.WARNING if level < before else logging.INFO
            logger.log(severity, "%s is %s: %s", mount, level.name, _in_words(space))

    def _make_room(self, mount: str, streams: list[StreamSettings]) -> Space:
        """Delete what may be deleted until the level is better than VLOW; hold everything if that cannot be reached."""
        # What lies on another filesystem than what comes in makes no room there.
        here = [stream for stream in streams if self._may_delete(stream) and lies_on(stream.directory, mount)]
        gone = list(self._deleted(mount, in_order(here)))
        if gone:
            named = ", ".join(display(name) for name in gone[:_MOST_NAMED])
            more = f" and {len(gone) - _MOST_NAMED} more" if len(gone) > _MOST_NAMED else ""
            logger.error("%s was nearly full: deleted %d files: %s%s", mount, len(gone), named, more)
        space = space_on(Path(mount))
        level = self._levels[mount] = level_of(space, self._watch.disk)
        before, after = self._holds[mount], hold_after(self._holds[mount], level, nothing_helps=not self._stopping())
        if after is Hold.ALL and before is not Hold.ALL:
            logger.error("%s: had to stop all arrivals: %s, and nothing more may be deleted", mount, _in_words(space))
        self._holds[mount] = after
        return space

    def _deleted(self, mount: str, streams: list[StreamSettings]) -> Iterator[bytes]:
        """Delete from one stream after the other, yield what is gone; what was not delivered comes last, if at all."""

        def short() -> Shortage | None:
            return None if self._stopping() else shortage(space_on(Path(mount)), self._watch.disk)

        for undelivered in (False, True) if self._watch.disk.delete_undelivered else (False,):
            for stream in streams:
                try:
                    yield from deletion.make_room(stream, short, undelivered=undelivered)
                except (LedgerError, OSError) as error:
                    self._problems[stream.name] = f"stream {stream.name}: nothing of it can be deleted: {error}"

    def _may_delete(self, stream: StreamSettings) -> bool:
        return stream.deletion_enabled and stream.priority <= self._watch.disk.base_priority

    # -- stop files ---------------------------------------------------------------------------

    def _hold_streams(self, filesystems: dict[str, list[StreamSettings]]) -> None:
        """Make the stop files agree with the holds; only a guard's own are ever removed."""
        wanted: dict[bytes, str] = {}
        for mount, streams in filesystems.items():
            for stream in held(self._holds.get(mount, Hold.NONE), streams, self._watch.disk.base_priority):
                wanted[_stop_file(stream)] = mount
        lacking = [path for path in wanted if not os.path.lexists(path)]
        if not self._stops.issuperset(lacking):
            self._stops.update(lacking)
            self._note()
        for path in lacking:
            self._make(path, wanted[path])
        of_streams = {_stop_file(stream) for streams in filesystems.values() for stream in streams}
        self._remove((self._stops | of_streams) - set(wanted) - self._unknown(filesystems))

    def _unknown(self, filesystems: dict[str, list[StreamSettings]]) -> set[bytes]:
        """Stop files of which nobody can say whether they are wanted: their filesystem has not answered yet."""
        mounts = filesystems.keys() - self._holds.keys()
        return {_stop_file(stream) for mount in mounts for stream in filesystems[mount]}

    def _make(self, path: bytes, mount: str) -> None:
        when = time.strftime("%Y-%m-%d %H:%M:%S %z")
        words = (
            f"since {when}: {mount} has little room left\n"
            f"by process {os.getpid()}, state directory {self._watch.state_dir}\n"
            "It asks those who deliver here to wait, and is removed when there is room again.\n"
            "Whoever wants it to stay touches it, or makes a stop file of his own."
        )
        try:
            if stopfile.make(path, words):
                logger.warning("%s: made, because %s has little room left", display(path), mount)
        except OSError as error:
            self._stops.discard(path)
            self._problems[display(path)] = f"{display(path)}: cannot make the stop file: {error.strerror or error}"

    def _remove(self, paths: Iterable[bytes]) -> None:
        for path in sorted(paths):
            try:
                if stopfile.remove(path):
                    logger.info("%s: removed", display(path))
                self._stops.discard(path)
            except OSError as error:
                words = f"{display(path)}: cannot remove the stop file: {error.strerror or error}"
                self._problems[display(path)] = words

    # -- what is written and told -------------------------------------------------------------

    def _report(self, spaces: dict[str, Space], filesystems: dict[str, list[StreamSettings]]) -> DisksReport:
        return replace(
            self._empty_report(),
            filesystems=tuple(
                FilesystemReport(
                    mount=mount,
                    level=self._levels[mount].name,
                    hold=self._holds[mount].name.lower(),
                    free=space.free,
                    total=space.total,
                    inodes_free=space.inodes_free,
                    inodes=space.inodes,
                    streams=tuple(stream.name for stream in in_order(filesystems[mount])),
                    stopped=tuple(
                        stream.name for stream in in_order(filesystems[mount]) if os.path.lexists(_stop_file(stream))
                    ),
                )
                for mount, space in spaces.items()
            ),
        )

    def _empty_report(self) -> DisksReport:
        return DisksReport(
            pid=os.getpid(),
            updated=time.time(),
            stops=tuple(sorted(map(os.fsdecode, self._stops))),
            problems=tuple(self._problems.values()),
        )

    def _note(self) -> None:
        """Write down which stop files are about to be made; what was known of the filesystems stays."""
        last = disks.read(self._watch.state_dir)
        report = self._empty_report()
        self._write(replace(report, filesystems=last.filesystems) if last else report, durable=True)

    def _write(self, report: DisksReport, *, durable: bool) -> None:
        try:
            disks.write(self._watch.state_dir, report, durable=durable)
        except OSError as error:
            # The sign of each stop file is enough to find it again.
            self._problems["state"] = f"cannot write the state of the disk guard: {error}"

    def _tell_problems(self) -> None:
        for key, words in self._problems.items():
            if self._told.get(key) != words:
                logger.error("%s", words)
        self._told = dict(self._problems)


def _stop_file(stream: StreamSettings) -> bytes:
    return stopfile.of(delivered_into(stream), stream.stop_file)


def _hold_called(name: str) -> Hold:
    """Given a name that another version may have written, return the hold; none for one that is unknown."""
    return Hold.__members__.get(name.upper(), Hold.NONE)


def _in_words(space: Space) -> str:
    """Given what is left, return it for people."""
    percent = space.inodes_percent
    inodes = "" if percent is None else f", {percent:.1f} % of its inodes"
    return f"{space.free / _MIB:.0f} of {space.total / _MIB:.0f} MiB are free{inodes}"

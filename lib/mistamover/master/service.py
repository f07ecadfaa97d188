"""The master: one process per stream, watched over; the configuration, read again when it changes.

Single-threaded, so that it may fork.  It moves no file and talks to no target.
"""

from __future__ import annotations

import enum
import gc
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from mistamover.config.load import load_lenient
from mistamover.config.settings import Settings, StreamSettings, StreamStatus
from mistamover.errors import ConfigError
from mistamover.master.child import Child, ChildState, Wish
from mistamover.master.fork import ends_well, fork, fork_arrivals, fork_stream, how_it_ended
from mistamover.master.helpers import Helpers
from mistamover.master.notify import notify
from mistamover.report import mastership
from mistamover.report.mastership import MasterReport
from mistamover.stream import process

logger = logging.getLogger(__name__)

#: Restarts that a one-off run grants a stream whose process dies.
_ONE_OFF_RESTARTS = 3

_LONGEST_WAIT = 3600.0

#: By what a change of a file can be seen; that of a file which has to be read in any case.
Mark = tuple[int, ...]
_UNREAD: Mark = (-1,)


class Mode(enum.Enum):
    """How the agent was started."""

    ONE_OFF = "one-off"
    DAEMON = "daemon"
    FOREGROUND = "foreground"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended."""

    stopped: bool
    """Whether a signal ended it."""
    failed: tuple[str, ...]
    """One-off: streams that left something undelivered."""


class Master:
    """Serves a configuration until it is told to stop, or (one-off) every stream has ended."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        mode: Mode,
        tick: Callable[[Settings], float | None] | None = None,
    ) -> None:
        """Given good settings, the environment and the mode, prepare.

        `tick` is called in every round, for showing progress; it returns seconds until it wants to be called again.
        """
        self._settings = settings
        self._environ = environ
        self._mode = mode
        self._tick = tick
        self._children: dict[tuple[str, bool], Child[StreamSettings]] = {}
        """By stream, and whether it is the arrival monitor."""
        self._problems: tuple[str, ...] = ()
        self._stop_signals = 0
        self._reload = False
        self._fingerprint = _fingerprint(settings.sources)
        self._next_look = time.monotonic() + settings.rescan_interval
        self._failed: list[str] = []
        self._report = mastership.this_process(settings.file, mode.value)
        self._written: MasterReport | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._helpers = Helpers(settings, self._fork_helper)

    def run(self) -> Result:
        """Start every stream, watch over them, and return when all have ended."""
        self._hear_signals()
        for stream in self._settings.streams:
            if _runs(stream):
                process.prepare(stream)
        # What is loaded now stays shared with every stream: nothing of it is ever touched by the collector.
        gc.collect()
        gc.freeze()
        self._adopt(self._settings)
        notify("READY=1")
        try:
            while True:
                self._reap()
                self._serve_children()
                self._look_at_configuration()
                done = self._done()
                self._write_report()
                if done:
                    break
                self._wait()
        finally:
            notify("STOPPING=1")
            self._kill_all()
            self._write_report()
        return Result(stopped=self._stop_signals > 0, failed=tuple(self._failed))

    # -- children -----------------------------------------------------------------------------

    def _adopt(self, settings: Settings) -> None:
        """Make the processes agree with the settings, touching only those that are concerned."""
        now = time.monotonic()
        wanted = {(stream.name, False): stream for stream in settings.streams if _runs(stream)}
        # What is to be sent in one pass is there already: nobody has to wait for it, or to be told of it.
        self._helpers.consider(settings, tuple(wanted.values()), now, links_only=self._mode is Mode.ONE_OFF)
        wanted |= {(stream.name, True): stream for stream in settings.streams if _receives(stream)}
        for name, child in list(self._children.items()):
            if name not in wanted and child.state is ChildState.ENDED:
                # Should it be listed again, it is started again.
                del self._children[name]
            elif name not in wanted:
                logger.info("%s: stopping it (removed or stopped in the configuration)", child.label)
                self._stop(child, now)
        for name, stream in wanted.items():
            known = self._children.get(name)
            if known is None or known.gone:
                known = self._children[name] = Child(settings=stream, arrivals=name[1], retry_at=now)
            elif (known.successor or known.settings) != stream:
                logger.info("%s: its configuration has changed: starting it anew", known.label)
                self._stop(known, now, successor=stream)
            known.first_pause = settings.restart_pause
        for stream in settings.streams:
            if not stream.targets and not stream.parts and stream.monitor is None:
                logger.info("stream %s: transfer_protocol = none: nothing to send", stream.name)
        if not wanted and not (settings.jobs is not None and settings.jobs.enabled):
            logger.warning("no stream is to run: name some in [global] data_stream_list of %s", settings.file)
        self._settings = settings

    def _stop(self, child: Child[StreamSettings], now: float, successor: StreamSettings | None = None) -> None:
        if child.stop(now, successor) and child.pid is not None:
            _signal(child.pid, signal.SIGTERM)

    def _serve_children(self) -> None:
        now = time.monotonic()
        self._helpers.tick(now)
        for child in list(self._children.values()):
            wish = child.tick(now)
            if wish is Wish.START and not self._stop_signals and not self._waits_for_parts(child):
                child.started(self._fork(child), now)
            elif wish is Wish.KILL and child.pid is not None:
                logger.error("%s does not stop: killing process %d", child.label, child.pid)
                _signal(child.pid, signal.SIGKILL)

    def _waits_for_parts(self, child: Child[StreamSettings]) -> bool:
        """Whether it removes, in a single pass, what its parts deliver, and they have not ended yet."""
        if self._mode is not Mode.ONE_OFF or child.arrivals:
            return False
        parts = [self._children.get((part.name, False)) for part in child.settings.parts]
        return any(part is not None and part.state is not ChildState.ENDED for part in parts)

    def _fork(self, child: Child[StreamSettings]) -> int:
        start = fork_arrivals if child.arrivals else fork_stream
        return start(
            child.settings,
            one_off=self._mode is Mode.ONE_OFF,
            to_stderr=self._mode is Mode.FOREGROUND or (self._settings.debug and self._mode is Mode.ONE_OFF),
            debug=self._settings.debug,
            close=(self._wake_read, self._wake_write),
        )

    def _fork_helper(self, run: Callable[[], int]) -> int:
        return fork(run, (self._wake_read, self._wake_write))

    def _reap(self) -> None:
        by_pid = {child.pid: child for child in self._children.values() if child.pid is not None}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if (child := by_pid.get(pid)) is not None:
                self._bury(child, code)
            else:
                self._helpers.exited(pid, code, time.monotonic())

    def _bury(self, child: Child[StreamSettings], code: int) -> None:
        stopping = child.state is ChildState.STOPPING
        one_off = self._mode is Mode.ONE_OFF
        well = ends_well(code, one_off=one_off)
        child.exited(how_it_ended(code), well, time.monotonic())
        if one_off and not well and not stopping and child.restarts > _ONE_OFF_RESTARTS:
            child.state = ChildState.ENDED
        if child.state is ChildState.BACKOFF and not stopping:
            pause = child.retry_at - time.monotonic()
            logger.error("%s: its process %s; starting it again in %.3g s", child.label, child.last_exit, pause)
        elif child.state is ChildState.ENDED and one_off and code != 0:
            self._failed.append(child.settings.name)

    # -- configuration ------------------------------------------------------------------------

    def _look_at_configuration(self) -> None:
        """Read the files again when one of them has changed, or when SIGHUP asked for it."""
        if self._stop_signals or self._mode is Mode.ONE_OFF:
            return
        if not self._reload and time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._settings.rescan_interval
        seen = _fingerprint(self._settings.sources)
        if not self._reload and seen == self._fingerprint:
            return
        asked, self._reload = self._reload, False
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            settings, problems = load_lenient(self._settings.file, self._environ, self._settings)
        except ConfigError as error:
            settings, problems = self._settings, error.problems
        self._tell_problems(tuple(map(str, problems)))
        for warning in settings.warnings:
            if warning not in self._settings.warnings:
                logger.warning("%s", warning)
        # As they were before they were read: what changed since is read at the next look, and so is what is new.
        self._fingerprint = {path: seen.get(path, _UNREAD) for path in settings.sources}
        self._adopt(settings)
        if asked:
            for child in self._children.values():
                if child.pid is not None and child.state is not ChildState.STOPPING:
                    _signal(child.pid, signal.SIGHUP)
                child.hurry(time.monotonic())
            self._helpers.hurry(time.monotonic())
        notify("READY=1")

    def _tell_problems(self, problems: tuple[str, ...]) -> None:
        for problem in problems:
            if problem not in self._problems:
                logger.error("%s; the last good configuration stays in force", problem)
        if self._problems and not problems:
            logger.info("the configuration is in order again")
        self._problems = problems

    # -- signals, waiting, ending -------------------------------------------------------------

    def _hear_signals(self) -> None:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            self._stop_signals += 1

        def reload(_signal: int, _frame: FrameType | None) -> None:
            self._reload = True

        def child_ended(_signal: int, _frame: FrameType | None) -> None:
            """The wake-up is all that is wanted: `_reap` asks the kernel who it was."""

        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, reload)
        signal.signal(signal.SIGCHLD, child_ended)

    def _done(self) -> bool:
        """Whether everything has ended; passes a stop on to the streams."""
        if self._stop_signals:
            self._pass_on_stop()
            return self._helpers.at_rest and all(child.pid is None for child in self._children.values())
        if self._mode is Mode.ONE_OFF:
            return all(child.state is ChildState.ENDED for child in self._children.values())
        return False

    def _pass_on_stop(self) -> None:
        now = time.monotonic()
        self._helpers.begin_to_stop(now, at_once=self._stop_signals > 1)
        for child in self._children.values():
            if child.state is not ChildState.STOPPING and child.pid is not None:
                self._stop(child, now)
            elif child.pid is not None and self._stop_signals > 1:
                _signal(child.pid, signal.SIGKILL)

    def _kill_all(self) -> None:
        for child in self._children.values():
            if child.pid is not None:
                _signal(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = None
        self._helpers.stop()

    def _wait(self) -> None:
        now = time.monotonic()
        moments = [
            child.next_moment()
            for child in self._children.values()
            # Nothing is started any more while we stop.
            if not (child.state is ChildState.BACKOFF and (self._stop_signals or self._waits_for_parts(child)))
        ]
        if self._mode is not Mode.ONE_OFF and not self._stop_signals:
            moments.append(self._next_look)
        if self._tick is not None and (pause := self._tick(self._settings)) is not None:
            moments.append(now + pause)
        moments += self._helpers.next_moments()
        due = min((moment for moment in moments if moment is not None), default=now + _LONGEST_WAIT)
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if poll.poll(1000 * min(_LONGEST_WAIT, max(0.0, due - now))):
            os.read(self._wake_read, 65536)

    def _write_report(self) -> None:
        now, wall = time.monotonic(), time.time()
        children = tuple(
            child.report(f"arrivals {name}" if arrivals else name, now, wall)
            for (name, arrivals), child in self._children.items()
        )
        helpers = self._helpers.reports(now, wall)
        report = replace(self._report, problems=self._problems, children=children, helpers=helpers)
        if self._written is not None and _same(report, self._written):
            return
        try:
            mastership.write(self._settings.state_dir, report)
        except OSError as error:
            logger.error("cannot write the master's status: %s", error)
        self._written = report


def _runs(stream: StreamSettings) -> bool:
    return stream.works


def _receives(stream: StreamSettings) -> bool:
    return stream.status is StreamStatus.RUNNING and stream.monitor is not None


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        # It has ended; `_reap` will hear of it.
        return


def _same(one: MasterReport, other: MasterReport) -> bool:
    """Compare without the moving part: a time of retry differs by rounding each time it is computed."""
    return _still(one) == _still(other)


def _still(report: MasterReport) -> MasterReport:
    children, helpers = (
        tuple(replace(each, retry_at=None) for each in reports) for reports in (report.children, report.helpers)
    )
    return replace(report, children=children, helpers=helpers)


def _fingerprint(sources: tuple[Path, ...]) -> dict[Path, Mark]:
    """Given files, return by what a change of each can be seen; nothing for one that is not there."""
    marks: dict[Path, Mark] = {}
    for path in sources:
        try:
            status = path.stat()
            marks[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            marks[path] = ()
    return marks

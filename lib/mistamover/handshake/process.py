"""The process of one arrival monitor: entered after the fork, left with an exit status."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from types import FrameType

from setproctitle import setproctitle

from mistamover.config.settings import MonitorSettings, StreamSettings
from mistamover.errors import LedgerError
from mistamover.files.identity import DirectoryHandles
from mistamover.files.names import display
from mistamover.handshake import tidy
from mistamover.handshake.monitor import Monitor
from mistamover.handshake.receipts import GIVEN, Book
from mistamover.report import arrivals, logs
from mistamover.report.arrivals import ArrivalsReport
from mistamover.report.snapshot import lock
from mistamover.watch.events import Events

logger = logging.getLogger(__name__)

#: Exit statuses, as those of a stream (see `stream.process.Exit`).
_DONE, _LEFT, _BROKEN, _BUSY = 0, 1, 70, 75

#: Seconds between two looks at everything where the system reports what happens, and where it does not.
_RESCAN, _POLL = 60.0, 1.0

#: Seconds before it is tried again when something of the system failed.
_PAUSE = 5.0

#: Files in the snapshot of which it is said what they wait for.
_SHOWN = 20


def run(settings: StreamSettings, *, one_off: bool, to_stderr: bool, debug: bool) -> int:
    """Given a stream's settings with those of its monitor, serve until SIGTERM; return the exit status.

    With `one_off` take what is there, and return 1 if something of it has to wait.
    """
    assert settings.monitor is not None
    setproctitle(f"mistamover: arrivals {settings.name}")
    logs.start(settings.log, f"arrmon_{settings.name}", to_stderr=to_stderr, debug=debug)
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = lock(settings.state_dir / arrivals.LOCK_FILE)
    if handle is None:
        logger.error("arrivals of stream %s are served by another process already", settings.name)
        return _BUSY
    try:
        return _Process(settings, settings.monitor).serve(one_off=one_off)
    except Exception:
        logger.exception("the arrival monitor of stream %s ends because of an error", settings.name)
        return _BROKEN
    finally:
        os.close(handle)
        logging.shutdown()


class _Process:
    def __init__(self, settings: StreamSettings, monitor: MonitorSettings) -> None:
        self._stream = settings
        self._settings = monitor
        for directory in (monitor.directory, settings.directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._root = os.fsencode(monitor.directory)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._events: Events | None = None
        self._next_scan = 0.0
        self._new: set[bytes] = set()
        """Directories that have just come."""
        self._shown: ArrivalsReport | None = None
        self._failed = False
        """Whether the last round came to no end."""
        self._told: set[tuple[bytes, str]] = set()
        """Directories that cannot be served, and why."""
        self._monitor = Monitor(monitor, settings.directory, Book(settings.state_dir / GIVEN))

    def serve(self, *, one_off: bool) -> int:
        self._hear_signals()
        self._listen()
        self._monitor.start()
        logger.info("arrivals for stream %s in %s", self._stream.name, self._settings.directory)
        try:
            while not self._stopping:
                self._take_hints()
                self._do()
                self._show()
                if one_off and not self._monitor.due:
                    return _LEFT if self._monitor.waiting or self._failed else _DONE
                self._wait()
            # What has come until now is not left lying until the next start.
            self._next_scan = 0.0
            self._do()
            self._show()
            return _DONE
        finally:
            if self._events is not None:
                self._events.stop()
            self._monitor.stop()
            logger.info("arrivals for stream %s ended", self._stream.name)

    def _do(self) -> None:
        self._failed = False
        try:
            if time.monotonic() >= self._next_scan:
                self._next_scan = time.monotonic() + (_RESCAN if self._events is not None else _POLL)
                self._new = {b""}
                # Somebody may have taken away what something waits for.
                self._monitor.note(self._monitor.waiting)
            self._scan()
            self._monitor.round(time.time())
        except (LedgerError, OSError) as error:
            self._failed = True
            # The disk may be full: nothing was receipted that is not written down, and all of it is looked at again.
            logger.error("%s; trying again in %g s", error, _PAUSE)
            self._next_scan = time.monotonic() + _PAUSE

    def _listen(self) -> None:
        try:
            self._events = Events(self._root, changes=False, wake=self.wake)
        except OSError as error:
            logger.warning("no events (%s): looking every %g s", error.strerror, _POLL)

    def _take_hints(self) -> None:
        if self._events is None:
            return
        hints = self._events.take()
        if hints.lost:
            self._next_scan = 0.0
        self._monitor.note(hints.names)
        self._new |= hints.directories

    def _scan(self) -> None:
        """Look through what is new: every directory is watched before it is listed; dot-directories are not ours."""
        pending = [name for name in self._new if not name.rpartition(b"/")[2].startswith(b".")]
        self._new = set()
        now = time.time()
        with DirectoryHandles(self._root) as handles:
            while pending:
                name = pending.pop()
                self._watch(name)
                prefix = name + b"/" if name else b""
                try:
                    entries = list(os.scandir(self._root + b"/" + name))
                    if name and not entries:
                        self._monitor.settle_directory(name, os.stat(self._root + b"/" + name), now)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    if not name:
                        raise
                    # One directory that somebody made so must not hide all others.
                    self._tell(name, f"cannot be read ({error.strerror}): nothing in it is taken")
                    continue
                for entry in sorted(entries, key=lambda each: each.name):
                    if entry.is_dir(follow_symlinks=False):
                        if not entry.name.startswith(b"."):
                            pending.append(prefix + entry.name)
                    elif tidy.is_leftover(entry.name):
                        # Between two rounds nothing of ours is half written: a predecessor was killed.
                        tidy.remove(handles, prefix + entry.name)
                    elif entry.name.startswith(b"."):
                        self._monitor.note([prefix + entry.name])
                        self._monitor.expire(handles, prefix + entry.name, now)

    def _watch(self, name: bytes) -> None:
        if self._events is None:
            return
        try:
            self._events.watch(name)
        except OSError as error:
            self._tell(name, f"is not watched ({error.strerror}): looking every {_POLL:g} s")
            self._next_scan = min(self._next_scan, time.monotonic() + _POLL)

    def _tell(self, name: bytes, words: str) -> None:
        """Log once what is wrong with a directory."""
        if (name, words) not in self._told:
            self._told.add((name, words))
            logger.warning("%s %s", display(name[:200]) or ".", words)

    def _wait(self) -> None:
        if self._monitor.due or (self._events is not None and self._events.waiting):
            return
        seconds = max(0.0, self._next_scan - time.monotonic())
        moment = self._monitor.next_moment()
        if moment is not None:
            seconds = min(seconds, max(0.0, moment - time.time()))
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        if poll.poll(1000 * seconds):
            os.read(self._wake_read, 65536)

    def _show(self) -> None:
        waiting = self._monitor.waiting
        first = tuple((display(path), reason) for path, reason in list(waiting.items())[:_SHOWN])
        report = ArrivalsReport(delivered=self._monitor.delivered, waiting=len(waiting), first=first)
        if report != self._shown:
            try:
                arrivals.write(self._stream.state_dir, report)
            except OSError as error:
                logger.error("cannot write the status of arrivals: %s", error)
            self._shown = report

    def wake(self) -> None:
        """End the wait, from any thread or a signal."""
        try:
            os.write(self._wake_write, b".")
        except BlockingIOError:
            return

    def _hear_signals(self) -> None:
        def stop(_signal: int, _frame: FrameType | None) -> None:
            self._stopping = True
            self.wake()

        def hurry(_signal: int, _frame: FrameType | None) -> None:
            self._next_scan = 0.0
            self.wake()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, hurry)

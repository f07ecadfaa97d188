"""The arrival monitor of one stream: what others deliver is checked, put into the stream's directory, and receipted.

A round takes every control file that is due: reads it, measures what it announces, writes down what is about to be
delivered, delivers by rename, flushes, writes the receipts down, and lets them appear.  Killed in between, the next
round does the rest: what was written down and is not there any more was delivered.

An older sender removes its source on *any* receipt.  So it is given none but a good one: it sends again, which
is safe.  What was refused stays where it is.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mistamover.config.settings import MonitorSettings
from mistamover.errors import PeerFileError
from mistamover.files.identity import DirectoryHandles
from mistamover.files.names import display
from mistamover.handshake import giving, messages, tidy
from mistamover.handshake.arrival import Announced, Listed, Measured, measure, read_control, read_small, said_of
from mistamover.handshake.delivery import ChangedMeanwhile, Delivery
from mistamover.handshake.giving import Giving
from mistamover.handshake.messages import Status
from mistamover.handshake.receipts import Book, Entry, Intent

logger = logging.getLogger(__name__)

#: Control files that are taken in one round.
ROUND = 1_000

#: Seconds in which a file that says nothing useful may still be completed; then it is removed.
YOUNG = 10.0

#: Seconds after which it is tried again when something of the system failed.
_AGAIN = 5.0

#: Seconds after which the same file of the same age is taken for another one of the same content, not for a repeat.
_REPEAT = 24 * 3600.0

#: Seconds after which an empty directory is taken for one that was sent for its own sake, or is not needed any more.
_QUIET = 60.0

#: Bytes from which on hashing is worth a thread of its own.
_LARGE = 1 << 20


class Monitor:
    """What one arrival monitor knows; `rounds` tells of names, `look` of all there is."""

    def __init__(self, settings: MonitorSettings, directory: Path, book: Book) -> None:
        """Given what to watch for, the stream's directory and the book of receipts, do nothing yet."""
        self._settings = settings
        self._directory = directory
        self._root = os.fsencode(settings.directory)
        self._control = settings.control_suffix.encode()
        self._thanks = settings.thanks_suffix.encode()
        self._stop_file = os.fsencode(settings.stop_file)
        self._book = book
        self._giving = Giving(book, settings.thanks_suffix)
        self._due: dict[bytes, None] = {}
        """Paths of control and thank-you files to be looked at, oldest first."""
        self._waiting: dict[bytes, bytes] = {}
        """Names of data that control files wait for, and those files."""
        self._awaited: dict[bytes, bytes] = {}
        """The same the other way round."""
        self._later: dict[bytes, float] = {}
        """Paths that are to be looked at again, and when."""
        self._said: dict[bytes, str] = {}
        """What was last complained of, by control file."""
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="hash")
        self.delivered = 0

    @property
    def due(self) -> bool:
        """Whether there is something to do at once."""
        return bool(self._due)

    def next_moment(self) -> float | None:
        """Return when something is to be looked at again (seconds since the epoch); None if only an event can tell."""
        return min(self._later.values(), default=None)

    @property
    def waiting(self) -> dict[bytes, str]:
        """Control files that wait for something, and for what."""
        return dict(self._said)

    def start(self) -> None:
        """Remove what a predecessor left half done. Raise OSError."""
        with Delivery(self._settings.directory, self._directory) as delivery:
            delivery.sweep()

    def stop(self) -> None:
        """Let go of what is held."""
        self._pool.shutdown(cancel_futures=True)
        self._book.close()

    def note(self, names: Iterable[bytes]) -> None:
        """Given names, relative to the incoming directory, that deserve a look, remember those that matter."""
        for name in names:
            if self._is_message(name):
                self._due[name] = None
            elif name in self._waiting:
                self._due[self._waiting[name]] = None

    def round(self, now: float) -> None:
        """Given the time, do what is due, up to a limit. Raise LedgerError if it cannot be written down."""
        for path in [path for path, when in self._later.items() if when <= now]:
            del self._later[path]
            self._due[path] = None
        paths = list(itertools.islice(self._due, ROUND))
        for path in paths:
            del self._due[path]
        with DirectoryHandles(self._root) as handles:
            for path in paths:
                if path.endswith(self._thanks):
                    self._take_thanks(handles, path, now)
            read = [self._read(handles, path, now) for path in paths if path.endswith(self._control)]
            self._take_single(handles, [each for each in read if isinstance(each, Announced)], now)
            for each in read:
                if isinstance(each, Listed):
                    self._take_list(handles, each, now)

    def _take_single(self, handles: DirectoryHandles, announced: Sequence[Announced], now: float) -> None:
        """Take what has a control file of its own; what is not as announced waits."""
        newest = self._book.newest([each.name for each in announced])
        fresh: list[Measured] = []
        old: list[Measured] = []
        bad: list[Measured] = []
        for each in self._measure(handles, announced):
            if each.status is Status.OK:
                (old if _is_repeat(each, newest, now) else fresh).append(each)
            else:
                (old if self._is_known(handles, each, newest, now) else bad).append(each)
        answered = [*self._deliver(fresh, [_intent(each) for each in fresh]), *old]
        _remove_repeats(handles, old)
        self._giving.record(handles, answered, newest, now, [each.announced.name for each in answered])
        for each in answered:
            self._give(handles, each.announced, Status.OK, each.announced.control.size, now)
        for each in bad:
            self._refuse(handles, each, now)

    def _take_list(self, handles: DirectoryHandles, listed: Listed, now: float) -> None:
        """Take what a list announces, and answer all of it at once: its sender has sent the data before."""
        newest = self._book.newest([each.name for each in listed.announced])
        # One note for all of it: what it announces is in the list, which stays until it is answered.
        begun = self._book.intent(listed.path) is not None
        whole = Intent(name=listed.path, size=len(listed.announced), checksum=listed.digest, mtime_ns=0)
        measured = self._measure(handles, listed.announced)
        good = [each for each in measured if each.status is Status.OK]
        old = [each for each in good if _is_repeat(each, newest, now)]
        repeated = {each.announced.name for each in old}
        delivered = self._deliver([each for each in good if each.announced.name not in repeated], [whole])
        _remove_repeats(handles, old)
        missing = [each for each in measured if each.status is Status.NO_SUCH_FILE]
        known = [each for each in missing if self._was_delivered(each.announced, newest, now, begun=begun)]
        self._giving.record(handles, [*delivered, *old, *known], newest, now, [listed.path])
        answered = {each.announced.name for each in (*delivered, *old, *known)}
        wrong = {each.announced.name: each for each in measured if each.status is not Status.OK}
        for name, each in wrong.items():
            if name not in answered:
                logger.warning("%s: %s", display(name), each.words)
        try:
            self._giving.give_list(handles, listed, answered, wrong, now)
        except OSError as error:
            self._fail(listed.path, f"no receipt can be given: {error.strerror or error}")
        else:
            self._forget(listed.path)

    def _give(self, handles: DirectoryHandles, announced: Announced, status: Status, size: int, now: float) -> None:
        try:
            self._giving.give(handles, announced, status, size, now)
        except OSError as error:
            self._fail(announced.path, f"no receipt can be given: {error.strerror or error}")
        else:
            self._forget(announced.path)

    def expire(self, handles: DirectoryHandles, path: bytes, now: float) -> None:
        """Given a dot-file and the time, remove it if it is a receipt that nobody has thanked for in long."""
        try:
            if now - handles.lstat(path).st_mtime > self._settings.receipt_retention:
                giving.read_receipt(handles, path)
                tidy.remove(handles, path)
                logger.info("%s: a receipt that nobody thanked for: removed", display(path))
        except (PeerFileError, OSError):
            # Not a receipt, or gone: not ours to judge.
            return

    def settle_directory(self, name: bytes, status: os.stat_result, now: float) -> None:
        """Given a directory that was found empty, its status and the time, pass it on if it is not used any more."""
        if now - status.st_mtime < _QUIET:
            return
        with Delivery(self._settings.directory, self._directory) as delivery:
            try:
                delivery.deliver_directory(name)
            except OSError as error:
                # Somebody has begun to use it again, or something else has its name.
                logger.debug("%s: an empty directory that stays: %s", display(name), error)

    # -- taking in ----------------------------------------------------------------------------

    def _is_message(self, path: bytes) -> bool:
        last = path.rpartition(b"/")[2]
        return last.startswith(b".") and last.endswith((self._control, self._thanks))

    def _read(self, handles: DirectoryHandles, path: bytes, now: float) -> Announced | Listed | None:
        try:
            found = read_control(handles, path)
            if not self._giving.drop_thanked(handles, found):
                return found
            self._forget(path)
        except FileNotFoundError:
            self._forget(path)
        except PeerFileError as error:
            self._refuse_message(handles, path, str(error), now)
        except OSError as error:
            self._complain(path, f"cannot be read: {error.strerror}")
        return None

    def _take_thanks(self, handles: DirectoryHandles, path: bytes, now: float) -> None:
        """Remove the receipt that a thank-you file names, and the file itself."""
        try:
            content, status = read_small(handles, path)
            self._giving.take_thanks(handles, path, status.st_ctime_ns, messages.parse_thanks(content))
            tidy.remove(handles, path)
            self._forget(path)
        except FileNotFoundError:
            return
        except PeerFileError as error:
            self._refuse_message(handles, path, str(error), now)
        except OSError as error:
            self._complain(path, f"cannot be read: {error.strerror}")

    def _measure(self, handles: DirectoryHandles, announced: Sequence[Announced]) -> list[Measured]:
        """Measure all; large files by several threads."""
        large = {each.path for each in announced if each.control.size >= _LARGE}
        futures = [self._pool.submit(self._measure_large, each) for each in announced if each.path in large]
        small = [self._measured(handles, each) for each in announced if each.path not in large]
        return [each for each in (*small, *(future.result() for future in futures)) if each is not None]

    def _measure_large(self, announced: Announced) -> Measured | None:
        with DirectoryHandles(self._root) as handles:
            return self._measured(handles, announced)

    def _measured(self, handles: DirectoryHandles, announced: Announced) -> Measured | None:
        if self._is_message(announced.name) or announced.control.item == self._stop_file:
            words = "its name is that of a message or of the stop file, and never data"
            return Measured(announced=announced, status=Status.IO_ERROR, words=words)
        try:
            return measure(self._root, handles, announced)
        except OSError as error:
            self._complain(announced.path, f"{display(announced.name)} cannot be read: {error.strerror}")
            return None

    # -- what follows -------------------------------------------------------------------------

    def _is_known(
        self, handles: DirectoryHandles, measured: Measured, newest: Mapping[bytes, Entry], now: float
    ) -> bool:
        """Whether the data are not there because they were delivered already.

        They may as well be on their way: an older sender's control file comes first.  So that is waited for.
        """
        if measured.status is not Status.NO_SUCH_FILE:
            return False
        announced = measured.announced
        intent = self._book.intent(announced.name)
        begun = intent is not None and (intent.size, intent.checksum) == said_of(announced)
        if not self._was_delivered(announced, newest, now, begun=begun):
            return False
        ripe = announced.identity.ctime_ns / 1e9 + YOUNG
        if now < ripe or tidy.is_being_written(handles, announced.name):
            self._later[announced.path] = max(ripe, now + 1.0)
            return False
        return True

    def _was_delivered(self, announced: Announced, newest: Mapping[bytes, Entry], now: float, *, begun: bool) -> bool:
        known = _recent(newest, announced.name, now)
        if known is not None and (known.size, known.checksum) == said_of(announced):
            return True
        if not begun:
            return False
        # It was only intended: the rename may have failed, or may not have survived a loss of power.
        try:
            with Delivery(self._settings.directory, self._directory) as delivery:
                return delivery.has(announced)
        except OSError as error:
            self._complain(announced.path, f"cannot be found delivered: {error.strerror or error}")
            return False

    def _deliver(self, good: Sequence[Measured], intents: Sequence[Intent]) -> list[Measured]:
        """Deliver what is as announced, with a note before; return what is in the stream's directory now, on disk."""
        if not good:
            return []
        self._book.intend(intents)
        delivered = []
        with Delivery(self._settings.directory, self._directory) as delivery:
            for each in good:
                try:
                    delivery.deliver(each)
                except ChangedMeanwhile:
                    self._due[each.announced.path] = None
                except OSError as error:
                    self._fail(each.announced.path, f"cannot be delivered: {error.strerror or error}")
                else:
                    delivered.append(each)
            try:
                delivery.flush()
            except OSError as error:
                logger.error("%s cannot be flushed: %s; no receipt is given", self._directory, error.strerror)
                return []
        self.delivered += len(delivered)
        if delivered:
            logger.info("delivered %d units (%d bytes)", len(delivered), sum(each.size for each in delivered))
        return delivered

    def _refuse(self, handles: DirectoryHandles, measured: Measured, now: float) -> None:
        """Say what is wrong; to a sender that understands it, also by a receipt."""
        announced = measured.announced
        level = logging.DEBUG if measured.status is Status.NO_SUCH_FILE else logging.WARNING
        self._waiting[announced.name] = announced.path
        self._awaited[announced.path] = announced.name
        self._complain(announced.path, f"{display(announced.name)}: {measured.words}", level)
        if not announced.control.checksum.is_plain and measured.status in (Status.BAD_CHECKSUM, Status.BAD_SIZE):
            self._give(handles, announced, measured.status, measured.size, now)

    def _refuse_message(self, handles: DirectoryHandles, path: bytes, words: str, now: float) -> None:
        """A file with the name of a message that is none: its writer gets a moment, then it is removed."""
        try:
            ripe = handles.lstat(path).st_ctime + YOUNG
            if now < ripe:
                self._later[path] = ripe
                self._complain(path, f"refused: {words}; removed when it is {YOUNG:g} s old", logging.DEBUG)
                return
            tidy.remove(handles, path)
        except OSError:
            return
        logger.warning("%s: refused and removed: %s", display(path), words)
        self._forget(path)

    def _fail(self, path: bytes, words: str) -> None:
        self._complain(path, words, logging.ERROR)
        self._later[path] = time.time() + _AGAIN

    def _complain(self, path: bytes, words: str, level: int = logging.WARNING) -> None:
        """Say once what a control file waits for."""
        if self._said.get(path) != words:
            self._said[path] = words
            logger.log(level, "%s: %s", display(path), words)

    def _forget(self, path: bytes) -> None:
        self._said.pop(path, None)
        self._later.pop(path, None)
        name = self._awaited.pop(path, None)
        if name is not None:
            self._waiting.pop(name, None)


def _recent(newest: Mapping[bytes, Entry], name: bytes, now: float) -> Entry | None:
    entry = newest.get(name)
    return entry if entry is not None and now - entry.at < _REPEAT else None


def _remove_repeats(handles: DirectoryHandles, old: Iterable[Measured]) -> None:
    """Remove what was measured and is not wanted a second time; what has come meanwhile stays."""
    for each in old:
        if each.identity is not None:
            tidy.remove_same(handles, each.announced.name, each.identity)


def _is_repeat(measured: Measured, newest: Mapping[bytes, Entry], now: float) -> bool:
    """Whether a sender that has seen no receipt sends what was delivered a while ago: it keeps the time of the file."""
    if measured.tree:
        return False
    entry = _recent(newest, measured.announced.name, now)
    if entry is None or (entry.size, entry.checksum) != said_of(measured.announced):
        return False
    # To the nanosecond: a new file of the same content may follow within the second.
    return entry.mtime_ns == measured.mtime_ns


def _intent(measured: Measured) -> Intent:
    size, checksum = said_of(measured.announced)
    return Intent(name=measured.announced.name, size=size, checksum=checksum, mtime_ns=measured.mtime_ns)

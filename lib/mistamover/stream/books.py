"""What the parts of one stream share: its rules, its roll, its counts, its troubles.  One thread uses it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from mistamover.config.settings import StreamSettings, TransferMode
from mistamover.files.names import display
from mistamover.stream.counts import Counts
from mistamover.stream.decide import Rules
from mistamover.stream.directories import Directories
from mistamover.stream.ledger import Ledger, Release, Trouble
from mistamover.stream.roll import Candidate, Roll


class Books:
    """The books of one stream."""

    def __init__(self, settings: StreamSettings, ledger: Ledger) -> None:
        """Given the stream's settings and its open ledger, open the books with what the ledger remembers."""
        self.settings = settings
        self.root = os.fsencode(settings.directory)
        self.move = settings.mode is TransferMode.MOVE
        self.rules = Rules.of(settings)
        self.ledger = ledger
        self.roll = Roll()
        self.counts = Counts()
        self.directories = Directories(self.root, settings.empty_directory_age)
        self.troubles: dict[bytes, Trouble] = {trouble.name: trouble for trouble in ledger.troubles()}
        self.released = ledger.standing_releases()
        """What lies in the stream's directory and is not sent as it is."""
        self.set_aside: set[bytes] = set()
        """What this process has counted as quarantined and is still there."""
        self.last_error: tuple[str, float] | None = None
        """What went wrong last, and when."""
        self.progress = time.monotonic()
        """When something last happened to a unit."""

    def error(self, text: str) -> None:
        """Given what went wrong, show it as the last error."""
        self.last_error = (text, time.time())

    def moved_on(self) -> None:
        """Take note that something happened to a unit."""
        self.progress = time.monotonic()

    def withdraw(self, candidate: Candidate) -> None:
        """Given a candidate whose owner took it back before it was sent, end it."""
        self.roll.drop(candidate)
        self.counts.ignored += 1
        self.forget_trouble(candidate.name)

    def note_troubles(self, troubles: list[Trouble]) -> None:
        """Given what could not be delivered, remember it here and in the ledger."""
        self.ledger.note_troubles(troubles)
        self.troubles.update((trouble.name, trouble) for trouble in troubles)

    def forget_trouble(self, *names: bytes) -> None:
        """Given names that are no trouble any more, forget what was noted about them."""
        known = [name for name in names if self.troubles.pop(name, None) is not None]
        if known:
            self.ledger.forget_troubles(known)

    def forget_emptied_quarantine(self) -> None:
        """Forget what was moved into quarantine and has been taken out of it since."""
        moved = [trouble for trouble in self.troubles.values() if trouble.moved_to is not None]
        self.forget_trouble(*(t.name for t in moved if t.moved_to and not os.path.lexists(t.moved_to)))

    def end_quarantines(self, names: Sequence[bytes], released: Sequence[Release], cancelled: Sequence[bytes]) -> None:
        """Given names that are in quarantine no more, which of them were released, and names that stay after all,
        record that, and count each once only.
        """
        self.ledger.end_quarantines(names, released, cancelled)
        self.released.update((each.name, each.identity) for each in released if each.identity is not None)
        free = {each.name for each in released}
        for name in names:
            self.troubles.pop(name, None)
            if name in self.set_aside:
                self.set_aside.remove(name)
                self.counts.quarantined -= 1
                if name in free:
                    self.counts.released += 1
                else:
                    self.counts.seen -= 1

    def end_release(self, name: bytes) -> None:
        """Given a name that was released and belongs to something else now, let it be sent again."""
        self.released.pop(name, None)
        self.ledger.end_release(name)

    def place(self, name: bytes) -> str:
        """Given a unit's name, return its path for people."""
        return display(self.root + b"/" + name)

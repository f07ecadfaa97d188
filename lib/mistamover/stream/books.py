"""What the parts of one stream share: its rules, its roll, its counts, its troubles.  One thread uses it."""

from __future__ import annotations

import os
import time
from collections import Counter
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
        noted = ledger.troubles()
        self.troubles: dict[bytes, Trouble] = {trouble.name: trouble for trouble in noted if trouble.moved_to is None}
        """What is to be tried again, or is in quarantine where it is, by its name."""
        self.moved: dict[bytes, Trouble] = {trouble.moved_to: trouble for trouble in noted if trouble.moved_to}
        """What was moved to quarantine, by where it lies; several may have had one name."""
        self.released = ledger.standing_releases()
        """What lies in the stream's directory and is not sent as it is."""
        self.set_aside: Counter[bytes] = Counter()
        """What this process has counted as quarantined and is still there, by name."""
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
        for trouble in troubles:
            if trouble.moved_to:
                self.troubles.pop(trouble.name, None)
                self.moved[trouble.moved_to] = trouble
            else:
                self.troubles[trouble.name] = trouble

    def forget_trouble(self, *names: bytes) -> None:
        """Given names that are no trouble any more, forget what was noted about what has them; quarantine stays."""
        known = [name for name in names if self.troubles.pop(name, None) is not None]
        if known:
            self.ledger.forget_troubles(known)

    def forget_emptied_quarantine(self) -> None:
        """Forget what was moved into quarantine and has been taken out of it since."""
        gone = [place for place in self.moved if not os.path.lexists(place)]
        if gone:
            self.ledger.end_quarantines([self.moved.pop(place) for place in gone])

    def end_quarantines(
        self,
        retried: Sequence[Trouble],
        released: Sequence[tuple[Trouble, Release]] = (),
        sources: Sequence[bytes] = (),
    ) -> None:
        """Given what is put back, what was released, and the sources of plans that are carried out or given up, record
        that, and count each unit once only.
        """
        ended = [*retried, *(trouble for trouble, _ in released)]
        self.ledger.end_quarantines(ended, [release for _, release in released], sources)
        self.released.update((each.name, each.identity) for _, each in released if each.identity is not None)
        for trouble in ended:
            if trouble.moved_to:
                self.moved.pop(trouble.moved_to, None)
            else:
                self.troubles.pop(trouble.name, None)
        self.counts.released += sum(self._counted_no_more(trouble) for trouble, _ in released)
        self.counts.seen -= sum(self._counted_no_more(trouble) for trouble in retried)

    def _counted_no_more(self, trouble: Trouble) -> bool:
        """Take a unit out of the count of the quarantined; return whether it was in it."""
        if not self.set_aside[trouble.name]:
            del self.set_aside[trouble.name]
            return False
        self.set_aside[trouble.name] -= 1
        self.counts.quarantined -= 1
        return True

    def end_release(self, name: bytes) -> None:
        """Given a name that was released and belongs to something else now, let it be sent again."""
        self.released.pop(name, None)
        self.ledger.end_release(name)

    def place(self, name: bytes) -> str:
        """Given a unit's name, return its path for people."""
        return display(self.root + b"/" + name)

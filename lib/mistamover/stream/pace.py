"""How much a batch may hold so that it does not take too long.  Pure: the times are given.

What a target has to do for a batch is expressed in bytes: those of its files, and so many more for every file.
"""

from __future__ import annotations

#: Bounds of a batch.  Larger ones cost less to send, but the hand-over of the last one is waited for by nobody else:
#: at this size one batch is handed over while the next one travels.
BATCH_FILES = 2_500
BATCH_BYTES = 256 * 1024 * 1024

#: What a file costs a target besides its bytes, in bytes that could be sent instead.
COST_OF_A_FILE = 16 * 1024

#: Seconds that a batch should take at the most: so long does a file that comes in wait for a lane on a slow line, and
#: so much is sent again when the connection breaks.
BATCH_SECONDS = 5.0

#: However slow a target is, a batch may cost so much.
LEAST_COST = 1024 * 1024

_MOST_COST = BATCH_BYTES + BATCH_FILES * COST_OF_A_FILE


def cost(files: int, size: int) -> int:
    """Given files and their bytes, return what they cost a target, in bytes."""
    return size + files * COST_OF_A_FILE


class Pace:
    """The pace of one target, and the bound of a batch that follows from it."""

    def __init__(self) -> None:
        """Know nothing of the target yet: its first batch may be as large as any."""
        self.limit = _MOST_COST
        """What the next batch may cost; its last file may exceed it."""

    def learn(self, spent: int, seconds: float) -> None:
        """Given the cost of a batch that was delivered and the seconds that it took, set the bound of the next ones.

        A batch that took too long shrinks the next one at once; others let it grow, to twice its size at the most.
        """
        if seconds > BATCH_SECONDS:
            self.limit = max(LEAST_COST, min(self.limit, int(spent * BATCH_SECONDS / seconds)))
        elif self.limit < _MOST_COST and seconds > 0.0:
            fitting = spent * BATCH_SECONDS / seconds
            self.limit = max(self.limit, int(min(_MOST_COST, 2 * self.limit, fitting)))

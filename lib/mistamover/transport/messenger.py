"""Small files of our own making, to a target and back through a receiver that is there: each takes a millisecond.

Where there is no receiver, or it declines or does not answer, rsync carries them (see `small_files`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

from mistamover.errors import LinkError
from mistamover.transport import receiver
from mistamover.transport.channel import frame
from mistamover.transport.express import Express
from mistamover.transport.small_files import SmallFiles

#: Seconds without any sign of the receiver after which it counts as dead.
_STALLED = 60.0


class ExpressMessenger:
    """See `transport.base.Messenger`."""

    def __init__(self, express: Express, small_files: SmallFiles) -> None:
        """Given the receivers at the target, and the way by rsync, do nothing yet."""
        self._express = express
        self._small_files = small_files

    def put(self, files: Mapping[bytes, bytes]) -> None:
        """See `Messenger.put`."""
        if not files:
            return
        new_hash = getattr(hashlib, self._express.algorithm)
        frames = [
            frame(receiver.PUT, name, size=len(content)) + new_hash(content).digest() + content
            for name, content in files.items()
        ]
        # The last answer tells whether all that went to the directory that has the target's name.
        answers = self._exchange([*frames, frame(receiver.LOOK)], lambda said: len(said) > len(files))
        if answers is None or answers[-1:] == receiver.MOVED:
            answers = b""
        done = {name for name, answer in zip(files, answers, strict=False) if answer == receiver.DONE[0]}
        self._small_files.put({name: content for name, content in files.items() if name not in done})

    def fetch(self, names: Sequence[bytes], longest: int, patience: float) -> dict[bytes, bytes]:
        """See `Messenger.fetch`."""
        if not names:
            return {}
        contents = _Contents(len(names))
        # The last one is waited for: those after it would have to wait as well.
        frames = [frame(receiver.FETCH, name, size=longest) for name in names[:-1]]
        frames.append(frame(receiver.FETCH, names[-1], size=longest, mode=int(1000 * patience)))
        if self._exchange(frames, contents.are_complete) is None:
            return self._small_files.fetch(names, longest, patience)
        return {name: content for name, content in zip(names, contents.found, strict=True) if content is not None}

    def _exchange(self, frames: Sequence[bytes], complete: Callable[[bytearray], bool]) -> bytes | None:
        """Say all frames to a receiver and return its answers; None if there is no receiver, or it does not answer.

        Raise LinkError or TargetError when one that does not answer cannot be kept from acting later.
        """
        try:
            with self._express.borrow() as channel:
                if channel is None:
                    return None
                # Nothing that an earlier batch has opened is taken for what has its name now.
                return channel.exchange(b"".join((frame(receiver.BEGIN), *frames)), complete, _STALLED)
        except (OSError, EOFError, LinkError):
            self._express.withdraw()
            return None


class _Contents:
    """The answers of a receiver that was asked for so many files, as far as they have come."""

    def __init__(self, number: int) -> None:
        self.found: list[bytes | None] = []
        self._number = number
        self._position = 0

    def are_complete(self, said: bytearray) -> bool:
        """Given all that has come, take in what is new of it, and tell whether it is all."""
        while len(self.found) < self._number:
            begin = self._position + receiver.LENGTH.size
            if len(said) < begin:
                return False
            if said[self._position : begin] == receiver.NOTHING:
                self.found.append(None)
                self._position = begin
                continue
            end = begin + receiver.LENGTH.unpack_from(said, self._position)[0]
            if len(said) < end:
                return False
            self.found.append(bytes(said[begin:end]))
            self._position = end
        return True

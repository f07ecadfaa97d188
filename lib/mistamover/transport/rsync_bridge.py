"""The protocol rsync_ssh: by all that the login gives, or by the best way that is left.

Which it is, shows when the connection is opened, and stays so until the stream starts again: a key that is restricted
to rsync runs no shell, so rsync goes alone; where there is no rsync either, or no rsync at all, files go by SFTP.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.model import Batch, Verdict
from mistamover.transport import rsync_ssh
from mistamover.transport.base import Capabilities, Guard, MessagingTransport, Zip
from mistamover.transport.rsync_calls import Command
from mistamover.transport.ssh import NoRsync, NoShell

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

#: How it goes on, in words, and what makes the transport.
Other = tuple[str, Callable[[], MessagingTransport]]


class RsyncBridge:
    """See the module, and `transport.base.MessagingTransport`."""

    def __init__(self, full: MessagingTransport, others: Mapping[type[TargetError], Sequence[Other]]) -> None:
        """Given the transport that uses all, and others to be tried in order when it ends by one of these errors, do
        nothing yet.
        """
        self._now = full
        self._others = others
        self._lock = threading.Lock()
        self._bridged = False

    def open(self) -> Capabilities:
        """See `Transport.open`."""
        return self._do(lambda way: way.open())

    def suspended(self) -> bool:
        """See `Transport.suspended`."""
        return self._do(lambda way: way.suspended())

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `Transport.deliver`."""
        return self._do(lambda way: way.deliver(batch, guard))

    def deliver_unflushed(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `MessagingTransport.deliver_unflushed`."""
        return self._do(lambda way: way.deliver_unflushed(batch, guard))

    def deliver_zip(self, made: Zip, guard: Guard) -> Verdict:
        """See `Transport.deliver_zip`."""
        return self._do(lambda way: way.deliver_zip(made, guard))

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        """See `Transport.remove`."""
        return self._do(lambda way: way.remove(names))

    def put(self, files: Mapping[bytes, bytes]) -> None:
        """See `Messenger.put`."""
        self._do(lambda way: way.put(files))

    def fetch(self, names: Sequence[bytes], longest: int, patience: float) -> dict[bytes, bytes]:
        """See `Messenger.fetch`."""
        return self._do(lambda way: way.fetch(names, longest, patience))

    def probe(self) -> None:
        """See `Transport.probe`."""
        self._do(lambda way: way.probe())

    def abort(self) -> None:
        """See `Transport.abort`."""
        self._now.abort()

    def close(self, *, finished: bool) -> None:
        """See `Transport.close`."""
        self._now.close(finished=finished)

    def _do(self, errand: Callable[[MessagingTransport], _Answer]) -> _Answer:
        way = self._now
        try:
            return errand(way)
        except (NoShell, NoRsync) as refusal:
            if self._bridged and way is self._now:
                raise
            # Nothing can have been sent.
            with self._lock:
                if not self._bridged:
                    self._go_on_without(refusal)
        return errand(self._now)

    def _go_on_without(self, refusal: TargetError) -> None:
        """Take the first other way that can be opened. Raise LinkError, TargetError where there is none."""
        told = [str(refusal)]
        last: LinkError | TargetError = refusal
        for words, make_other in self._others[type(refusal)]:
            other = make_other()
            try:
                found = other.open()
            except (LinkError, TargetError) as error:
                other.close(finished=False)
                told.append(str(error))
                last = error
                continue
            self._now.close(finished=isinstance(refusal, NoRsync))
            self._now, self._bridged = other, True
            logger.warning("%s; going on %s: %s", refusal, words, found.description)
            return
        if isinstance(last, LinkError):
            raise last
        raise TargetError("; ".join(told)) from last


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> RsyncBridge:
    """See `registry.Maker`."""

    # Few streams need one of these, and an idle one is to stay small.
    def rsync_alone() -> MessagingTransport:
        from mistamover.transport.rsync_far import RestrictedKey
        from mistamover.transport.rsync_only import RsyncOnly

        run_dir = stream.state_dir / "run"
        return RsyncOnly(
            source=os.fsencode(stream.directory),
            target=target,
            command=Command.of_ssh(target),
            far=RestrictedKey(target, run_dir, stream.links_dir),
            run_dir=run_dir,
            owner=owner,
        )

    def sftp() -> MessagingTransport:
        from mistamover.transport import sftp_files

        return sftp_files.make(stream, target, owner, because="no rsync there, so ")

    by_rsync, by_sftp = ("by rsync alone", rsync_alone), ("by SFTP", sftp)
    others = {NoShell: (by_rsync, by_sftp), NoRsync: (by_sftp,)}
    return RsyncBridge(rsync_ssh.make(stream, target, owner), others)

"""rsync over ssh where the target has rsync; where it has none, files go by SFTP over the same kind of connection.

Which of both it is, is found out when the target is first reached, and stays so until the stream starts again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.model import Batch, Verdict
from mistamover.transport import rsync_ssh
from mistamover.transport.base import Capabilities, Guard, MessagingTransport, Zip
from mistamover.transport.rsync_ssh import RsyncSsh

logger = logging.getLogger(__name__)


class RsyncOrSftp:
    """One target of one stream; see `MessagingTransport`."""

    def __init__(self, rsync: RsyncSsh, other: Callable[[], MessagingTransport], host: str) -> None:
        """Given the way by rsync, what makes the other one, and the target's name for messages, connect to nothing."""
        self._rsync = rsync
        self._make_other = other
        self._host = host
        self._lock = threading.Lock()
        self._chosen: MessagingTransport | None = None

    def open(self) -> Capabilities:
        """See `Transport.open`."""
        return self._way().open()

    def suspended(self) -> bool:
        """See `Transport.suspended`."""
        return self._way().suspended()

    def deliver(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `Transport.deliver`."""
        return self._way().deliver(batch, guard)

    def deliver_unflushed(self, batch: Batch, guard: Guard) -> list[Verdict]:
        """See `MessagingTransport.deliver_unflushed`."""
        return self._way().deliver_unflushed(batch, guard)

    def deliver_zip(self, made: Zip, guard: Guard) -> Verdict:
        """See `Transport.deliver_zip`."""
        return self._way().deliver_zip(made, guard)

    def remove(self, names: Sequence[bytes]) -> list[bytes]:
        """See `Transport.remove`."""
        return self._way().remove(names)

    def put(self, files: Mapping[bytes, bytes]) -> None:
        """See `Messenger.put`."""
        self._way().put(files)

    def fetch(self, names: Sequence[bytes], longest: int, patience: float) -> dict[bytes, bytes]:
        """See `Messenger.fetch`."""
        return self._way().fetch(names, longest, patience)

    def probe(self) -> None:
        """See `Transport.probe`."""
        self._way().probe()

    def abort(self) -> None:
        """See `Transport.abort`."""
        # Not behind the lock: who chooses may be waiting for an answer.
        (self._chosen or self._rsync).abort()

    def close(self, *, finished: bool) -> None:
        """See `Transport.close`."""
        (self._chosen or self._rsync).close(finished=finished)

    def _way(self) -> MessagingTransport:
        """Return the way to use; find out which it is. Raise LinkError or TargetError."""
        if self._chosen is None:
            with self._lock:
                if self._chosen is None:
                    self._chosen = self._choose()
        return self._chosen

    def _choose(self) -> MessagingTransport:
        if self._rsync.reaches_rsync():
            return self._rsync
        self._rsync.close(finished=True)
        logger.warning("%s has no rsync: files go by SFTP, and each is read back; it is quicker with rsync", self._host)
        return self._make_other()


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> RsyncOrSftp:
    """See `registry.Maker`."""

    def other() -> MessagingTransport:
        # Hardly any stream needs it, and an idle one is to stay small.
        from mistamover.transport import sftp_files

        return sftp_files.make(stream, target, owner, because="no rsync there, so ")

    return RsyncOrSftp(rsync_ssh.make(stream, target, owner), other, target.host)

"""The protocol rsync_ssh: by all that the login gives, or by rsync alone, where it gives nothing else.

Which of the two it is, shows when the connection is opened: a key that is restricted to rsync runs no shell.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mistamover.config.settings import StreamSettings, TargetSettings
from mistamover.errors import LinkError, TargetError
from mistamover.model import Batch, Verdict
from mistamover.transport import rsync_ssh
from mistamover.transport.base import Capabilities, Guard, MessagingTransport, Zip
from mistamover.transport.rsync_calls import Command
from mistamover.transport.ssh import NoShell

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


class RsyncBridge:
    """See the module, and `transport.base.MessagingTransport`."""

    def __init__(self, full: MessagingTransport, only: Callable[[], MessagingTransport]) -> None:
        """Given the transport that uses all, and what makes the one that needs nothing but rsync, do nothing yet."""
        self._now = full
        self._make_only = only
        self._restricted = False

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
        try:
            return errand(self._now)
        except NoShell as refusal:
            if self._restricted:
                raise
            # Nothing can have been sent without a shell.
            self._go_on_without(refusal)
        return errand(self._now)

    def _go_on_without(self, refusal: NoShell) -> None:
        only = self._make_only()
        try:
            found = only.open()
        except LinkError:
            only.close(finished=False)
            raise
        except TargetError as error:
            only.close(finished=False)
            raise TargetError(f"{refusal}; and rsync alone does not get through either: {error}") from error
        self._now.close(finished=False)
        self._now, self._restricted = only, True
        logger.warning("the login gives no shell (%s); going on by rsync alone: %s", refusal, found.description)


def make(stream: StreamSettings, target: TargetSettings, owner: str) -> RsyncBridge:
    """See `registry.Maker`."""

    def only() -> MessagingTransport:
        # Few need it.
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

    return RsyncBridge(rsync_ssh.make(stream, target, owner), only)

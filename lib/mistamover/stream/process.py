"""The process of one stream: entered after the fork, left with an exit status."""

from __future__ import annotations

import enum
import logging
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import cast

from setproctitle import setproctitle

from mistamover.config.settings import HandshakeSettings, StreamSettings, TargetSettings, TransferMode, TransferUnit
from mistamover.files import leases
from mistamover.links.login import Login
from mistamover.report import logs
from mistamover.report.snapshot import LOCK_FILE, lock
from mistamover.stream.decide import Rules
from mistamover.stream.ledger import Ledger
from mistamover.stream.pipeline import Pipeline
from mistamover.transport import registry
from mistamover.transport.base import MessagingTransport, Transport

logger = logging.getLogger(__name__)


class Exit(enum.IntEnum):
    """How the process of a stream ends, for the master."""

    DONE = 0  # stopped in order, or a one-off run delivered everything
    LEFT = 1  # a one-off run left something undelivered
    BROKEN = 70  # an error that should not happen
    BUSY = 75  # another process serves this stream
    COMPLETE = 80  # the completion file was delivered: nothing more to do


def prepare(settings: StreamSettings) -> None:
    """Given a stream's settings, find out before the fork what each stream would find out for itself.

    What is cached then (patterns, modules, the ciphers that ssh knows) is in memory once, not once for each process.
    """
    Rules.of(settings)
    for target in settings.targets:
        registry.maker(target.protocol)
        Login.of(target)


def run(settings: StreamSettings, *, one_off: bool, to_stderr: bool, debug: bool) -> int:
    """Given a stream's settings, serve it until it ends; return an `Exit` as the process's status."""
    return _run(settings, lambda: _serve(settings, one_off=one_off), to_stderr=to_stderr, debug=debug)


def _run(settings: StreamSettings, serve: Callable[[], int], *, to_stderr: bool, debug: bool) -> int:
    setproctitle(f"mistamover: stream {settings.name}")
    logs.start(settings.log, f"dtc_{settings.name}", to_stderr=to_stderr, debug=debug)
    handle = lock(settings.state_dir / LOCK_FILE)
    if handle is None:
        logger.error("stream %s is served by another process already (%s)", settings.name, settings.state_dir)
        return Exit.BUSY
    try:
        return serve()
    except Exception:
        logger.exception("stream %s ends because of an error", settings.name)
        return Exit.BROKEN
    finally:
        os.close(handle)
        logging.shutdown()


def _serve(settings: StreamSettings, *, one_off: bool) -> int:
    settings.directory.mkdir(parents=True, exist_ok=True)
    capacity = leases.raise_descriptor_limit()
    with Ledger(settings.state_dir / "ledger.sqlite") as ledger:
        target = settings.targets[0]
        pipeline = Pipeline(
            settings,
            ledger,
            make_transport(settings, target, ledger.owner),
            lease_capacity=capacity,
            one_off=one_off,
        )
        leases.hear_breaks(pipeline.leases_broken)
        _hear(pipeline.stop, pipeline.hurry)
        logger.info("stream %s: %s %s to %s", settings.name, settings.mode.value, settings.directory, target.host)
        status = pipeline.run()
        logger.info("stream %s ended (%s)", settings.name, "complete" if pipeline.complete else f"status {status}")
        return Exit.COMPLETE if pipeline.complete and status == 0 else status


def run_fan_out(settings: StreamSettings, *, one_off: bool, to_stderr: bool, debug: bool) -> int:
    """Given a stream with several targets, remove what all its parts have delivered; as `run`."""
    from mistamover.stream.fan_out import FanOut  # most agents never need it

    def serve() -> int:
        with Ledger(settings.state_dir / "ledger.sqlite") as ledger:
            fan_out = FanOut(settings, ledger, one_off=one_off)
            _hear(fan_out.stop, fan_out.hurry)
            names = ", ".join(part.name for part in settings.parts)
            logger.info("stream %s: removing what is at every required target (%s)", settings.name, names)
            return fan_out.run()

    return _run(settings, serve, to_stderr=to_stderr, debug=debug)


def make_transport(settings: StreamSettings, target: TargetSettings, owner: str) -> Transport:
    """Given a stream and one of its targets, return the transport that its protocol names."""
    source = os.fsencode(settings.directory)
    transport = registry.make(settings, target, f"{settings.name}.{owner}")
    # Most streams need neither of both, and an idle one is to stay small: so they are imported here.
    if target.handshake is not None:
        # Only protocols that carry messages are configured with a handshake.
        transport = _with_receipts(settings, target, target.handshake, cast("MessagingTransport", transport))
    if settings.unit is not TransferUnit.DIRECTORY:
        return transport
    from mistamover.transport.zipping import Zipping

    return Zipping(
        transport,
        source=source,
        place=settings.state_dir / "zips",
        always=settings.zips,
        mirror=settings.mode is TransferMode.MIRROR,
    )


def _with_receipts(
    settings: StreamSettings, target: TargetSettings, handshake: HandshakeSettings, transport: MessagingTransport
) -> Transport:
    from mistamover.handshake.receipts import TAKEN, Book
    from mistamover.handshake.sender import Receipted

    return Receipted(
        transport,
        source=os.fsencode(settings.directory),
        peer=target.name,
        settings=handshake,
        algorithm=target.hash,
        book=Book(settings.state_dir / TAKEN),
    )


def _hear(stop_now: Callable[[], None], hurry_now: Callable[[], None]) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        stop_now()

    def hurry(_signal: int, _frame: FrameType | None) -> None:
        hurry_now()

    signal.signal(signal.SIGTERM, stop)
    # The terminal sends it to the whole group; the master decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, hurry)

"""What the tests of the commands share: a site with real INI files, ledgers and snapshots, and how to ask it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from mistamover.config.load import load
from mistamover.config.settings import Settings, StreamSettings
from mistamover.model import Confirmed, FaultClass, Identity, Kind, StreamState, Unit
from mistamover.report import snapshot as snapshots
from mistamover.report.snapshot import LOCK_FILE, Snapshot
from mistamover.stream.ledger import Ledger, Trouble
from support import Site


class AskedSite(Site):
    """A site of which commands are asked in this process."""

    def settings(self) -> Settings:
        """Return the settings, from the files as they are now."""
        return load(self.global_ini, {})

    def stream(self, name: str = "one") -> StreamSettings:
        """Return the settings of one stream."""
        stream = self.settings().stream(name)
        assert stream is not None
        return stream

    def ledger(self, name: str = "one") -> Ledger:
        """Return the ledger of a stream, open for writing."""
        return Ledger(self.stream(name).state_dir / "ledger.sqlite")

    def here(self, module: ModuleType, *words: str | os.PathLike[str]) -> int:
        """Given a command's module and words, run it in this process and return its exit status."""
        parser = argparse.ArgumentParser()
        module.configure(parser)
        status: int = module.run(parser.parse_args(["-c", str(self.global_ini), *map(os.fspath, words)]))
        return status

    @contextmanager
    def served(self, name: str = "one", **values: object) -> Iterator[None]:
        """Hold the lock of a stream as its process does, with a snapshot of these values."""
        self.snapshot(name, **values)
        handle = snapshots.lock(self.stream(name).state_dir / LOCK_FILE)
        assert handle is not None
        try:
            yield
        finally:
            os.close(handle)

    def snapshot(self, name: str = "one", **values: object) -> None:
        """Write a snapshot of a stream as its process does; what is not given says that it is idle."""
        state_dir = self.state / "streams" / name
        state_dir.mkdir(parents=True, exist_ok=True)
        given: dict[str, object] = {"state": StreamState.IDLE, "pid": os.getpid(), "updated": time.time(), **values}
        snapshots.write(state_dir, Snapshot(name=name, **given))  # type: ignore[arg-type]


@pytest.fixture
def site(tmp_path: Path) -> AskedSite:
    """A site with one stream, called one."""
    site = AskedSite(tmp_path / "site")
    site.add("one")
    return site


def confirmed(
    name: bytes,
    *,
    size: int = 5,
    digest: str = "ab" * 16,
    kind: Kind = Kind.FILE,
    attempts: int = 0,
    first_seen: float = 1_000_000.0,
    parts: tuple[Confirmed, ...] = (),
) -> Confirmed:
    """Return a unit that a target has confirmed."""
    identity = Identity(1, 2, size, 3, 4)
    unit = Unit(name=name, kind=kind, identity=identity, attempts=attempts, first_seen=first_seen)
    return Confirmed(unit=unit, digest=digest, parts=parts)


def deliver(
    site: AskedSite,
    *items: Confirmed,
    stream: str = "one",
    now: float = 1_000_010.0,
    algorithm: str = "md5",
    target: str | None = None,
    kept: dict[bytes, str] | None = None,
    mirror: bool = False,
) -> None:
    """Record a batch as the stream does, at its own target if none is given: confirmed, then handed over."""
    target = target or site.stream(stream).targets[0].name
    with site.ledger(stream) as ledger:
        batch = ledger.confirm(
            items, target=target, lane="bulk", algorithm=algorithm, started=now - 1, now=now, mirror=mirror
        )
        if not mirror:
            ledger.handed_over(batch, now + 1, kept or {})


def trouble(
    name: bytes,
    *,
    quarantined: bool = False,
    attempts: int = 2,
    reason: str = "permission denied",
    retry_at: float = 0.0,
    identity: Identity | None = None,
    moved_to: bytes | None = None,
) -> Trouble:
    """Return what a ledger notes about a unit that failed."""
    return Trouble(
        name=name,
        target="127.0.0.1",
        quarantined=quarantined,
        attempts=attempts,
        fault=FaultClass.SOURCE,
        reason=reason,
        since=1_000_000.0,
        retry_at=retry_at,
        identity=identity,
        moved_to=moved_to,
    )

"""Carts in the hands of a real worker: killed at any moment, cancelled and deleted while an archive is slow."""

from __future__ import annotations

import os
import signal
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mistamover.jobs import bell
from mistamover.jobs.cart_model import BundleFormat, CartFile, NewCart
from mistamover.jobs.carts.desk import CartDesk
from mistamover.jobs.carts.volume import Volume
from mistamover.jobs.model import ItemState, Job, JobState
from mistamover.testing.archive_interface import Archive, Archived, archive_interface
from support import wait_until
from workers import REQUEST, Shop

CONTENT = os.urandom(1 << 20)


@pytest.fixture
def archive() -> Iterator[Archive]:
    with archive_interface() as made:
        yield made


class CartShop(Shop):
    """A shop with carts, as the configuration of the data cart has it."""

    def __init__(self, directory: Path, archive: Archive) -> None:
        super().__init__(
            directory,
            endpoints={"tape": {"url": archive.url}},
            carts={"archive": "tape", "volume_path": directory / "data" / "carts", "quota": "500MB", "pulls": 2},
        )
        self.carts = CartDesk(self.desk)
        self.volume = Volume(self.jobs.carts.volume)

    def cart(self, uid: str, files: Mapping[str, str], **words: Any) -> Job:
        wanted = [CartFile(id=id, path=path) for id, path in files.items()]
        return self.carts.create(REQUEST, NewCart(uid=uid, files=wanted, **words))[0].job

    def files(self, job: Job) -> dict[str, bytes]:
        top = self.volume.files(job.id)
        return {str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()}

    def done(self, job: Job) -> int:
        return sum(item.state is ItemState.DONE for item in self.store.jobs.items(job.id))


@pytest.fixture
def shop(tmp_path: Path, archive: Archive) -> Iterator[CartShop]:
    made = CartShop(tmp_path, archive)
    yield made
    made.close()


def test_a_worker_that_is_killed_again_and_again_loses_nothing(shop: CartShop, archive: Archive) -> None:
    gate = threading.Event()
    archive.files = {f"f{number}": Archived(b"%d" % number * 40_000) for number in range(40)}
    archive.files["f30"].held = gate
    files = {f"f{number}": f"{number % 3}/f{number}" for number in range(40)}
    job, stored = shop.cart("u", files), shop.cart("s", {"f1": "f1", "slow": "slow"}, stored=True, format="zip")
    large = os.urandom(24 << 20)
    archive.files["slow"] = Archived(large, held=gate)
    # Half-way in a file, with others done already, and others not begun.
    worker = shop.start()
    wait_until(lambda: shop.done(job) >= 30 and shop.done(stored) == 1, 30, "what can be done is done")
    assert archive.entered.wait(20)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(15)
    gets = archive.count("GET")
    gate.set()
    worker = shop.start()
    # In the middle of its bundle.
    shop.until(stored, JobState.PACKAGING)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait(15)
    assert not shop.volume.bundle(stored.id, BundleFormat.ZIP).exists()
    shop.start()
    assert shop.until(job).result == {"files": 40, "bytes": sum(len(archive.files[name].content) for name in files)}
    assert shop.files(job) == {path: archive.files[name].content for name, path in files.items()}
    # What was written down is not had again.
    assert archive.count("GET") - gets <= 24
    shop.until(stored)
    (made,) = shop.volume.cart(stored.id).iterdir()
    with zipfile.ZipFile(made) as bundle:
        assert bundle.read("s/slow") == large


def test_carts_end_while_an_archive_says_nothing(shop: CartShop, archive: Archive) -> None:
    silent = threading.Event()
    archive.files = {name: Archived(CONTENT, held=silent) for name in ("a", "b")}
    archive.files["tape"] = Archived(CONTENT, tape=-1)
    cancelled, deleted = shop.cart("c", {"a": "a", "tape": "t"}), shop.cart("d", {"b": "b"})
    worker = shop.start()
    wait_until(lambda: archive.count("GET") == 2, 30, "both are asked for")
    shop.cancel(cancelled)
    shop.carts.delete(REQUEST.who, "d")
    bell.ring(shop.jobs.directory)
    shop.until(cancelled, JobState.CANCELLED, timeout=15)
    shop.until(deleted, JobState.CANCELLED, timeout=15)
    # Nobody waits for the connections of either, and the next one is done.
    archive.files["c"] = Archived(CONTENT)
    shop.until(shop.cart("n", {"c": "c"}))
    wait_until(lambda: not shop.volume.cart(deleted.id).exists(), 30, "what was deleted is removed")
    assert shop.store.carts.newest("d", owner="anonymous") is None
    # One that waits for tape has no thread, and none is needed to end it.
    waiting = shop.cart("w", {"tape": "t"})
    wait_until(lambda: archive.count("HEAD", "tape") > 1 and shop.job(waiting).state is JobState.QUEUED, 20, "it waits")
    shop.cancel(waiting)
    shop.until(waiting, JobState.CANCELLED, timeout=5)
    # And a worker that is to stop does so, whatever is under way.
    shop.cart("e", {"a": "a"})
    before = archive.count("GET", "a")
    wait_until(lambda: archive.count("GET", "a") > before, 20, "it is asked for again")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(25) == 0

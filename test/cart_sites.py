"""Carts for tests of the front: an archive that is a directory, and what a worker does with a cart, done by hand."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fronts import Answer, Front
from mistamover.config.serving import JobSettings
from mistamover.jobs.cart_model import Cart
from mistamover.jobs.carts.composing import pieces
from mistamover.jobs.carts.members import members_of
from mistamover.jobs.carts.volume import Volume
from mistamover.jobs.model import JobState

#: The time that the archive knows of its files.
TIME = 1_400_000_000

#: What the cart of the documentation holds.
SEED = {"1/2/3/foo.txt": b"foo\n" * 300, "1/2/3/bar.csv": b"a,b\n1,2\n", "2/3/4/baz.ini": b""}


def with_carts(settings: JobSettings, **carts: Any) -> JobSettings:
    """Given the settings of a front, and more of [carts], return them with the endpoint `here` as the archive."""
    return replace(settings, carts=replace(settings.carts, **{"archive": "here", **carts}))


def asked(files: Mapping[str, bytes] | Sequence[str], **more: Any) -> dict[str, Any]:
    """Given paths, return the body of a request for a cart with them; the archive knows them by their last parts."""
    return {
        "fileids": [{"id": path.rpartition("/")[2], "path": path, "hashtype": "md5", "hashsum": ""} for path in files],
        **more,
    }


def posted(front: Front, uid: str, files: Mapping[str, bytes] | Sequence[str] = tuple(SEED), **more: Any) -> Answer:
    """Ask for a cart as the older clients do."""
    return front.ask("POST", f"/cart/{uid}", asked(files, **more))


def newest(front: Front, uid: str) -> Cart:
    """Return the newest cart of a uid, which there has to be."""
    cart = front.store.carts.newest(uid, owner="anonymous")
    assert cart is not None
    return cart


def filled(front: Front, uid: str, files: Mapping[str, bytes] = SEED) -> Cart:
    """Given the uid of a cart that waits, and what the archive has, do with it what a worker does; return it, ready."""
    volume = Volume(front.settings.carts.volume)
    cart = newest(front, uid)
    claim = front.store.claims.claim(cart.job.id, "hand", 60)
    assert claim is not None
    size = sum(map(len, files.values()))
    front.store.carts.reserve(cart.job.id, size, quota=0, unused_since=0.0)
    for item in claim.items:
        assert item.target is not None
        content = files[item.target.path]
        path = volume.file(cart.job.id, item.target.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (TIME, TIME))
        digest = hashlib.new(cart.form.algorithm, content).hexdigest()
        front.store.claims.item_done(
            claim, item.seq, landed=item.target, algorithm=cart.form.algorithm, digest=digest, size=len(content)
        )
    if cart.form.stored:
        front.store.claims.packaging(claim)
        members = members_of(cart, front.store.jobs.items(cart.job.id), volume, cart.uid)
        with volume.bundle(cart.job.id, cart.form.format).open("xb") as bundle:
            bundle.writelines(pieces(cart.form, members))
    front.store.carts.settle(cart.job.id, size)
    assert front.store.claims.finish(claim, JobState.DONE)
    return newest(front, uid)


def failed(front: Front, uid: str, reason: str) -> None:
    """Given the uid of a cart that waits, let it fail."""
    claim = front.store.claims.claim(newest(front, uid).job.id, "hand", 60)
    assert claim is not None
    assert front.store.claims.finish(claim, JobState.FAILED, reason=reason)


def directory_of(front: Front, cart: Cart) -> Path:
    """Return the directory of a cart in the volume."""
    return Volume(front.settings.carts.volume).cart(cart.job.id)

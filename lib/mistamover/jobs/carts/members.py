"""The members of a bundle: the files of a cart, and those that tell what they should be; in their order.

The list of a cart is always the same, so that its bundle is, however often it is made: nothing here knows the time.
The status of each file is looked at; none is read.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from mistamover import __version__
from mistamover.errors import BundleBroken
from mistamover.jobs import paths
from mistamover.jobs.cart_model import BundleLayout, Cart, HeldFile
from mistamover.jobs.carts.volume import Volume
from mistamover.jobs.model import Item

#: Where the files of a bag are below its top.
_DATA: Final = b"data/"

_USUAL: Final = stat.S_IFREG | 0o644

#: What the version of BagIt is, and how its own files are written.
_BAGIT: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a bundle."""

    name: bytes
    """With all directories that it is in; of any bytes but zero."""
    size: int
    mtime: int
    """Whole seconds."""
    mode: int = _USUAL
    path: bytes | None = None
    """Where its bytes are in the volume; None: they are `content`."""
    content: bytes = b""


def members_of(cart: Cart, items: Sequence[Item], volume: Volume, top: str) -> Sequence[Member]:
    """Given a cart, its items, the volume, and the name of the directory that all is below, return its members.

    Raise BundleBroken where a file is not there as it arrived.
    """
    return members_with(cart, [_held(item) for item in items], volume, top)


def members_with(cart: Cart, files: Iterable[HeldFile], volume: Volume, top: str) -> Sequence[Member]:
    """As `members_of`, given what the cart holds."""
    form, above = cart.form, os.fsencode(top) + b"/"
    bag = form.layout is BundleLayout.BAGIT
    place = os.fsencode(volume.files(cart.job.id)) + b"/"
    below = above + _DATA if bag else above
    members, lines = [], []
    for file in files:
        members.append(_file(below + file.path, place + file.path, file))
        lines.append(_bag_line(file) if bag else _line(file))
    if not bag and not form.manifest:
        return members
    when = int(cart.job.ended or cart.job.created)
    manifest = _own(above + manifest_name(form.algorithm).encode(), b"".join(lines), when)
    if not bag:
        return [*members, manifest]
    own = [
        _own(above + b"bagit.txt", _BAGIT, when),
        _own(above + b"bag-info.txt", _bag_info(cart, members, when), when),
        manifest,
    ]
    return [*own, _tag_manifest(own, above, form.algorithm, when), *members]


def manifest_name(algorithm: str) -> str:
    """Given the hash of a manifest, return the name of that."""
    return f"manifest-{algorithm}.txt"


def _held(item: Item) -> HeldFile:
    assert item.target is not None
    return HeldFile(os.fsencode(item.target.path), item.size, item.digest)


def _file(name: bytes, path: bytes, file: HeldFile) -> Member:
    try:
        there = os.lstat(path)
    except OSError as error:
        raise broken(path, error.strerror or "it cannot be looked at") from error
    if not stat.S_ISREG(there.st_mode):
        raise broken(path, "it is no file")
    if file.size is not None and there.st_size != file.size:
        raise broken(path, f"it has {there.st_size} bytes instead of {file.size}")
    return Member(name=name, size=there.st_size, mtime=int(there.st_mtime), path=path)


def broken(path: bytes, why: str) -> BundleBroken:
    """Given a file of the volume and what is wrong with it, return the error."""
    return BundleBroken(f"the bundle cannot be made: the file {paths.shown(os.fsdecode(path))}: {why}")


def _own(name: bytes, content: bytes, when: int) -> Member:
    return Member(name=name, size=len(content), mtime=when, content=content)


def _line(file: HeldFile) -> bytes:
    """Return a line as md5sum(1) and its like read it: one that begins with a backslash has others in its name."""
    shown = file.path.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if shown != file.path else b"") + file.digest.encode() + b"  " + shown + b"\n"


def _bag_line(file: HeldFile) -> bytes:
    """Return a line as RFC 8493 wants it."""
    shown = file.path.replace(b"%", b"%25").replace(b"\n", b"%0A").replace(b"\r", b"%0D")
    return file.digest.encode() + b"  " + _DATA + shown + b"\n"


def _bag_info(cart: Cart, members: Sequence[Member], when: int) -> bytes:
    date = datetime.datetime.fromtimestamp(when, datetime.UTC).date().isoformat()
    oxum = f"{sum(member.size for member in members)}.{len(members)}"
    return (
        f"Bag-Software-Agent: MiStaMover {__version__}\n"
        f"Bagging-Date: {date}\n"
        f"External-Identifier: {cart.uid}\n"
        f"Payload-Oxum: {oxum}\n"
    ).encode()


def _tag_manifest(own: Sequence[Member], above: bytes, algorithm: str, when: int) -> Member:
    lines = []
    for member in own:
        digest = hashlib.new(algorithm, member.content, usedforsecurity=False).hexdigest()
        lines.append(digest.encode() + b"  " + member.name.removeprefix(above) + b"\n")
    return _own(above + f"tagmanifest-{algorithm}.txt".encode(), b"".join(lines), when)
